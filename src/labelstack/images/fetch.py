"""Bytes behind image URLs, over http(s), s3 and file, with retries and limits."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx

from labelstack.errors import UserError
from labelstack.images.policy import Policy, host_of
from labelstack.images.status import RefusedError, is_transient
from labelstack.params import Images
from labelstack.storage import s3_client, split_s3_url

MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
USER_AGENT = "Mozilla/5.0 (compatible; labelstack)"
_ABSENT_IN_S3 = frozenset({"NoSuchKey", "NoSuchBucket", "404"})
_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """The one outcome of an image: ``content`` is set exactly when ``status`` is ``ok``."""

    status: str
    content: T | None = None


class Fetcher:
    """Fetches images under one policy; safe to share between threads, keeps connections open.

    Parameters
    ----------
    params : Images
        Timeouts, retries, limits, allowed schemes and hosts.
    root : Path
        Folder that relative ``file:`` URLs start from and that no file URL may leave.
    backoff_s : float
        First pause between attempts in seconds; it doubles with every attempt, with jitter.
    """

    def __init__(self, params: Images, root: Path, *, backoff_s: float = 0.5) -> None:
        self.params = params
        self.policy = Policy(params, root)
        self.backoff_s = backoff_s
        self._random = random.Random()
        self._stopped = threading.Event()
        self._s3: Any = None
        self._s3_lock = threading.Lock()
        for name in ("httpx", "httpcore"):  # they log whole URLs, and a URL may hold a token
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = httpx.Client(
            follow_redirects=False,
            headers={"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=params.concurrency, max_keepalive_connections=params.concurrency),
        )

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """End all pauses between attempts: nobody waits for the images any more."""
        self._stopped.set()

    def fetch_bytes(self, urls: Sequence[str], accept: Callable[[bytes], T]) -> Fetched[T]:
        """Try an image's URLs in order until one gives bytes that ``accept`` takes.

        Parameters
        ----------
        urls : sequence of str
        accept : callable
            Turns the bytes into the result, or raises ``RefusedError``; then the next URL has its turn.

        Returns
        -------
        Fetched
            ``no_url`` without URLs; when all fail, the first transient status, else the first URL's status.
        """
        statuses = []
        for url in urls:
            try:
                return Fetched("ok", self._with_retries(url, accept))
            except RefusedError as refusal:
                _log.debug("%s: %s", host_of(url), refusal.status)
                statuses.append(refusal.status)
        if not statuses:
            return Fetched("no_url")
        return Fetched(next(filter(is_transient, statuses), statuses[0]))

    def _with_retries(self, url: str, accept: Callable[[bytes], T]) -> T:
        for attempt in range(self.params.retries + 1):
            try:
                return accept(self._once(url))
            except RefusedError as refusal:
                if attempt == self.params.retries or not is_transient(refusal.status):
                    raise
                pause = self.backoff_s * 2**attempt * self._random.uniform(0.5, 1.0)
                if self._stopped.wait(min(max(pause, refusal.wait), MAX_WAIT_S)):
                    raise
        raise AssertionError("unreachable")

    def _once(self, url: str) -> bytes:
        scheme = url.partition(":")[0].lower()
        if scheme not in self.policy.schemes:
            raise RefusedError("forbidden")
        if scheme == "file":
            return self._file(url)
        return self._s3_object(url) if scheme == "s3" else self._http(url)

    def _file(self, url: str) -> bytes:
        path = self.policy.local_path(url)
        if path is None:
            raise RefusedError("forbidden")
        try:
            if not path.is_file():
                raise RefusedError("missing")
            with path.open("rb") as file:
                data = file.read(self.params.max_bytes + 1)
        except FileNotFoundError:
            raise RefusedError("missing") from None
        except PermissionError:
            raise RefusedError("forbidden") from None
        except OSError:
            raise RefusedError("connection") from None
        return self._within_limit(data)

    def _within_limit(self, data: bytes) -> bytes:
        if len(data) > self.params.max_bytes:
            raise RefusedError("too_large")
        return data

    def _http(self, url: str) -> bytes:
        deadline = time.monotonic() + self.params.timeout_s
        try:
            here, auth = httpx.URL(url), None
            for _ in range(MAX_REDIRECTS + 1):
                if not self.policy.allows_http(here):
                    raise RefusedError("forbidden")
                if here.userinfo:
                    auth = (here.username, here.password)
                    here = here.copy_with(userinfo=b"")
                answer = self._request(here, auth, deadline)
                if isinstance(answer, bytes):
                    return answer
                status, target = answer
                there = here.join(target)
                if _origin(there) != _origin(here):
                    auth = None
                here = there
            raise RefusedError(status)
        except httpx.TimeoutException:
            raise RefusedError("timeout") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
            raise RefusedError("forbidden") from None
        except httpx.HTTPError:
            raise RefusedError("connection") from None

    def _request(self, url: httpx.URL, auth: tuple[str, str] | None, deadline: float) -> bytes | tuple[str, str]:
        """The body, or status and target of a redirect."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise RefusedError("timeout")
        timeout = httpx.Timeout(left, pool=None)
        with self._client.stream("GET", url, auth=auth, timeout=timeout) as response:
            status = f"http_{response.status_code}"
            if response.is_redirect and "location" in response.headers:
                return status, response.headers["location"]
            if response.status_code != 200:
                raise RefusedError(status, _retry_after(response.headers.get("retry-after", "")))
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length) > self.params.max_bytes:
                raise RefusedError("too_large")
            return self._read(response.iter_bytes(), deadline)

    def _read(self, chunks: Any, deadline: float) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self.params.max_bytes:
                raise RefusedError("too_large")
            if time.monotonic() > deadline:
                raise RefusedError("timeout")
        return bytes(body)

    def _s3_object(self, url: str) -> bytes:
        from botocore import exceptions as aws

        deadline = time.monotonic() + self.params.timeout_s
        try:
            bucket, key = split_s3_url(url)
        except (UserError, ValueError):
            raise RefusedError("forbidden") from None
        with self._s3_lock:
            self._s3 = self._s3 or s3_client(self.params.s3_endpoint_url)
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
            if answer["ContentLength"] > self.params.max_bytes:
                answer["Body"].close()
                raise RefusedError("too_large")
            return self._read(answer["Body"].iter_chunks(65536), deadline)
        except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
            raise UserError(f"{host_of(url)}: {error}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.") from None
        except aws.ClientError as error:
            raise RefusedError(_s3_status(error)) from None
        except (aws.ConnectTimeoutError, aws.ReadTimeoutError):
            raise RefusedError("timeout") from None
        except aws.ParamValidationError:
            raise RefusedError("forbidden") from None
        except aws.BotoCoreError:
            raise RefusedError("connection") from None


def _s3_status(error: Any) -> str:
    if error.response.get("Error", {}).get("Code") in _ABSENT_IN_S3:
        return "missing"
    return f"http_{error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', 500)}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _retry_after(value: str) -> float:
    """Seconds to wait by a Retry-After header, which is a number or a date (RFC 9110, 10.2.3); 0 when unusable."""
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
