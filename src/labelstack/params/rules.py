"""What the texts in params.yaml must be like: one line, an address, a host, a path."""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

# The end of a line, and everything else that does not show; DVC, git and MLflow each treat these differently.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_MAX_PART = 255  # bytes of a name in all usual file systems
_MAX_PORT = 65535


def line(value: str) -> str:
    """One line of visible text, without space at its ends."""
    if not value.strip():
        raise ValueError("must not be empty")
    if _UNPRINTABLE.search(value):
        raise ValueError(f"must be one line without control characters, not {value!r}")
    if value != value.strip():
        raise ValueError(f"must not begin or end with a space, and {value!r} does")
    return value


def folder(value: str) -> str:
    """The path of a folder or file on this machine."""
    if "://" in value or value.startswith("~"):
        raise ValueError(f"must be a path on this machine, written out (no URL, no ~), not {value!r}")
    for part in value.split("/"):
        if len(part.encode()) > _MAX_PART:
            raise ValueError(f"holds a name of {len(part.encode())} bytes; file systems take at most {_MAX_PART}")
    return value


def inside(value: str) -> str:
    """The path of a folder below the project: DVC takes no outputs from elsewhere."""
    parts = PurePosixPath(value).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"must be a folder below that of dvc.yaml, such as submission, not {value!r}")
    if hidden := next((part for part in parts if part.startswith(".")), None):
        raise ValueError(f"must be a folder that shows, and {hidden!r} begins with a dot")
    return value


def port_of(text: str) -> int:
    """A port's number; raise ``ValueError`` when there is no such port."""
    if not re.fullmatch("[1-9][0-9]{0,4}", text) or int(text) > _MAX_PORT:
        raise ValueError(f"a port is a number from 1 to {_MAX_PORT}, not {text!r}")
    return int(text)


def http_address(value: str) -> str:
    """``http(s)://host[:port]``, perhaps with a path."""
    try:
        parts = urlsplit(value)
        good = (
            parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and (parts.port is None or parts.port)
        )
    except ValueError:  # brackets without an address in them, or a port that is none
        good = False
    if not good or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(f"must be http(s)://host or http(s)://host:port, not {value!r}")
    return value


def host(value: str) -> str:
    """``host`` or ``host:port``, as ``images.allow_hosts`` compares them with the hosts of URLs."""
    if "://" in value:
        found = re.sub(r"^.*?://", "", value).partition("/")[0]
        raise ValueError(f"must be host or host:port without scheme and path{f', such as {found}' if found else ''}")
    if "/" in value:
        raise ValueError(f"must be host or host:port, not a path or a network ({value!r})")
    if "*" in value:
        raise ValueError(f"has no wildcards: each host stands for itself ({value!r})")
    if not value.isascii():
        raise ValueError(f"must be in ASCII, as DNS has it (xn--…), not {value!r}")
    if _is_address(value):
        return value
    name, colon, port = value.rpartition(":") if re.search(r":[^\]]*$", value) else (value, "", "")
    if colon:
        port_of(port)
    if not (_is_host(name) if not name.startswith("[") else name.endswith("]") and _is_address(name[1:-1])):
        raise ValueError(f"must be host or host:port, not {value!r}")
    return value


def _is_host(name: str) -> bool:
    return _HOST.fullmatch(name) is not None or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Line = Annotated[str, AfterValidator(line)]
Folder = Annotated[Line, AfterValidator(folder)]
HttpAddress = Annotated[Line, AfterValidator(http_address)]
Host = Annotated[Line, AfterValidator(host)]
