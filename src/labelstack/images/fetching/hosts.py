"""What is known of each web host during a download: its checked addresses, its free slots, whether it wants a pause."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.status import RefusedError

KNOWN_S = 300.0
_UNREACHABLE_AFTER = 20


@dataclass
class _Host:
    slots: asyncio.Semaphore
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    addresses: list[tuple[int, str]] = field(default_factory=list)
    looked_up: float = 0.0
    not_before: float = 0.0
    failed_connects: int = 0


class Hosts:
    """Names are resolved once, checked against the policy, and connected to at exactly the checked addresses.

    Parameters
    ----------
    policy : Policy
    concurrency : int
        Requests at one time, to all hosts together.
    per_host : int
        Requests at one time to one host.
    """

    def __init__(self, policy: Policy, concurrency: int, per_host: int) -> None:
        self.policy = policy
        self._slots = asyncio.Semaphore(concurrency)
        self._hosts = defaultdict[str, _Host](lambda: _Host(asyncio.Semaphore(per_host)))

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[None]:
        """Wait until the host and the whole download have room for one more request, and the host wants no pause."""
        host = self._hosts[name]
        while True:
            await asyncio.sleep(host.not_before - time.monotonic())
            # In this order a request that waits for a busy host takes no room from the others.
            async with host.slots, self._slots:
                if host.not_before <= time.monotonic():
                    yield
                    return

    async def addresses(self, name: str, port: int) -> list[tuple[int, str]]:
        """Family and address of a host's interfaces.

        Raises
        ------
        RefusedError
            ``forbidden`` when the policy closes one of them, ``connection`` when the name is not known.
        """
        host = self._hosts[name]
        async with host.lock:
            if time.monotonic() - host.looked_up > KNOWN_S or not host.addresses:
                host.addresses = await _look_up(name)
                host.looked_up = time.monotonic()
        if not self.policy.allows(name, port, [address for _, address in host.addresses]):
            raise RefusedError("forbidden")
        return host.addresses

    def pause(self, name: str, seconds: float) -> None:
        """Send the host nothing for so long: it asked for it."""
        host = self._hosts[name]
        host.not_before = max(host.not_before, time.monotonic() + seconds)

    def connected(self, name: str, success: bool) -> None:
        """Note whether a connection came about."""
        host = self._hosts[name]
        host.failed_connects = 0 if success else host.failed_connects + 1

    def unreachable(self, name: str) -> bool:
        """Whether so many connections in a row failed that it is no use to try each image more than once."""
        return self._hosts[name].failed_connects >= _UNREACHABLE_AFTER


class CheckedResolver(AbstractResolver):
    """Gives aiohttp the checked addresses and no others, so that nothing can change between check and connection."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a host, each with the port."""
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=flags)
            for kind, address in await self.hosts.addresses(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held open."""


async def _look_up(name: str) -> list[tuple[int, str]]:
    try:
        found: list[Any] = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RefusedError("connection") from None
    return list(dict.fromkeys((int(entry[0]), str(entry[4][0])) for entry in found))
