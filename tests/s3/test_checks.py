"""Checks of a place in S3, against an S3 server over HTTP and, for what only AWS does, moto's AWS."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from labelstack.s3.checks import Findings, inspect, masked
from labelstack.s3.place import MAKING, NEEDED, Place, policy
from labelstack.support.storage import s3_client
from s3_server import BUCKET, CREDENTIALS, Proxy, client, credentials_in_environment, objects, s3_server

ALL = dict.fromkeys(("credentials", "bucket", "region", "list", "put", "get", "parts", "abort", "delete"), True)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials_in_environment(monkeypatch, tmp_path)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


def states(findings: Findings) -> dict[str, bool]:
    return {name: good for name, (good, _) in findings.checks.items()}


def text(findings: Findings, name: str) -> str:
    return findings.checks[name][1]


def uploads(url: str) -> list[dict[str, object]]:
    return client(url).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def test_a_good_place_passes_and_is_left_as_it_was(server: str) -> None:
    client(server).put_object(Bucket=BUCKET, Key="team/a", Body=b"kept")
    findings = inspect(Place(BUCKET, "team", server))
    assert states(findings) == ALL
    assert findings.problems == []
    assert findings.policy() is None
    assert findings.place == Place(BUCKET, "team", server, "us-east-1")
    assert objects(server) == {"team/a": b"kept"}
    assert uploads(server) == []
    shown = " ".join(text for _, text in findings.checks.values())
    assert "AKIA…TEST from the environment" in shown
    for secret in (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_ACCESS_KEY_ID"]):
        assert secret not in shown


REFUSALS = [
    ("501", "NotImplemented"),
    ("400", "InvalidArgument"),
    ("400", "XAmzContentSHA256Mismatch"),
    ("400", "InvalidDigest"),
    ("403", "SignatureDoesNotMatch"),
    ("411", "MissingContentLength"),
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_server_that_refuses_checksums_is_used_without_them(server: str, answer: tuple[str, str]) -> None:
    with Proxy(server, refuses_checksums=answer) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert states(findings) == ALL | {"checksums": True}
    assert findings.without_checksums
    assert text(findings, "checksums") == "left out, as the server refuses them"
    assert objects(server) == {}
    assert uploads(server) == []


def test_checksums_are_not_blamed_for_other_troubles(server: str) -> None:
    with Proxy(server, answers={"s3:PutObject": ("400", "InvalidArgument")}) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert not findings.without_checksums
    assert text(findings, "put") == "InvalidArgument As told."
    with Proxy(server) as proxy:
        assert not inspect(Place(BUCKET, "team", proxy.url)).without_checksums


def test_own_clients_send_no_checksums_to_servers_that_are_not_aws(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    (tmp_path / "file").write_bytes(b"content")
    with Proxy(server, refuses_checksums=("501", "NotImplemented")) as proxy:
        for name in (None, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            if name:
                monkeypatch.setenv(name, proxy.url)
            s3 = s3_client(None if name else proxy.url)
            s3.upload_file(str(tmp_path / "file"), BUCKET, f"{name}")
            assert s3.get_object(Bucket=BUCKET, Key=f"{name}")["Body"].read() == b"content"
        assert {request.fault for request in proxy.requests} == {""}
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert s3_client().meta.config.request_checksum_calculation == "when_supported"  # of AWS itself


@pytest.mark.parametrize("fault", ["500", "503", "reset"])
def test_a_failing_server_is_asked_again(server: str, fault: str) -> None:
    with Proxy(server, first=dict.fromkeys(NEEDED, fault)) as proxy:
        assert states(inspect(Place(BUCKET, "team", proxy.url))) == ALL
        assert proxy.failed() == 10  # each of the requests, once


def test_an_answer_that_is_cut_off_is_asked_for_again(server: str) -> None:
    with Proxy(server, first={"s3:GetObject": "cut"}) as proxy:
        assert states(inspect(Place(BUCKET, "team", proxy.url))) == ALL
        assert [request.fault for request in proxy.requests if "probe" in request.key].count("cut") == 1


def test_answers_that_are_always_cut_off_are_a_problem(server: str) -> None:
    with Proxy(server, always={"s3:GetObject": "cut"}) as proxy:
        good, words = inspect(Place(BUCKET, "team", proxy.url)).checks["get"]
    assert not good
    assert "reading from response stream" in words


def test_lost_answers_are_no_failures(server: str) -> None:
    """What was done is not there to be done again: the second answer differs from the first."""
    actions = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject")
    with Proxy(server, first=dict.fromkeys(actions, "lost")) as proxy:
        assert states(inspect(Place(BUCKET, "team", proxy.url))) == ALL
        assert proxy.failed() >= 6
    assert objects(server) == {}


def test_the_policy_is_enough(server: str) -> None:
    place = Place(BUCKET, "team")
    with Proxy(server, policy=policy(place, NEEDED)) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert findings.problems == []
    assert set(states(findings)) == set(ALL) - {"bucket"}  # who may use a prefix only can't look at the bucket


@pytest.mark.parametrize(
    ("action", "check"),
    [
        ("s3:ListBucket", "list"),
        ("s3:GetObject", "get"),
        ("s3:PutObject", "put"),
        ("s3:DeleteObject", "delete"),
        ("s3:AbortMultipartUpload", "abort"),
    ],
)
def test_every_part_of_the_policy_is_needed(server: str, action: str, check: str) -> None:
    place = Place(BUCKET, "team")
    with Proxy(server, policy=policy(place, set(NEEDED) - {action})) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert findings.denied == {action}
    assert findings.policy() == policy(place, {action})
    (problem,) = findings.problems
    assert problem.startswith(f"{check}: access denied ({action})")
    assert uploads(server) == []
    if action == "s3:DeleteObject":
        (first, second) = objects(server)
        assert text(findings, "delete").endswith(f"left there: {first}, {second}")
    else:
        assert objects(server) == {}


def test_what_is_printed_when_all_is_denied_grants_all(server: str) -> None:
    with Proxy(server, policy={"Statement": []}) as proxy:
        place = Place(BUCKET, "team", proxy.url)
        findings = inspect(place)
        denied = dict.fromkeys(("list", "put", "get", "abort", "delete"), False)
        assert states(findings) == {"credentials": True, "region": True} | denied
        assert findings.denied == set(NEEDED)
        proxy.policy = json.loads(json.dumps(findings.policy()))
        assert inspect(place).problems == []


def test_only_puts_denied(server: str) -> None:
    with Proxy(server, policy=policy(Place(BUCKET, "team"), ["s3:ListBucket", "s3:GetObject"])) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert text(findings, "get") == "allowed"
    assert findings.denied == {"s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"}


def test_an_object_that_comes_back_changed(server: str) -> None:
    with Proxy(server, answers={"s3:GetObject": ("200", "other")}) as proxy:
        assert inspect(Place(BUCKET, "team", proxy.url)).problems == ["get: the object came back with other bytes"]
    assert objects(server) == {}


def test_credentials_nowhere(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Partial credentials" in inspect(Place(BUCKET, "", server)).problems[0]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    findings = inspect(Place(BUCKET, "", server))
    assert states(findings) == {"credentials": False}
    assert text(findings, "credentials").startswith("none found: set AWS_ACCESS_KEY_ID")


def test_credentials_of_a_profile(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    keys = "aws_access_key_id = AKIAPROFILEPROFILE00\naws_secret_access_key = hidden\n"
    (tmp_path / "credentials").write_text(f"[team]\n{keys}")
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-1\n")
    findings = inspect(Place(BUCKET, "", server, profile="team"))
    assert states(findings) == ALL
    assert text(findings, "credentials") == "AKIA…LE00 from the AWS credentials file, profile team"
    assert findings.place.region == "us-east-1"
    assert "absent" in inspect(Place(BUCKET, "", server, profile="absent")).problems[0]


def test_credentials_of_the_remote_go_first(server: str) -> None:
    findings = inspect(Place(BUCKET, "", server), saved={"access_key_id": "mine", "secret_access_key": "hidden"})
    assert text(findings, "credentials") == "mi… from .dvc/config.local"
    assert states(findings) == ALL


@pytest.mark.parametrize("secret", ["with blank", "line\n"])
def test_credentials_that_were_copied_badly(server: str, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    (problem,) = inspect(Place(BUCKET, "", server)).problems
    assert problem.endswith("the access key id or the secret is empty or holds a blank")


def test_keys_that_the_server_does_not_take(server: str) -> None:
    def authenticate_after(actions: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{server}/moto-api/reset-auth", actions.encode(), headers)
        urllib.request.urlopen(request).read()

    user = {"UserName": "one"}
    iam = boto3.client("iam", endpoint_url=server, region_name="us-east-1")
    iam.create_user(**user)
    key = iam.create_access_key(**user)["AccessKey"]
    authenticate_after("0")
    try:
        findings = inspect(Place(BUCKET, "team", server))
        assert findings.problems == ["credentials: AKIA…TEST: the server does not know this access key id"]
        saved = {"access_key_id": key["AccessKeyId"], "secret_access_key": "hidden"}
        (problem,) = inspect(Place(BUCKET, "team", server), saved=saved).problems
        assert problem.endswith("the secret does not belong to this access key id")
    finally:
        authenticate_after("inf")


def test_no_server(server: str) -> None:
    findings = inspect(Place(BUCKET, "", "http://127.0.0.1:1"))
    assert states(findings) == {"credentials": True, "server": False}


def test_no_bucket_and_one_to_be_made(server: str) -> None:
    findings = inspect(Place("new-bucket", "x", server))
    assert findings.problems == [f"bucket: new-bucket: no such bucket at {server}; --create makes it"]
    assert states(inspect(Place("new-bucket", "x", server, "eu-west-1"), create=True)) == ALL
    s3 = client(server)
    assert s3.get_bucket_location(Bucket="new-bucket")["LocationConstraint"] == "eu-west-1"
    assert set(s3.get_public_access_block(Bucket="new-bucket")["PublicAccessBlockConfiguration"].values()) == {True}
    assert text(inspect(Place("new-bucket", "x", server), create=True), "bucket") == f"new-bucket at {server}"


def test_a_bucket_may_not_be_made(server: str) -> None:
    place = Place("new-bucket", "x")
    with Proxy(server, policy={"Statement": [{"Action": ["s3:ListBucket"], "Resource": "*"}]}) as proxy:
        findings = inspect(Place("new-bucket", "x", proxy.url), create=True)
    assert findings.problems == ["bucket: new-bucket could not be made in us-east-1: access denied (AccessDenied)"]
    assert findings.policy() == policy(place, MAKING)


def test_a_region_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "not a region")
    assert "not a region" in inspect(Place(BUCKET)).problems[0]


@mock_aws(config={"core": {"mock_credentials": False}})
def test_a_place_at_aws() -> None:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    findings = inspect(Place(BUCKET, "team"))
    assert states(findings) == ALL


@mock_aws(config={"core": {"mock_credentials": False}})
@pytest.mark.parametrize(
    ("region", "constraint", "partition"), [("us-east-1", None, "aws"), ("eu-central-1", "eu-central-1", "aws")]
)
def test_buckets_are_made_in_their_region(region: str, constraint: str | None, partition: str) -> None:
    findings = inspect(Place("made-here", "x", region=region), create=True)
    assert states(findings) == ALL
    assert (findings.place.region, findings.partition) == (region, partition)
    assert boto3.client("s3").get_bucket_location(Bucket="made-here")["LocationConstraint"] == constraint


@mock_aws(config={"core": {"mock_credentials": False}})
def test_the_wrong_region_is_named() -> None:
    where = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    findings = inspect(Place(BUCKET, "x", region="us-west-2"))
    assert findings.problems == ["region: the bucket lies in eu-west-1, not in us-west-2: give --region eu-west-1"]
    assert states(findings) == ALL | {"region": False}


@pytest.mark.parametrize(("key", "shown"), [("AKIATESTTESTTESTTEST", "AKIA…TEST"), ("minio", "mi…"), ("", "…")])
def test_access_key_ids_are_masked(key: str, shown: str) -> None:
    assert masked(key) == shown


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (
            {"s3:CreateBucket": ("409", "BucketAlreadyExists")},
            "bucket: taken could not be made in us-east-1: BucketAlreadyExists",
        ),
        ({"s3:CreateBucket": ("400", "Odd")}, "bucket: taken could not be made in us-east-1: Odd As told."),
        (
            {"s3:CreateBucket": ("400", "InvalidToken")},
            "bucket: taken could not be made in us-east-1: the session token",
        ),
    ],
)
def test_answers_to_making_a_bucket(server: str, answers: dict[str, tuple[str, str]], problem: str) -> None:
    with Proxy(server, answers=answers) as proxy:
        findings = inspect(Place("taken", "x", proxy.url), create=True)
    assert findings.problems[0].startswith(problem)
    assert [bucket["Name"] for bucket in client(server).list_buckets()["Buckets"]] == [BUCKET]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"s3:ListBucket": ("400", "Odd")}, "bucket: bucket: 400"),
        ({"s3:PutObject": ("400", "Odd")}, "put: Odd As told."),
        ({"s3:GetObject": ("410", "Odd")}, "get: Odd As told."),
    ],
)
def test_answers_that_are_no_denial(server: str, answers: dict[str, tuple[str, str]], words: str) -> None:
    with Proxy(server, answers=answers) as proxy:
        findings = inspect(Place(BUCKET, "team", proxy.url))
    assert findings.denied == set()
    assert (findings.problems or [""])[0].startswith(words)


def test_a_server_without_a_block_on_public_access(server: str) -> None:
    with Proxy(server, answers={"s3:PutBucketPublicAccessBlock": ("501", "NotImplemented")}) as proxy:
        findings = inspect(Place("new-bucket", "team", proxy.url, region="moon-1"), create=True)
    assert states(findings) == ALL
    assert text(findings, "bucket") == "new-bucket made in moon-1, public access not blocked: NotImplemented As told."
    assert (findings.place.region, findings.partition) == ("moon-1", "aws")
