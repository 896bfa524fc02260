from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstack.s3.place import NEEDED, Place, parse_place, policy
from labelstack.support.errors import InputProblems
from s3_server import allowed

PREFIXES = st.lists(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True), max_size=3).map("/".join)


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "canonical"),
    [
        ("s3://my-bucket", "my-bucket", "", "s3://my-bucket"),
        ("s3://my-bucket/", "my-bucket", "", "s3://my-bucket"),
        ("S3://my.bucket/a/b/", "my.bucket", "a/b", "s3://my.bucket/a/b"),
        ("s3://my-bucket/team=a/x", "my-bucket", "team=a/x", "s3://my-bucket/team=a/x"),
    ],
)
def test_reads_bucket_and_prefix(url: str, bucket: str, prefix: str, canonical: str) -> None:
    place = parse_place(url)
    assert (place.bucket, place.prefix, place.url) == (bucket, prefix, canonical)
    assert place.key("x") == (f"{prefix}/x" if prefix else "x")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://bucket/x", "expected s3://bucket/prefix"),
        ("s3:/bucket", "expected s3://bucket/prefix"),
        ("s3://", "bucket: expected 3 to 63"),
        ("s3://Bucket/x", "bucket: expected 3 to 63"),
        ("s3://a..b/x", "bucket: expected 3 to 63"),
        ("s3://bucket/a*", "prefix: expected letters"),
        ("s3://bucket/a?versionId=1", "prefix: expected letters"),
        ("s3://bucket/a b", "prefix: expected letters"),
        ("s3://bucket/a//b", "prefix: expected letters"),
        ("s3://bucket/..", "prefix: expected letters"),
    ],
)
def test_refuses_what_is_no_place(url: str, words: str) -> None:
    with pytest.raises(InputProblems) as caught:
        parse_place(url)
    assert len(caught.value.problems) == 1
    assert words in caught.value.problems[0]


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "https://", "http://host:port", "http://host:99999", "http://h?x=1"]
)
def test_refuses_what_is_no_address_of_a_server(endpoint: str) -> None:
    with pytest.raises(InputProblems, match="--endpoint-url: expected http"):
        parse_place("s3://bucket/x", endpoint)


def test_names_all_problems_at_once() -> None:
    with pytest.raises(InputProblems) as caught:
        parse_place("s3://B/*", "host", "eu west", None, "Mine Own")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "bucket", "prefix", "--endpoint-url", "--name", "--region",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://AKIA1:PASSWORD@bucket/x", None),
        ("s3://AKIA1:PASS/WORD@bucket/x", None),
        ("s3://PASSWORD@bucket/x", None),
        ("s3://AKIA1:PASSWORD/bucket", None),
        ("s3://bucket/x", "https://user:PASSWORD@host"),
        ("s3://bucket/x", "https://user:PASS/WORD@host"),
        ("s3://bucket/x", "user:PASSWORD@host"),
        ("https://user:PASSWORD@host/bucket", None),
        ("s3://bucket/x?secret=PASSWORD", None),
        ("s3://PASSWORD_/x", None),
        ("s3://bucket/x", "https://host/?secret=PASSWORD"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str, endpoint: str | None) -> None:
    with pytest.raises(InputProblems) as caught:
        parse_place(url, endpoint)
    assert "PASS" not in str(caught.value)
    assert "WORD" not in str(caught.value)


@given(PREFIXES, PREFIXES, st.sampled_from(NEEDED))
def test_the_policy_grants_its_prefix_and_nothing_beside_it(prefix: str, other: str, action: str) -> None:
    place = Place("bucket", prefix)
    document = policy(place, NEEDED)
    below = place.key(f"{other}/x")
    within = not prefix or f"{other}/x".startswith(f"{prefix}/")
    if action == "s3:ListBucket":
        assert allowed(document, action, "bucket", below)
        assert allowed(document, action, "bucket", f"{other}/x") == within
        assert allowed(document, action, "bucket", None) == (not prefix)
        assert not allowed(document, action, "bucket2", below)
    else:
        assert allowed(document, action, f"bucket/{below}", None)
        assert allowed(document, action, f"bucket/{other}/x", None) == within
        assert not allowed(document, action, f"bucket2/{below}", None)
    assert not allowed(document, "s3:DeleteBucket", "bucket", None)


def test_the_policy_names_only_what_is_wanted() -> None:
    document = policy(Place("bucket", "p"), ["s3:PutObject", "s3:CreateBucket"], "aws-cn")
    assert document["Statement"] == [
        {"Effect": "Allow", "Action": ["s3:CreateBucket"], "Resource": "arn:aws-cn:s3:::bucket"},
        {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": "arn:aws-cn:s3:::bucket/p/*"},
    ]
