"""What a URL of a data set may reach: schemes, hosts, addresses and files below the data set's folder."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote_to_bytes

from labelstack.images.fetching.status import RefusedError
from labelstack.params.images import ImagesSection

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1


class Policy:
    """Decides whether a URL may be fetched.

    Public hosts are always open. Hosts with a private, loopback, link-local or otherwise non-global address are
    closed unless ``images.allow_hosts`` names them as ``host`` or ``host:port``; the list opens such hosts and
    never closes public ones.

    Parameters
    ----------
    params : ImagesSection
        ``allow_schemes`` and ``allow_hosts`` are used.
    root : Path
        The data set's folder; file URLs stay inside it, symbolic links resolved.
    """

    def __init__(self, params: ImagesSection, root: Path) -> None:
        self.schemes = set(params.allow_schemes)
        self.allow_hosts = {entry.strip().lower() for entry in params.allow_hosts}
        self.root = Path(root).resolve()

    def allows(self, host: str, port: int, addresses: Iterable[str]) -> bool:
        """Whether a host that resolves to these addresses may be connected to: all of them must be public."""
        shown = f"[{host}]" if ":" in host else host
        return bool({host, shown, f"{shown}:{port}"} & self.allow_hosts) or all(map(is_global, addresses))

    def local_path(self, url: str, parents: dict[str, str] | None = None) -> Path | None:
        """The file that ``file:`` URL names, relative to the root, or None when it lies outside or is not allowed.

        Escapes stand for bytes, so a name need not be UTF-8.

        Parameters
        ----------
        parents : dict, optional
            Folders that were resolved already, kept there for the next call: many files lie in few folders.

        Raises
        ------
        RefusedError
            ``missing`` when no file can have this name: a NUL byte in it, a loop of links, half a surrogate pair.
        """
        scheme, _, rest = url.partition(":")
        if scheme.lower() != "file" or "file" not in self.schemes:
            return None
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            if host.lower() not in {"", "localhost"} or not slash:
                return None
            rest = "/" + rest
        try:
            path = _resolved(os.path.join(self.root, os.fsdecode(unquote_to_bytes(rest))), parents)
        except (ValueError, OSError, RuntimeError):
            raise RefusedError("missing") from None
        return path if path.is_relative_to(self.root) else None


def _resolved(path: str, parents: dict[str, str] | None) -> Path:
    folder, name = os.path.split(path)
    if parents is None or name in ("", ".", "..") or "\0" in name:
        return Path(path).resolve()
    if (real := parents.get(folder)) is None:
        real = parents[folder] = str(Path(folder).resolve())
    found = os.path.join(real, name)
    return Path(found).resolve() if os.path.islink(found) else Path(found)


def is_global(address: str) -> bool:
    """Whether an IP address, and every IPv4 address inside it, is a public unicast address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return all(each.is_global and not each.is_multicast for each in (parsed, *_inner(parsed)))


def _inner(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64 and the old compatible form."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
