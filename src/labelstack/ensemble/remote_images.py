"""Images from the web and S3 for callers that are no coroutines, or that run in somebody else's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from labelstack.images.fetching.fetch import Fetcher
from labelstack.images.fetching.status import reason
from labelstack.images.fetching.urls import host_of
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError

_RENEWED_AFTER = 10_000
T = TypeVar("T")


class _Shift:
    """A fetcher and its work; it knows every host it ever met, so it is replaced now and then."""

    def __init__(self, images: ImagesSection) -> None:
        self.fetcher = Fetcher(images, Path())
        self.begun = self.running = 0


class Fetching:
    """One fetcher in a thread of its own, with an event loop of its own; safe to share between threads.

    Parameters
    ----------
    images : ImagesSection
        ``concurrency`` and ``concurrency_per_host`` bound the connections of all callers together.
    """

    def __init__(self, images: ImagesSection) -> None:
        self.images = images
        self._loop = asyncio.new_event_loop()
        self._shift: _Shift | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetching", daemon=True)
        self._thread.start()

    def submit(self, url: str, work: Callable[[bytes], T], workers: Executor, left: float | None = None) -> Future[T]:
        """Fetch an image and do ``work`` on its bytes in ``workers``.

        Parameters
        ----------
        left : float, optional
            Seconds after which the answer is waited for no longer.

        Returns
        -------
        Future
            Raises ``UserError`` that names the host, never the whole URL: that may hold a token.
        """
        return asyncio.run_coroutine_threadsafe(self._fetch(url, work, workers, left), self._loop)

    def stop(self) -> None:
        """Close all connections and end the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            if threading.current_thread() is not self._thread:  # garbage is collected in any thread
                self._thread.join(5)

    async def _fetch(self, url: str, work: Callable[[bytes], T], workers: Executor, left: float | None) -> T:
        host = host_of(url)
        try:
            async with asyncio.timeout(left):
                found = await self._bytes(url)
        except UserError:
            raise
        except TimeoutError:
            raise UserError(f"{host}: no answer in time") from None
        except Exception as error:
            raise UserError(f"{host}: could not be fetched ({type(error).__name__})") from None
        if isinstance(found, str):
            raise UserError(f"{host}: {self._sentence(found, host)}")
        try:
            return await self._loop.run_in_executor(workers, work, found)
        except UserError as error:
            raise UserError(f"{host}: {error}") from None
        except Exception as error:  # parsers of hostile input raise nearly everything
            raise UserError(f"{host}: {reason(error)}") from None

    async def _bytes(self, url: str) -> bytes | str:
        """The image's bytes, or the status with which its fetch ended."""
        shift = self._shift
        if shift is None or shift.begun >= _RENEWED_AFTER:
            old, shift = shift, _Shift(self.images)
            self._shift = shift
            await shift.fetcher.__aenter__()
            if old is not None and not old.running:
                await old.fetcher.__aexit__(None, None, None)
        shift.begun += 1
        shift.running += 1
        try:
            found = await shift.fetcher.fetch([url], bytes)
            return found.status if found.content is None else found.content
        finally:
            shift.running -= 1
            if not shift.running and shift is not self._shift:
                await shift.fetcher.__aexit__(None, None, None)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._shift is not None:
            await self._shift.fetcher.__aexit__(None, None, None)
        self._loop.stop()

    def _sentence(self, status: str, host: str) -> str:
        if status.startswith("http_"):
            code = int(status.removeprefix("http_"))
            known = code in HTTPStatus._value2member_map_
            return f"answered HTTP {code}" + (f" ({HTTPStatus(code).phrase})" if known else "")
        return {
            "timeout": "no answer in time",
            "connection": "the connection failed",
            "missing": "no such image",
            "too_large": f"larger than {self.images.max_bytes} bytes",
            "not_an_image": "not an image that can be read",
            "forbidden": "not allowed: a private address, another scheme, or no valid URL",
        }.get(status, status)
