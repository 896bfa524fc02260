"""Whether a place in S3 can be used: every check in turn, each with what it found or what is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from labelstack.s3.findings import BAD_KEYS, DENIED, Findings, code, masked, reason, short
from labelstack.s3.place import LIST, MAKING, Place, endpoint_problems
from labelstack.s3.probe import Probe
from labelstack.support.storage import WITHOUT_CHECKSUMS

DEFAULT_REGION = "us-east-1"
_SOURCES = {
    "env": "from the environment",
    "shared-credentials-file": "from the AWS credentials file",
    "config-file": "from the AWS configuration file",
    "explicit": "from .dvc/config.local",
    "iam-role": "from this machine's role",
    "container-role": "from this container's role",
}


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
    findings = Findings(place)
    inspection = _Inspection(findings, create, saved or {})
    if inspection.credentials() and inspection.bucket() and inspection.listing():
        Probe(inspection.s3, inspection.without_checksums(), findings, inspection.listed).run()
    return findings


class _Inspection:
    """The checks, in the order in which one makes sense after the other."""

    def __init__(self, findings: Findings, create: bool, saved: dict[str, str]) -> None:
        self.findings = findings
        self.create = create
        self.saved = saved
        self.s3: Any = None
        self.made = False
        self.listed = False

    @property
    def place(self) -> Place:
        return self.findings.place

    def credentials(self) -> bool:
        """Find credentials, look whether they can be real, and ask AWS whose they are."""
        import boto3
        from botocore.exceptions import BotoCoreError

        keys = {f"aws_{name}": value for name, value in self.saved.items()}
        try:
            self.session = boto3.Session(profile_name=self.place.profile, **keys)  # type: ignore[arg-type]
            credentials = self.session.get_credentials()
            frozen = credentials and credentials.get_frozen_credentials()
        except BotoCoreError as error:
            return self.findings.missing("credentials", f"{error}")
        if credentials is None or not frozen:
            return self.findings.missing(
                "credentials",
                "none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill ~/.aws/credentials (--profile)",
            )
        self.findings.credentials, self.findings.source = frozen, credentials.method
        source = _SOURCES.get(credentials.method, f"by {credentials.method}")
        text = f"{masked(str(frozen.access_key))} {source}" + (
            f", profile {self.place.profile}" * bool(self.place.profile)
        )
        if not self._endpoint():
            return False
        faults = implausible(frozen, self.place.endpoint_url is None)
        if faults:
            return self.findings.missing("credentials", f"{text}: {'; '.join(faults)}")
        return self._identity(text) if self.place.endpoint_url is None else self.findings.found("credentials", text)

    def _endpoint(self) -> bool:
        """Take the server's address from AWS's own settings where the command line names none."""
        if self.place.endpoint_url is None:
            from botocore.exceptions import BotoCoreError

            try:
                address = self._client("s3").meta.endpoint_url
            except BotoCoreError as error:
                return self.findings.missing("region", short(error))
            except ValueError:
                address = ""
            if endpoint_problems(address):
                # its text is not repeated: it may hold a password
                return self.findings.missing(
                    "server", "AWS_ENDPOINT_URL: expected http(s)://host or http(s)://host:port, without credentials"
                )
            if not _is_aws(address):
                self.findings.place = replace(self.place, endpoint_url=address.rstrip("/"))
        return True

    def without_checksums(self) -> Any:
        """A client of the same place that sends no checksum headers unless it must."""
        return self._client("s3", self.place.endpoint_url, **WITHOUT_CHECKSUMS)

    def _client(self, service: str, endpoint_url: str | None = None, **more: Any) -> Any:
        from botocore.config import Config

        config = Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=5, read_timeout=20, **more)
        region = self.place.region or self.session.region_name or DEFAULT_REGION
        return self.session.client(service, region_name=region, endpoint_url=endpoint_url, config=config)  # type: ignore[call-overload]

    def _identity(self, text: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self.findings.found("credentials", f"{text}, {self._client('sts').get_caller_identity()['Arn']}")
        except ClientError as error:
            return self.findings.missing("credentials", f"{text}: {reason(error)}")
        except BotoCoreError:
            return self.findings.found("credentials", f"{text}; AWS could not be asked whose they are")

    def bucket(self) -> bool:
        """Whether the bucket is there, and in which region; make it when asked to."""
        from botocore.exceptions import BotoCoreError, ClientError

        self.s3 = self._client("s3", self.place.endpoint_url)
        where = self.place.endpoint_url or "AWS"
        try:
            answer = self.s3.head_bucket(Bucket=self.place.bucket)
        except ClientError as error:
            answer = error.response
            status = answer["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                return self._make()
            if status != 403:
                return self.findings.missing("bucket", f"{self.place.bucket}: {reason(error)}")
        except BotoCoreError as error:
            return self.findings.missing("server", f"{where} does not answer as an S3 server: {short(error)}")
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return self._region(answer.get("BucketRegion") or headers.get("x-amz-bucket-region"))

    def _region(self, actual: str | None) -> bool:
        given, elsewhere = self.place.region, self.session.region_name
        region = actual or given or elsewhere or DEFAULT_REGION
        self.findings.place = replace(self.place, region=region)
        self.findings.partition = self._partition(region)
        self.s3 = self._client("s3", self.place.endpoint_url)
        if given and given != region:
            self.findings.missing("region", f"the bucket lies in {region}, not in {given}: give --region {region}")
        elif actual and not given and elsewhere and elsewhere != actual:
            self.findings.found("region", f"{region}, the bucket's own; {elsewhere} is what this shell has set")
        else:
            self.findings.found("region", region)
        return True

    def _partition(self, region: str) -> str:
        from botocore.exceptions import BotoCoreError

        try:
            return self.session.get_partition_for_region(region)
        except BotoCoreError:
            return "aws"  # a server of one's own names its regions as it likes

    def _make(self) -> bool:
        """Create the bucket, without access for the public; us-east-1 is the region that must not be named."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not self.create:
            where = self.place.endpoint_url or "AWS"
            return self.findings.missing("bucket", f"{self.place.bucket}: no such bucket at {where}; --create makes it")
        region = self.place.region or self.session.region_name or DEFAULT_REGION
        constraint = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        name = self.place.bucket
        try:
            self.s3.create_bucket(Bucket=name, **constraint)
        except ClientError as error:
            if code(error) == "BucketAlreadyExists":
                return self.findings.missing("bucket", f"{name} belongs to somebody else: choose another name")
            if code(error) in DENIED:
                self.findings.denied |= set(MAKING)
            return self.findings.missing("bucket", f"{name} could not be made in {region}: {reason(error)}")
        except BotoCoreError as error:
            return self.findings.missing("bucket", f"{name} could not be made in {region}: {short(error)}")
        blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        closed = "closed to the public"
        try:
            self.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
        except ClientError as error:
            closed = f"public access not blocked: {reason(error)}"
        except BotoCoreError as error:
            closed = f"public access not blocked: {short(error)}"
        self.made = True
        self.findings.found("bucket", f"{name} made in {region}, {closed}")
        return self._region(region)

    def listing(self) -> bool:
        """List the prefix; the first answer with a body also tells whether the keys are right."""
        from botocore.exceptions import BotoCoreError, ClientError

        name = self.place.bucket
        try:
            self.s3.list_objects_v2(Bucket=name, Prefix=self.place.key(""), MaxKeys=1)
        except ClientError as error:
            if code(error) in BAD_KEYS:
                return self._bad_keys(BAD_KEYS[code(error)])
            if code(error) == "NoSuchBucket" and not self.made:  # who may not look at it learns so only here
                return self._make() and self.listing()
            if code(error) not in DENIED:
                return self.findings.missing("bucket", f"{name}: {reason(error)}")
            self.findings.refused("list", LIST)
            return True
        except BotoCoreError as error:
            return self.findings.missing("list", short(error))
        self.listed = True
        if not self.made:
            self.findings.found("bucket", f"{name} at {self.place.endpoint_url or 'AWS'}")
        return self.findings.found("list", self.place.url)

    def _bad_keys(self, why: str) -> bool:
        kept = [check for check in self.findings.checks if check.name != "credentials"]
        self.findings.checks.clear()
        self.findings.missing("credentials", f"{masked(self.findings.credentials.access_key)}: {why}")
        self.findings.checks += kept
        return False


def implausible(credentials: Any, aws: bool) -> list[str]:
    """Why credentials can't be right, without showing them (AWS: key ids have 16 to 128 letters and digits)."""
    key, secret = credentials.access_key, credentials.secret_key
    faults = []
    if not key or not secret or re.search(r"\s", key + secret):
        faults.append("the access key id or the secret is empty or holds a blank")
    elif aws and not re.fullmatch(r"\w{16,128}", key):
        faults.append("not an access key id of AWS; for another server give --endpoint-url")
    if aws and key.startswith("ASIA") and not credentials.token:
        faults.append("temporary credentials without AWS_SESSION_TOKEN")
    return faults


def _is_aws(address: str) -> bool:
    return re.search(r"\.amazonaws\.com(\.cn)?$", urlsplit(address).hostname or "") is not None
