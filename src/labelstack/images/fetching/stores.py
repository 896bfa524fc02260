"""Bytes behind ``file:`` and ``s3:`` URLs; these calls block, so they belong into threads."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterable
from typing import Any

from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.status import RefusedError
from labelstack.images.fetching.urls import host_of
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError
from labelstack.support.storage import s3_client, split_s3_url

_NO_FILE = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.EILSEQ})
_ABSENT_IN_S3 = frozenset({"NoSuchKey", "NoSuchBucket", "404"})


class Stores:
    """Reads local files and S3 objects within the limits of ``images``; safe to share between threads."""

    def __init__(self, params: ImagesSection, policy: Policy) -> None:
        self.params = params
        self.policy = policy
        self._s3: Any = None
        self._lock = threading.Lock()

    def file(self, url: str) -> bytes:
        """A local file's bytes; raise ``RefusedError`` when it is absent, too large or outside the root."""
        path = self.policy.local_path(url.strip())
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
        except OSError as error:
            raise RefusedError("missing" if error.errno in _NO_FILE else "connection") from None
        if len(data) > self.params.max_bytes:
            raise RefusedError("too_large")
        return data

    def s3_object(self, url: str) -> bytes:
        """An S3 object's bytes; raise ``RefusedError`` like ``file``, and ``UserError`` without credentials."""
        from botocore import exceptions as aws

        deadline = time.monotonic() + self.params.timeout_s
        try:
            bucket, key = split_s3_url(url)
        except (UserError, ValueError):
            raise RefusedError("forbidden") from None
        with self._lock:
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

    def _read(self, chunks: Iterable[bytes], deadline: float) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self.params.max_bytes:
                raise RefusedError("too_large")
            if time.monotonic() > deadline:
                raise RefusedError("timeout")
        return bytes(body)


def _s3_status(error: Any) -> str:
    if error.response.get("Error", {}).get("Code") in _ABSENT_IN_S3:
        return "missing"
    return f"http_{error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', 500)}"
