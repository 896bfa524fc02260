from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labelstack.params import load_params
from labelstack.support.credentials import cleaned, credential_problems, holds_credentials, without_credentials
from labelstack.support.errors import InputProblems

SMALLEST = {"models": {"plain": {"backbone": "small_cnn"}}, "stackers": {"trees": {"kind": "xgboost"}}}


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a?b=1#c", "http://host:5000/a?b=1#c"),
        ("https://ghp_secret@host/x.git", "https://host/x.git"),
        ("http://:secret@host/", "http://host/"),
        ("http://me:1234@host", "http://host"),
        ("http://me:sec@ret@host", "http://host"),
        ("postgresql://me:sec/ret@host:5432/db", "postgresql://host:5432/db"),
        ("postgresql+psycopg2://host/db?password=secret&a=b", "postgresql+psycopg2://host/db?password=…&a=b"),
        ("https://h/k?a=1&X-Amz-Signature=secret&X-Amz-Date=2", "https://h/k?a=1&X-Amz-Signature=…&X-Amz-Date=2"),
        ("s3://key:secret@bucket/prefix", "s3://bucket/prefix"),
        ("tcp://me:secret@host:8786", "tcp://host:8786"),
        ("GET https://a:secret@h/x, then (ftp://b:secret@i).", "GET https://h/x, then (ftp://i)."),
    ],
)
def test_what_is_secret_is_taken_out(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
    assert holds_credentials(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000/a@b",
        "http://[::1]:5000/x@y",
        "http://host?mail=a@b.org",
        "sqlite:///folder/mlflow.db",
        "sqlite:////a/b@c.db",
        "s3://bucket/a@b/c",
        "https://host/x?tokens=3&page=2",
        "git@host:a/b",
        "data/sample",
        "a@b and c://d",
    ],
)
def test_what_is_not_secret_stays(uri: str) -> None:
    assert without_credentials(uri) == uri
    assert not holds_credentials(uri)


def test_the_user_of_a_database_is_no_secret_but_is_not_shown_either() -> None:
    assert not holds_credentials("postgresql://me@host/db")
    assert not holds_credentials("postgresql+psycopg2://me@host/db?sslmode=require")
    assert holds_credentials("postgresql://me@host/db?password=x")
    assert without_credentials("postgresql://me@host/db") == "postgresql://host/db"


word = st.text(st.characters(whitelist_categories=("L", "N"), whitelist_characters="!$*+,-.;=_~%"), min_size=8)


@given(user=word, password=word, scheme=st.sampled_from(["http", "https", "postgresql", "s3", "tls"]))
def test_no_password_comes_through(user: str, password: str, scheme: str) -> None:
    uri = f"{scheme}://{user}:{password}@host.example:5000/a"
    assert without_credentials(f"see {uri} there") == f"see {scheme}://host.example:5000/a there"
    (problem,) = credential_problems({"a": [{"b": uri}]})
    assert problem.startswith("a.0.b: holds credentials")
    assert password not in problem
    assert user not in problem
    assert cleaned({"a": [{"b": uri}, 1, None]}) == {"a": [{"b": f"{scheme}://host.example:5000/a"}, 1, None]}


def refused(folder: Path, change: dict[str, Any]) -> InputProblems:
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(SMALLEST | change))
    with pytest.raises(InputProblems) as caught:
        load_params(file)
    return caught.value


@pytest.mark.parametrize(
    ("change", "key", "place"),
    [
        ({"tracking": {"uri": "http://me:geheim@h:5000"}}, "tracking.uri", "MLFLOW_TRACKING_USERNAME"),
        ({"tracking": {"uri": "https://geheim@h"}}, "tracking.uri", "MLFLOW_TRACKING_TOKEN"),
        ({"tracking": {"uri": "postgresql://me:geheim@h/db"}}, "tracking.uri", "PGPASSWORD"),
        ({"tracking": {"artifacts": "s3://me:geheim@bucket/x"}}, "tracking.artifacts", "AWS_SECRET_ACCESS_KEY"),
        ({"images": {"s3_endpoint_url": "http://me:geheim@h"}}, "images.s3_endpoint_url", "AWS_ACCESS_KEY_ID"),
        ({"engine": {"s3_endpoint_url": "http://me:geheim@h"}}, "engine.s3_endpoint_url", ".dvc/config.local"),
        ({"engine": {"workspace": "s3://me:geheim@b/p"}}, "engine.workspace", "AWS_PROFILE"),
        ({"engine": {"scheduler": "tls://me:geheim@h:8786"}}, "engine.scheduler", "a file that git ignores"),
        ({"dataset": {"root": "https://h/x?X-Amz-Signature=geheim"}}, "dataset.root", "environment"),
    ],
)
def test_params_refuse_credentials_and_name_the_right_place(
    tmp_path: Path, change: dict[str, Any], key: str, place: str
) -> None:
    error = refused(tmp_path, change)
    problem, *others = error.problems
    assert all(other.startswith(f"{key}: ") for other in others)
    assert problem.startswith(f"{key}: holds credentials, and this file goes into git")
    assert place in problem
    assert "geheim" not in str(error)


def test_other_problems_are_told_along_and_show_nothing_either(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        {
            "seed": "http://me:geheim@h",
            "engine": {"scheduler": "http://me:geheim@h", "retries": -1},
            "tracking": ["https://me:geheim@h"],
            "http://me:geheim@h": 1,
        },
    )
    assert "geheim" not in str(error)
    assert [problem.split(":")[0] for problem in error.problems[:3]] == ["engine.scheduler", "seed", "tracking.0"]
    assert any(problem.startswith("engine.retries:") for problem in error.problems)
    assert sum(problem.startswith("engine.scheduler:") for problem in error.problems) == 1  # the credentials say enough
