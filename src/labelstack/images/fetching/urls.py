"""URLs of web images, taken apart and made fit to send, however they were written."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urljoin, urlsplit

import idna

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]*:[0-9a-f:.]*")
_MAX_HOST = 253  # RFC 1035, 2.3.4, without the final dot
_KEPT = "/%:=&?~+!$,;'@()*[]|"


@dataclass(frozen=True)
class WebUrl:
    """An http or https URL in ASCII; ``auth`` holds its user and password, ``url`` does not."""

    scheme: str
    host: str
    port: int
    url: str
    auth: tuple[str, str] | None = None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials and connections belong to."""
        return self.scheme, self.host, self.port

    def redirected(self, location: str) -> WebUrl:
        """The target of a redirect; credentials go along only within the origin.

        Raises
        ------
        ValueError
            When the target is no valid http or https URL.
        """
        there = parse_url(urljoin(self.url, location))
        return replace(there, auth=self.auth) if there.auth is None and there.origin == self.origin else there


def parse_url(text: str) -> WebUrl:
    """Take an http or https URL apart: the host in IDNA form, spaces and non-ASCII letters escaped, escapes kept.

    Raises
    ------
    ValueError
        When it is none.
    """
    parts = urlsplit(text.strip())
    host = _ascii_host(parts.hostname or "")
    if parts.scheme not in PORTS:
        raise ValueError("neither http nor https")
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError("port 0")
    shown = f"[{host}]" if ":" in host else host
    place = shown if port == PORTS[parts.scheme] else f"{shown}:{port}"
    query = f"?{_escaped(parts.query)}" if parts.query else ""
    auth = None
    if parts.username is not None:
        auth = unquote(parts.username), unquote(parts.password or "")
    return WebUrl(parts.scheme, host, port, f"{parts.scheme}://{place}{_escaped(parts.path) or '/'}{query}", auth)


def host_of(url: str) -> str:
    """The part of a URL that names its server, fit for logs and metrics: no user, password, path or query."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "file":
            return "file"
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(malformed)"
    if not host:
        return "(malformed)"
    return f"s3://{host}" if parts.scheme == "s3" else host + port


def _ascii_host(host: str) -> str:
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()  # idna.IDNAError is a ValueError (UnicodeError)
    host = host.lower()
    if not _HOST.fullmatch(host) or len(host.rstrip(".")) > _MAX_HOST:
        raise ValueError("no valid host")
    return host


def _escaped(text: str) -> str:
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    return quote(text, safe=_KEPT, errors="surrogateescape")
