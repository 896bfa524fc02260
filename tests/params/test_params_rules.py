from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_experiment_name, _validate_model_name
from pydantic import ValidationError

from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.urls import parse_url
from labelstack.params import Params
from labelstack.params.dataset import DatasetSection
from labelstack.params.images import ImagesSection
from labelstack.params.messages import explain
from labelstack.params.tracking import ARTIFACT_SCHEMES
from labelstack.registry.versions import _REFERENCE
from labelstack.support.errors import UserError
from labelstack.tracking.store import resolve_uri

SMALLEST = {"models": {"plain": {"backbone": "small_cnn"}}, "stackers": {"trees": {"kind": "xgboost"}}}


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("training", "patience", True, "must be a whole number, not true"),
        ("training", "patience", "8", "must be a whole number, not '8'"),
        ("training", "patience", 8.0, "must be a whole number, not 8.0"),
        (
            "training",
            "mixed_precision",
            "yes",
            "must be true or false, float16 (the same as true) or bfloat16, not 'yes'",
        ),
        ("training", "mixed_precision", 1, "must be true or false, float16 (the same as true) or bfloat16, not 1"),
        ("training", "jit_compile", "yes", "must be true or false, not 'yes'"),
        ("training", "holdout_max", None, "must be a whole number, not null"),
        ("tracking", "experiment", "", "must not be empty"),
        ("tracking", "experiment", " ", "must not be empty"),
        ("tracking", "experiment", "a\n", "must be one line"),
        ("tracking", "experiment", "a ", "must not begin or end with a space"),
        ("tracking", "experiment", "a" * 501, "at most 500 characters"),
        ("tracking", "registered_model", "a/b", "must be a name without / : and @"),
        ("tracking", "registered_model", "a:b", "must be a name without / : and @"),
        ("tracking", "registered_model", "a@b", "must be a name without / : and @"),
        ("tracking", "registered_model", ".", "must be a name without / : and @"),
        ("tracking", "registered_model", "..", "does not begin with .."),
        ("tracking", "registered_model", "..a", "does not begin with .."),
        ("tracking", "registered_model", "", "must not be empty"),
        ("tracking", "uri", "", "must not be empty"),
        ("tracking", "uri", "file:mlruns", "must be sqlite:///<file>"),
        ("tracking", "uri", "file:///tmp/mlruns", "must be sqlite:///<file>"),
        ("tracking", "uri", "mlruns", "must be sqlite:///<file>"),
        ("tracking", "uri", "sqlite://mlflow.db", "must be sqlite:///<file>"),
        ("tracking", "uri", "sqlite:///", "must be sqlite:///<file>"),
        ("tracking", "uri", "databricks://x", "must be sqlite:///<file>"),
        ("tracking", "uri", "http://", "must be http(s)://host"),
        ("tracking", "uri", "http://a:99999", "must be http(s)://host"),
        ("tracking", "artifacts", "", "must not be empty"),
        ("tracking", "artifacts", "s3://", "must be s3://bucket/prefix"),
        ("tracking", "artifacts", "s3://B_/x", "must name a bucket"),
        ("tracking", "artifacts", "s3:bucket", "must be s3://bucket/prefix"),
        ("tracking", "artifacts", "nonsense://x", "must be s3://bucket/prefix"),
        ("images", "allow_hosts", ["http://127.0.0.1:8765/x"], "without scheme and path, such as 127.0.0.1:8765"),
        ("images", "allow_hosts", ["127.0.0.1/x"], "not a path or a network"),
        ("images", "allow_hosts", ["10.0.0.0/8"], "not a path or a network"),
        ("images", "allow_hosts", ["127.0.0.1:0"], "a port is a number from 1 to 65535"),
        ("images", "allow_hosts", ["127.0.0.1:65536"], "a port is a number from 1 to 65535"),
        ("images", "allow_hosts", ["host:"], "a port is a number from 1 to 65535"),
        ("images", "allow_hosts", ["*.lan"], "has no wildcards"),
        ("images", "allow_hosts", [""], "must not be empty"),
        ("images", "allow_hosts", ["a b"], "must be host or host:port"),
        ("images", "allow_hosts", ["[::1"], "must be host or host:port"),
        ("images", "allow_hosts", ["münchen.lan"], "must be in ASCII"),
        ("images", "s3_endpoint_url", "127.0.0.1:9000", "must be http(s)://host"),
        ("images", "s3_endpoint_url", "http://a?b=c", "must be http(s)://host"),
        ("engine", "s3_endpoint_url", "s3://bucket", "must be http(s)://host"),
        ("engine", "scheduler", "tcp://host:70000", "a port is a number from 1 to 65535"),
        ("engine", "scheduler", "tcp://host:1\n", "must be one line"),
        ("engine", "workspace", "/a\n", "must be one line"),
        ("dataset", "root", "", "must not be empty"),
        ("dataset", "root", "a\nb", "must be one line"),
        ("dataset", "root", "s3://bucket/x", "must be a path on this machine"),
        ("dataset", "root", "~/data", "must be a path on this machine"),
        ("dataset", "root", "data/" + "x" * 256, "file systems take at most 255"),
        ("dataset", "label_ids", [1, 2_000_000_000], "declares 2,000,000,000 labels, more than 100,000"),
        ("dataset", "label_ids", [-1, 5], "greater than or equal to 0"),
        ("dataset", "label_ids", [1, 5.0], "must be a whole number"),
        ("submission", "directory", "", "must not be empty"),
        ("submission", "directory", ".", "below that of dvc.yaml"),
        ("submission", "directory", "..", "below that of dvc.yaml"),
        ("submission", "directory", "a/../../b", "below that of dvc.yaml"),
        ("submission", "directory", "/tmp", "below that of dvc.yaml"),
        ("submission", "directory", ".dvc/tmp", "begins with a dot"),
        ("submission", "filename", "", "must not be empty"),
        ("submission", "filename", ".", "file name without folders"),
        ("submission", "filename", "a.csv\n", "must be one line"),
        ("submission", "filename", "a\x00.csv", "must be one line"),
        ("submission", "filename", "ä" * 101, "at most 200 bytes, not of 202"),
        ("folds", "seed", 2**31, "less than or equal to 2147483647"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(section, key, value, said):
    with pytest.raises(ValidationError) as caught:
        Params.model_validate(SMALLEST | {section: {key: value}})
    (problem,) = explain(caught.value, Params)
    assert problem.startswith(f"{section}.{key}")
    assert said in problem


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (
            "images",
            "allow_hosts",
            ["127.0.0.1", "127.0.0.1:8765", "::1", "[::1]:80", "[::1]", "a-b.lan.", "NAS:1", "a_b"],
        ),
        ("images", "s3_endpoint_url", "http://[::1]:9000"),
        ("images", "timeout_s", 20),
        ("augment", "rotate", [-10, 10]),
        ("tracking", "uri", "postgresql+psycopg2://user@host/name"),
        ("tracking", "artifacts", "mlartifacts/of mine"),
        ("tracking", "artifacts", "s3://bucket/prefix"),
        ("tracking", "artifacts", "file:///srv/artifacts"),
        ("tracking", "registered_model", "my model (2)"),
        ("tracking", "registered_model", ".hidden..name."),
        ("dataset", "root", "../elsewhere"),
        ("dataset", "root", "/srv/photos of mine"),
        ("dataset", "label_ids", [0, 99_999]),
        ("submission", "directory", "sub/mission"),
        ("submission", "filename", "Größe & ${more} (1).csv"),
    ],
)
def test_unusual_values_that_work_are_taken(section, key, value):
    params = Params.model_validate(SMALLEST | {section: {key: value}})
    assert params.model_dump(mode="json")[section][key] == value


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///a.db", "sqlite:////a/b.db", "sqlite:///:memory:", "sqlite:///", "sqlite://a", "http://h", "http://",
     "https://h:5000/x", "postgresql://h/n", "postgresql+psycopg2:///n", "mysql+pymysql://u@h/n", "mssql://h",
     "oracle://h", "a", "file:a", "file:///a", "databricks"],
)  # fmt: skip
def test_the_store_takes_the_same_tracking_uris(tmp_path, monkeypatch, uri):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    taken = True
    try:
        resolve_uri(uri, tmp_path)
    except UserError:
        taken = False
    assert accepted({"tracking": {"uri": uri}}) == taken


NAMES = st.text(st.sampled_from("ab./: "), max_size=5) | st.text(max_size=5)


@settings(max_examples=400, deadline=None)
@example("..a")
@example(" ")
@given(NAMES)
def test_mlflow_takes_every_model_name_that_params_take(name):
    if accepted({"tracking": {"registered_model": name}}):
        _validate_model_name(name)
        assert _REFERENCE.fullmatch(f"{name}/3")["name"] == name
    if accepted({"tracking": {"experiment": name}}):
        _validate_experiment_name(name)


def test_mlflow_knows_every_scheme_of_artifacts():
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry

    assert set(ARTIFACT_SCHEMES) <= set(_artifact_repository_registry._registry)


@settings(deadline=None)
@given(st.from_regex(r"\A(?:[a-z0-9.*-]{1,8}|\[?[0-9a-f:.]{1,9}\]?)(?::[0-9]{0,6})?/?\Z"))
def test_an_allowed_host_opens_exactly_its_urls(entry):
    if accepted({"images": {"allow_hosts": [entry]}}):
        shown = f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry
        url = parse_url(f"http://{shown}/")
        policy = Policy(ImagesSection(allow_hosts=[entry]), Path())
        assert policy.allows(url.host, url.port, ["10.0.0.1"])
        assert not policy.allows(f"{url.host}x", url.port, ["10.0.0.1"])


def accepted(changes: dict) -> bool:
    try:
        Params.model_validate(SMALLEST | changes)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("root", "answers", "fits"),
    [
        ("data/mine", "data/mine/answers.json", True),
        ("data/mine/", "./data/mine/test/answers.json", True),
        ("data/mine", None, True),
        ("data/mine", "answers.json", False),
        ("data/mine", "data/mine", False),
        ("data/mine", "data/mine/../answers.json", False),
        ("data/mine", "/data/mine/answers.json", False),
        ("/data/mine", "/data/mine/answers.json", True),
    ],
)
def test_answers_lie_where_a_change_in_them_is_seen(root: str, answers: str | None, fits: bool) -> None:
    if fits:
        assert DatasetSection(root=root, answers=answers).answers == answers
    else:
        with pytest.raises(ValidationError, match=r"must lie below dataset\.root"):
            DatasetSection(root=root, answers=answers)


def test_folds_by_the_rarest_label_keep_nothing_together_and_say_so_before_anything_is_downloaded():
    with pytest.raises(ValidationError) as caught:
        Params.model_validate({**SMALLEST, "folds": {"method": "rarest_first", "group_by": {"blocks": 10}}})
    assert explain(caught.value, Params) == [
        "folds.method: rarest_first deals single rows; with folds.group_by use iterative"
    ]
    given = {"method": "rarest_first", "group_by": {"blocks": 10}, "column": "folds.csv"}
    assert Params.model_validate({**SMALLEST, "folds": given}).folds.column == "folds.csv"
