"""Put, get, upload in parts and delete an object below a prefix of a bucket: what DVC will do there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from labelstack.s3.findings import DENIED, Findings, code, reason, short

_READS = 4
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404"})


class Probe:
    """An object with random bytes under a random name, removed at the end.

    Parameters
    ----------
    s3, without_checksums : boto3 clients
        The second one sends no checksum headers; it is tried where the first one is refused.
    findings : Findings
        Takes the checks.
    listed : bool
        Whether the prefix can be listed: S3 says that an object is absent only to those who may list.
    """

    def __init__(self, s3: Any, without_checksums: Any, findings: Findings, listed: bool) -> None:
        self.s3, self.without_checksums, self.findings, self.listed = s3, without_checksums, findings, listed
        self.bucket = findings.place.bucket
        self.key = findings.place.key(f".labelstack-probe-{secrets.token_hex(8)}")
        self.content = os.urandom(1000)
        self.put: list[str] = []

    def run(self) -> None:
        """All checks; the objects go in any case, unless deleting is what is denied."""
        self.objects()
        self.parts()
        self.removal()

    def objects(self) -> None:
        """Put a small object and get the same bytes back."""
        if self._try("put", "s3:PutObject", self._put):
            self.findings.found("put", self.key)
            data = self._try("get", "s3:GetObject", self._get)
            if data is not None and data != self.content:
                self.findings.missing("get", "the object came back with other bytes")
            elif data is not None:
                self.findings.found("get", f"{len(data):,} bytes, the same")
        elif self.listed and self._try("get", "s3:GetObject", self._get, absent=True):
            self.findings.found("get", "allowed")
        elif not self.listed:
            self.findings.untested("get", "there is no object to get", "s3:GetObject")

    def parts(self) -> None:
        """Upload an object in parts, as DVC does above 100 MB, and give another such upload up."""
        key = f"{self.key}-parts"
        if not self.put:
            if self._try("parts", "s3:AbortMultipartUpload", lambda: self._abort(key, "0" * 32), absent=True):
                self.findings.untested("parts", "nothing could be put")
            return
        if not self._try("parts", "s3:PutObject", lambda: self._complete(key, self._begin(key))):
            return
        upload = self._try("parts", "s3:PutObject", lambda: self._begin(key))
        if upload and self._try("parts", "s3:AbortMultipartUpload", lambda: self._abort(key, upload), absent=True):
            self.findings.found("parts", "uploaded; another upload given up")
        elif upload:  # one that cannot be given up costs money until it is completed
            self._try("parts", "s3:PutObject", lambda: self._complete(key, upload))

    def removal(self) -> None:
        """Delete the probe objects; try it on an absent one where there are none, which S3 allows."""
        left = list(self.put or [self.key])
        while left and self._try("delete", "s3:DeleteObject", partial(self._delete, left[0])):
            left.pop(0)
        if not left:
            self.findings.found("delete", "the probe is gone" if self.put else "allowed")
        elif self.put:
            last = self.findings.checks.pop()
            self.findings.missing("delete", f"{last.text}; left there: {', '.join(left)}")

    def _put(self) -> bool:
        self.s3.put_object(Bucket=self.bucket, Key=self.key, Body=self.content)
        self.put.append(self.key)
        return True

    def _get(self) -> bytes:
        from botocore.exceptions import BotoCoreError

        for attempt in range(_READS):  # botocore repeats a request, not the reading of its answer
            body = self.s3.get_object(Bucket=self.bucket, Key=self.key)["Body"]
            try:
                data: bytes = body.read()
                return data
            except BotoCoreError:
                if attempt == _READS - 1:
                    raise
        raise AssertionError("unreachable")

    def _begin(self, key: str) -> str:
        upload: str = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        return upload

    def _complete(self, key: str, upload: str) -> bool:
        from botocore.exceptions import ClientError

        target = {"Bucket": self.bucket, "Key": key, "UploadId": upload}
        tag = self.s3.upload_part(**target, PartNumber=1, Body=self.content)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
        try:
            self.s3.complete_multipart_upload(**target, MultipartUpload=parts)
        except ClientError as error:  # asked again after a lost answer, some servers know the upload no more
            if code(error) not in _ABSENT or not self._stored(key):
                raise
        if key not in self.put:
            self.put.append(key)
        return True

    def _stored(self, key: str) -> bool:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        return [(item["Key"], item["Size"]) for item in listed] == [(key, len(self.content))]

    def _abort(self, key: str, upload: str) -> bool:
        self.s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        return True

    def _delete(self, key: str) -> bool:
        self.s3.delete_object(Bucket=self.bucket, Key=key)
        return True

    def _called(self, call: Callable[[], Any]) -> Any:
        """What a call returns, at the second try without checksum headers.

        Servers refuse these in many ways (NotImplemented, InvalidArgument, XAmzContentSHA256Mismatch, InvalidDigest, a
        signature that does not match …), so it is tried whatever else than access or an absent object is the trouble.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except ClientError as refusal:
            status = refusal.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            others = code(refusal) in DENIED | _ABSENT or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED)
            if others or self.findings.without_checksums:
                raise
            before, self.s3 = self.s3, self.without_checksums
            try:
                result = call()
            except (ClientError, BotoCoreError):
                self.s3 = before
                raise refusal from None
            self.findings.without_checksums = True
            self.findings.found("checksums", f"left out, as the server refuses them ({reason(refusal)})")
            return result

    def _try(self, name: str, action: str, call: Callable[[], Any], absent: bool = False) -> Any:
        """What a call returns, or None with the reason among the checks; with ``absent``, not to be there is fine."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._called(call)
        except ClientError as error:
            if absent and code(error) in _ABSENT:
                return True
            if code(error) in DENIED:
                self.findings.refused(name, action)
            else:
                self.findings.missing(name, reason(error))
        except BotoCoreError as error:
            self.findings.missing(name, short(error))
        return None
