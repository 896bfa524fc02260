"""Whether a place in S3 can be used: found out by doing there what DVC does."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from labelstack.s3.place import ABORT, DELETE, GET, LIST, MAKING, PUT, Place, policy
from labelstack.support.storage import WITHOUT_CHECKSUMS

DEFAULT_REGION = "us-east-1"
_TRIES = 4
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_BAD_KEYS = {
    "InvalidAccessKeyId": "the server does not know this access key id",
    "SignatureDoesNotMatch": "the secret does not belong to this access key id",
    "ExpiredToken": "the session token has expired: get new credentials",
    "InvalidToken": "the session token is not valid: get new credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, then try again",
}
_SOURCES = {
    "env": "from the environment",
    "shared-credentials-file": "from the AWS credentials file",
    "config-file": "from the AWS configuration file",
    "explicit": "from .dvc/config.local",
}


@dataclass
class Findings:
    """All that was found out about a place.

    Attributes
    ----------
    place : Place
        With the region that is to be used.
    checks : dict
        For each thing that was tried, in order, whether it is all right, and what was found or is missing.
    denied : set of str
        IAM actions that were refused.
    credentials : botocore's frozen credentials, or None
    source : str
        Where the credentials come from, in botocore's words.
    partition : str
        The part of AWS that the region belongs to, for ARNs.
    without_checksums : bool
        Whether the server refuses requests with checksum headers, and takes them without.
    """

    place: Place
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    credentials: Any = None
    source: str = ""
    partition: str = "aws"
    without_checksums: bool = False

    @property
    def problems(self) -> list[str]:
        """A sentence for each check that failed."""
        return [f"{name}: {text}" for name, (good, text) in self.checks.items() if not good]

    def policy(self) -> dict[str, Any] | None:
        """The IAM policy that would grant what was refused, or None when nothing was."""
        return policy(self.place, self.denied, self.partition) if self.denied else None

    def note(self, name: str, good: bool, text: str) -> bool:
        """Note a check; return whether it is all right."""
        self.checks[name] = (good, text)
        return good

    def tried(self, name: str, action: str, call: Callable[[], Any], text: str) -> bool:
        """Note whether a request is answered, and the permission that it lacks; what is not there could be had."""
        try:
            call()
        except (BotoCoreError, ClientError) as error:
            if _code(error) in _DENIED:
                self.denied.add(action)
                return self.note(name, False, f"access denied ({action})")
            if _code(error) not in _ABSENT:
                return self.note(name, False, _reason(error))
        return self.note(name, True, text)


def inspect(place: Place, create: bool = False, saved: dict[str, str] | None = None) -> Findings:
    """Check a place as DVC will use it, by doing it: put, get, upload in parts and delete a probe object.

    Parameters
    ----------
    place : Place
    create : bool
        Make the bucket when there is none.
    saved : mapping
        ``access_key_id``, ``secret_access_key``, ``session_token`` of the remote, which go before all others.

    Returns
    -------
    Findings
        Nothing is raised for what is wrong with the place; the probe objects are removed again.
    """
    found = Findings(place)
    try:
        session = _session(found, saved or {})
        if session and _bucket(found, session, create):
            _objects(found, session)
    except (BotoCoreError, ClientError) as error:
        found.note("server", False, f"{_where(place)} does not answer as an S3 server: {_reason(error)}")
    return found


def masked(access_key_id: str) -> str:
    """An access key id that can be told from others, but not used."""
    return f"{access_key_id[:4]}…{access_key_id[-4:]}" if len(access_key_id) >= 16 else f"{access_key_id[:2]}…"


def _session(found: Findings, saved: dict[str, str]) -> boto3.Session | None:
    profile, keys = found.place.profile, {f"aws_{name}": value for name, value in saved.items()}
    try:
        session = boto3.Session(profile_name=profile, **keys)  # type: ignore[arg-type]
        credentials = session.get_credentials()
        found.credentials = credentials and credentials.get_frozen_credentials()
    except BotoCoreError as error:
        found.note("credentials", False, _reason(error))
        return None
    if credentials is None or not found.credentials:
        what = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill ~/.aws/credentials (--profile)"
        found.note("credentials", False, f"none found: {what}")
        return None
    found.source = credentials.method
    key, secret = found.credentials.access_key, found.credentials.secret_key
    text = f"{masked(key)} {_SOURCES.get(found.source, f'by {found.source}')}"
    text += f", profile {profile}" if profile else ""
    if not key or not secret or re.search(r"\s", key + secret):
        found.note("credentials", False, f"{text}: the access key id or the secret is empty or holds a blank")
        return None
    found.note("credentials", True, text)
    return session


def _client(session: boto3.Session, place: Place, **more: Any) -> Any:
    config = Config(retries={"max_attempts": _TRIES, "mode": "standard"}, connect_timeout=5, read_timeout=20, **more)
    region = place.region or session.region_name or DEFAULT_REGION
    return session.client("s3", region_name=region, endpoint_url=place.endpoint_url, config=config)


def _bucket(found: Findings, session: boto3.Session, create: bool) -> bool:
    """Whether the bucket is there, and in which region; make it when asked to."""
    place, name = found.place, found.place.bucket
    s3 = _client(session, place)
    found.partition, region = s3.meta.partition, s3.meta.region_name
    try:
        facts = s3.head_bucket(Bucket=name)["ResponseMetadata"]
        found.note("bucket", True, f"{name} at {_where(place)}")
    except ClientError as error:
        facts = error.response["ResponseMetadata"]
        status = facts["HTTPStatusCode"]
        if status == 404 and not create:
            return found.note("bucket", False, f"{name}: no such bucket at {_where(place)}; --create makes it")
        if status == 404 and not _make(found, s3, region):
            return False
        if status not in (403, 404):  # those who may use a prefix only are denied a look at the bucket
            return found.note("bucket", False, f"{name}: {_reason(error)}")
    actual = facts.get("HTTPHeaders", {}).get("x-amz-bucket-region", region)
    found.place = replace(place, region=actual)
    good = place.region in (None, actual)
    wrong = f"the bucket lies in {actual}, not in {place.region}: give --region {actual}"
    found.note("region", good, actual if good else wrong)
    return True


def _make(found: Findings, s3: Any, region: str) -> bool:
    """Create the bucket, without access for the public; us-east-1 is the region that must not be named."""
    name = found.place.bucket
    constraint = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=name, **constraint)
    except ClientError as error:
        found.denied |= set(MAKING) if _code(error) in _DENIED else set()
        return found.note("bucket", False, f"{name} could not be made in {region}: {_reason(error)}")
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    closed = "closed to the public"
    try:
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
    except ClientError as error:
        closed = f"public access not blocked: {_reason(error)}"
    return found.note("bucket", True, f"{name} made in {region}, {closed}")


def _objects(found: Findings, session: boto3.Session) -> None:
    """List, put, get, upload in parts (as DVC does above 100 MB), give such an upload up, and delete."""
    place, content, got = found.place, os.urandom(1000), []
    s3 = _client(session, place)
    first = {"Bucket": place.bucket, "Key": place.key(f".labelstack-probe-{secrets.token_hex(8)}")}
    second = first | {"Key": f"{first['Key']}-parts"}
    upload = second | {"UploadId": "0" * 32}

    def put() -> None:
        s3.put_object(**first, Body=content)

    def get() -> None:
        for left in reversed(range(_TRIES)):  # the client tries a request again, but not the reading of its answer
            try:
                return got.append(s3.get_object(**first)["Body"].read())
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                if not left:
                    raise

    def parts() -> None:
        upload["UploadId"] = s3.create_multipart_upload(**second)["UploadId"]
        tag = s3.upload_part(**upload, PartNumber=1, Body=content)["ETag"]
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})

    def delete() -> None:
        for target in (first, second):
            s3.delete_object(**target)

    try:  # the first answer with a body also tells whether the keys are right
        s3.list_objects_v2(Bucket=place.bucket, Prefix=place.key(""), MaxKeys=1)
        found.note("list", True, place.url)
    except ClientError as error:
        if _code(error) in _BAD_KEYS:
            found.note("credentials", False, f"{masked(found.credentials.access_key)}: {_reason(error)}")
            return
        if _code(error) not in _DENIED:
            found.note("list", False, _reason(error))
            return
        found.denied.add(LIST)
        found.note("list", False, f"access denied ({LIST})")
    there = found.tried("put", PUT, put, first["Key"])
    if not there and PUT not in found.denied:
        s3 = _client(session, place, **WITHOUT_CHECKSUMS)  # servers refuse these headers in many ways
        there = found.without_checksums = found.tried("put", PUT, put, first["Key"])
        if there:
            found.note("checksums", True, "left out, as the server refuses them")
    readable = found.tried("get", GET, get, f"{len(content):,} bytes, the same" if there else "allowed")
    if readable and there and got != [content]:
        found.note("get", False, "the object came back with other bytes")
    if there:
        found.tried("parts", PUT, parts, "uploaded")
    found.tried("abort", ABORT, lambda: s3.abort_multipart_upload(**upload), "allowed")
    if not found.tried("delete", DELETE, delete, "the probe is gone") and there:
        text = found.checks["delete"][1]
        found.note("delete", False, f"{text}; left there: {first['Key']}, {second['Key']}")


def _where(place: Place) -> str:
    return place.endpoint_url or "AWS"


def _code(error: Exception) -> str:
    """The S3 error code; empty for an error on the way to the server."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _reason(error: Exception) -> str:
    """An error in words."""
    code = _code(error)
    if code in _BAD_KEYS:
        return _BAD_KEYS[code]
    if code in _DENIED:
        return f"access denied ({code})"
    message = error.response["Error"].get("Message", "") if isinstance(error, ClientError) else f"{error}"
    return f"{code} {message}".strip().split("\n", 1)[0]
