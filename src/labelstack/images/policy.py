"""What a URL of a data set may reach: schemes, hosts and files below the data set's folder."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from labelstack.params import Images

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")


class Policy:
    """Decides whether a URL may be fetched.

    Public hosts are always open. Hosts with a private, loopback, link-local or otherwise non-global address are
    closed unless ``images.allow_hosts`` names them as ``host`` or ``host:port``; the list opens such hosts and
    never closes public ones.

    Parameters
    ----------
    params : Images
        ``allow_schemes`` and ``allow_hosts`` are used.
    root : Path
        The data set's folder; file URLs stay inside it, symbolic links resolved.
    """

    def __init__(self, params: Images, root: Path) -> None:
        self.schemes = set(params.allow_schemes)
        self.allow_hosts = {entry.strip().lower() for entry in params.allow_hosts}
        self.root = Path(root).resolve()
        self._public: dict[str, bool] = {}
        self._lock = threading.Lock()

    def allows_http(self, url: httpx.URL) -> bool:
        """Whether this http(s) URL, or hop of a redirect, may be requested."""
        host = url.raw_host.decode("ascii").lower()
        if url.scheme not in self.schemes or url.scheme not in _PORTS or not _HOST.fullmatch(host):
            return False
        if not 0 < (url.port or _PORTS[url.scheme]) < 65536:
            return False
        shown = f"[{host}]" if ":" in host else host
        names = {host, shown, f"{shown}:{url.port or _PORTS[url.scheme]}"}
        return bool(names & self.allow_hosts) or self._is_public(host)

    def local_path(self, url: str) -> Path | None:
        """The file that ``file:`` URL names, relative to the root, or None when it lies outside or is not allowed."""
        scheme, _, rest = url.partition(":")
        if scheme.lower() != "file" or "file" not in self.schemes:
            return None
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            if host.lower() not in {"", "localhost"} or not slash:
                return None
            rest = "/" + rest
        try:
            path = (self.root / unquote(rest)).resolve()
        except (ValueError, OSError, RuntimeError):  # a NUL byte, a name too long, a loop of links
            return None
        return path if path.is_relative_to(self.root) else None

    def _is_public(self, host: str) -> bool:
        with self._lock:
            if host in self._public:
                return self._public[host]
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            public = all(_is_global(str(entry[4][0])) for entry in found)
        except UnicodeError:
            public = False
        except OSError:
            return True  # no such name here: the request itself will fail, or a configured proxy knows it
        with self._lock:
            self._public[host] = public
        return public


def _is_global(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    return parsed.is_global and not parsed.is_multicast


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
