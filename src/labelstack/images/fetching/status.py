"""How the fetch of an image ended, in one word.

``ok``; ``http_<code>``; ``timeout``; ``connection``; ``not_an_image``; ``damaged`` (an image, but not all of it, or its
decoder warns of its data); ``unsupported`` (an image whose white is not known); ``too_large`` (bytes, pixels, what
decoding takes, or response headers); ``forbidden`` (scheme, host or folder not allowed, or no valid URL); ``missing``
(no such file or S3 key); ``no_url``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PATTERN = re.compile(
    "ok|no_url|not_an_image|damaged|unsupported|timeout|connection|too_large|forbidden|missing|http_[1-5]([0-9]{2}|xx)"
)


class RefusedError(Exception):
    """A URL gave no image; ``status`` says why, ``wait`` is the server's Retry-After in seconds."""

    def __init__(self, status: str, wait: float = 0.0) -> None:
        super().__init__(status)
        self.status = status
        self.wait = wait


def is_pattern(pattern: str) -> bool:
    """Whether this is a status, or a group of statuses as ``http_5xx``."""
    return _PATTERN.fullmatch(pattern) is not None


def matches(status: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns (``timeout``, ``http_404``, ``http_5xx``) takes in this status."""
    return any(status == each or (each.endswith("xx") and status.startswith(each[:-2])) for each in patterns)


def reason(error: Exception) -> str:
    """Why bytes could not be used, in a few words without anything of the input."""
    status = getattr(error, "status", "not_an_image" if isinstance(error, ValueError) else "")
    words = {
        "not_an_image": "not an image that can be read",
        "damaged": "a damaged image: part of it is missing or does not decode",
        "unsupported": "an image whose white is not known (floats beyond 0 … 255, 32 bits, or 12 bits a colour in 16)",
        "too_large": "too large, or too many pixels or scans",
    }
    return words.get(status, f"could not be read ({type(error).__name__})")
