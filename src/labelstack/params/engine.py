"""The section of params.yaml that says where tasks run: here, or on an existing cluster."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from labelstack.params.rules import HttpAddress, Line, port_of
from labelstack.params.section import Section


class EngineSection(Section):
    """Local, or an existing Dask cluster; no result depends on it."""

    scheduler: Line | None = None
    workspace: Line | None = None
    s3_endpoint_url: HttpAddress | None = None
    timeout_s: float = Field(10, gt=0, le=3600)
    retries: int = Field(2, ge=0, le=100)

    @field_validator("scheduler")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = re.fullmatch(r"(tcp|tls)://[^\s/]+:([^:\s/]+)", value)
        if not found:
            raise ValueError(f"must be tcp://host:port or tls://host:port, or null for this machine, not {value!r}")
        port_of(found[2])
        return value

    @field_validator("workspace")
    @classmethod
    def _shared(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/") and not re.fullmatch(r"s3://[^/\s]+/\S+", value):
            raise ValueError(
                f"must be the folder of dvc.yaml as the workers see it (an absolute path), or s3://bucket/prefix, "
                f"or null for the same path as here, not {value!r}"
            )
        return value
