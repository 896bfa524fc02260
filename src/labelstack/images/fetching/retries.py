"""Which answers are asked for again, in the same download or in a later one, and how long to wait before."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 60.0
_TRANSIENT = frozenset({"timeout", "connection", "http_408", "http_425", "http_429"})
_LASTING = frozenset({"ok", "not_an_image", "damaged", "unsupported", "no_url"})


def is_transient(status: str) -> bool:
    """Whether an attempt a little later may end otherwise: timeouts, lost connections, http 408, 425, 429, 5xx."""
    return status in _TRANSIENT or status.startswith("http_5")


def is_lasting(status: str) -> bool:
    """Whether a later download need not ask again; not so for what a changed limit or allow list would open."""
    return status in _LASTING or (status.startswith("http_") and not is_transient(status))


def retry_after(value: str) -> float:
    """Seconds to wait by a Retry-After header, which is a number or a date (RFC 9110, 10.2.3); 0 when unusable."""
    if value.isascii() and value.strip().isdecimal():
        return min(float(value), MAX_WAIT_S)
    try:
        moment = parsedate_to_datetime(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(0.0, (aware - datetime.now(UTC)).total_seconds()), MAX_WAIT_S)
    except (ValueError, OverflowError):
        return 0.0
