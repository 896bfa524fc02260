"""Where objects of an S3 remote lie: checked names, and the IAM policy that grants the use of exactly that place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labelstack.support.errors import InputProblems

LIST, GET, PUT, DELETE, ABORT = NEEDED = (
    "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
)  # fmt: skip
"""What DVC asks for: push, pull, `dvc gc --cloud`, and uploads of files over 100 MB in parts."""
MAKING = ("s3:CreateBucket", "s3:PutBucketPublicAccessBlock")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?!.*(^|/)(\.\.?)?(/|$))[A-Za-z0-9/!_.'()=+,~-]+|")
_ENDPOINT = re.compile(r"https?://([^\s/?#:\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,4}|:[1-5]\d{4}|:6[0-5]\d{3})?(/[^\s?#]*)?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Place:
    """A bucket and a prefix in it.

    Attributes
    ----------
    bucket, prefix : str
        The prefix has no slash at either end and may be empty.
    endpoint_url : str or None
        Of a server that is not AWS.
    region, profile : str or None
        As the user gave them.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def key(self, name: str) -> str:
        """The key of an object below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name


def parse_place(
    url: str, endpoint_url: str | None = None, region: str | None = None, profile: str | None = None, name: str = "x"
) -> Place:
    """A place from what the user typed; raise ``InputProblems`` with all that is wrong with it.

    Credentials in an address are refused, and no message repeats an address that may hold some: it would end in a
    shell's history or a log.
    """
    endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    problems = [*_url_problems(url), *_endpoint_problems(endpoint_url or "")]
    if not _NAME.fullmatch(name):
        problems.append("--name: expected small letters, digits, - and _")
    if region is not None and not re.fullmatch(r"[A-Za-z0-9-]+", region):
        problems.append("--region: expected a name such as eu-central-1")
    if problems:
        raise InputProblems("labelstack remote", problems)
    bucket, _, prefix = url[5:].partition("/")
    return Place(bucket, prefix.strip("/"), endpoint_url and endpoint_url.rstrip("/"), region, profile)


def _endpoint_problems(endpoint_url: str) -> list[str]:
    if "@" in endpoint_url:
        return [f"--endpoint-url holds credentials; leave them out of it. {_ELSEWHERE}"]
    if endpoint_url and not _ENDPOINT.fullmatch(endpoint_url):
        return ["--endpoint-url: expected http(s)://host or http(s)://host:port"]
    return []


def policy(place: Place, actions: Iterable[str], partition: str = "aws") -> dict[str, Any]:
    """An IAM policy that allows these actions on this bucket and below this prefix, and nothing else.

    Listing is bound to the prefix by the condition key ``s3:prefix`` (Amazon S3 User Guide, "Bucket policy examples
    using condition keys").
    """
    wanted = set(actions)
    bucket = f"arn:{partition}:s3:::{place.bucket}"
    prefixes = {"StringLike": {"s3:prefix": [place.prefix, f"{place.prefix}/*"]}}
    groups: list[tuple[Iterable[str], str, dict[str, Any]]] = [
        ((LIST,), bucket, {"Condition": prefixes} if place.prefix else {}),
        (MAKING, bucket, {}),
        (NEEDED[1:], f"{bucket}/{place.key('*')}", {}),
    ]
    statements = [
        {"Effect": "Allow", "Action": granted, "Resource": resource, **condition}
        for actions, resource, condition in groups
        if (granted := [action for action in actions if action in wanted])
    ]
    return {"Version": "2012-10-17", "Statement": statements}


_ELSEWHERE = (
    "Put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials; if they were typed for "
    "others to see, renew them"
)


def _url_problems(url: str) -> list[str]:
    scheme, rest = url[:5], url[5:]
    if scheme.lower() != "s3://":
        return ["expected s3://bucket/prefix"]
    bucket, _, prefix = rest.partition("/")
    if "@" in rest or ":" in bucket:
        return [f"the address holds credentials; leave them out of it: s3://bucket/prefix. {_ELSEWHERE}"]
    problems = []
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        problems.append("bucket: expected 3 to 63 small letters, digits, dots and hyphens (s3://bucket/prefix)")
    if not _PREFIX.fullmatch(prefix.strip("/")):
        problems.append("prefix: expected letters, digits and / ! _ . ' ( ) = + , ~ - (s3://bucket/prefix)")
    return problems
