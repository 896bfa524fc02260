"""What every HTML page here shares: the template environment, safe links, and bytes without unprintable characters."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def environment(filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """Templates of this folder with autoescape; ``web_url`` is a filter always."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"web_url": web_url, **filters}
    return made


def asset(name: str) -> str:
    """A style sheet or script beside the templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """What the content security policy calls a script by: SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def encoded(text: str) -> bytes:
    """A page as UTF-8; characters that no page may hold become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text).encode("utf-8")


def absent(value: Any) -> bool:
    """Whether a number was not computed."""
    return value is None or math.isnan(value)


def web_url(url: str | None) -> str | None:
    """``url`` without user and password if it is a web address, None otherwise (``javascript:`` and the like)."""
    try:
        parts = urlsplit(str(url or "").strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
    except ValueError:
        return None
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
