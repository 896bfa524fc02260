"""The section of params.yaml for MLflow, checked by MLflow's rules so that no run is lost to a name."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from labelstack.params.rules import Line, http_address
from labelstack.params.section import Section

DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# Places for artifacts that MLflow knows; those other than s3 and file want packages of their own.
ARTIFACT_SCHEMES = ("s3", "file", "gs", "wasbs", "abfss", "r2", "b2", "hdfs", "viewfs", "dbfs", "ftp", "sftp")
_MAX_EXPERIMENT, _MAX_MODEL = 500, 256


class TrackingSection(Section):
    """MLflow."""

    uri: Line = "sqlite:///mlflow.db"
    experiment: Line = Field("labelstack", max_length=_MAX_EXPERIMENT)
    registered_model: Line = Field("labelstack", max_length=_MAX_MODEL)
    artifacts: Line | None = None
    probe_images: int = Field(64, ge=1, le=100_000)
    alone: list[str] = []

    @field_validator("uri")
    @classmethod
    def _store(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        scheme = scheme.lower()
        if scheme in ("http", "https"):
            return http_address(value)
        if scheme == "sqlite" and value.startswith("sqlite:///") and rest.strip("/") not in {"", ":memory:"}:
            return value
        if separator and rest and scheme.partition("+")[0] in DATABASES:
            return value
        raise ValueError(
            f"must be sqlite:///<file>, http(s)://<server> or a database's URI ({', '.join(DATABASES)}), not {value!r}"
        )

    @field_validator("registered_model")
    @classmethod
    def _reachable(cls, value: str) -> str:
        # MLflow takes neither / nor : nor . nor a leading ..; with @ a version could not be named on a command line.
        if re.search("[/:@]", value) or value == "." or value.startswith(".."):
            raise ValueError(f"must be a name without / : and @ that does not begin with .., not {value!r}")
        return value

    @field_validator("artifacts")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", value or "")
        if value is None or scheme is None:  # a folder
            return value
        parts = urlsplit(value)
        if scheme[1] not in ARTIFACT_SCHEMES or "://" not in value or not parts.netloc + parts.path.strip("/"):
            raise ValueError(f"must be s3://bucket/prefix, another URI that MLflow knows, or a folder, not {value!r}")
        if scheme[1] == "s3" and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", value):
            raise ValueError(f"must name a bucket, as s3://bucket/prefix, not {value!r}")
        return value
