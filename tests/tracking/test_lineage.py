from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from labelstack.support.errors import UserError
from labelstack.tracking.lineage import experiment_tags, lineage_tags, read_lock, results_commit

LOCK = """
schema: '2.0'
stages:
  ingest:
    cmd: labelstack stage ingest
    deps:
    - {path: data/sample, hash: md5, md5: aaa.dir, size: 3, nfiles: 2}
    params:
      params.yaml: {seed: 1}
    outs:
    - {path: data/manifest/train.parquet, hash: md5, md5: bbb, size: 1}
    - {path: data/manifest/test.parquet, hash: md5, md5: ccc, size: 1}
  train@small:
    cmd: labelstack stage train small
    deps:
    - {path: data/manifest/train.parquet, hash: md5, md5: old, size: 1}
    outs:
    - {path: models/base/small, hash: md5, md5: ddd.dir, size: 1, nfiles: 2}
    - {path: metrics/train/small.json, hash: md5, md5: eee, size: 1}
  fetch:
    cmd: x
    outs:
    - {path: 's3://bucket/key', etag: fff}
    - {path: nothing}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def test_outputs_of_stages(project: Path) -> None:
    tags = lineage_tags(project, ["data/manifest/train.parquet", Path("models/base/small"), "s3://bucket/key"], "p1")
    assert tags["dvc.data/manifest/train.parquet"] == "bbb"  # the output, not what an older run depended on
    assert tags["dvc.models/base/small"] == "ddd.dir"
    assert tags["dvc.s3://bucket/key"] == "fff"
    assert tags["params.digest"] == "p1"
    assert "lineage.incomplete" not in tags


def test_a_folder_of_outputs_changes_with_each_of_them(project: Path) -> None:
    before = lineage_tags(project, ["data/manifest"], "")["dvc.data/manifest"]
    (project / "dvc.lock").write_text(LOCK.replace("ccc", "changed"))
    after = lineage_tags(project, ["data/manifest/"], "")["dvc.data/manifest"]
    assert len(before) == len(after) == 32
    assert before != after


def test_a_file_inside_an_output(project: Path) -> None:
    file = project.resolve() / "models/base/small/model.keras"
    assert lineage_tags(project, [file], "")["dvc.models/base/small/model.keras"] == "ddd.dir"


def test_sources_are_hashed_or_looked_up(project: Path) -> None:
    (project / "own.json").write_text("{}")
    (project / "big.dvc").write_text("outs:\n- {md5: 123.dir, path: big}\n")
    tags = lineage_tags(project, ["own.json", "big", "data/sample"], "")
    assert tags["dvc.own.json"] == hashlib.md5(b"{}").hexdigest()
    assert tags["dvc.big"] == "123.dir"
    assert tags["dvc.data/sample"] == "aaa.dir"


def test_unknown_inputs_are_admitted(project: Path) -> None:
    tags = lineage_tags(project, ["gone", "nothing", "models/base/small"], "")
    assert tags["lineage.incomplete"] == "true"
    assert [key for key in tags if key.startswith("dvc.")] == ["dvc.models/base/small"]


def test_without_a_lock_everything_is_unknown(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == {"outs": {}, "deps": {}}
    assert lineage_tags(tmp_path, ["x"], "p") == {"lineage.incomplete": "true", "params.digest": "p"}


def test_a_hash_that_looks_like_a_number_is_a_text(tmp_path: Path) -> None:
    hashes = ["12345678901234567890123456789012", "1234567890123456789012345678e901", "0o7", "1:20", "true"]
    outs = "".join(f"    - {{path: out-{n}, md5: {value}}}\n" for n, value in enumerate(hashes))
    (tmp_path / "dvc.lock").write_text(f"stages:\n  one:\n    outs:\n{outs}")
    assert list(read_lock(tmp_path)["outs"].values()) == hashes


def test_a_broken_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.lock: line 1, column 10: not valid YAML"):
        lineage_tags(tmp_path, [], "")


def test_git_state(project: Path) -> None:
    git(project, "init", "-q")
    for name in ("code.py", "metrics/train/small.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("1")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    tags = lineage_tags(project, [], "")
    assert tags["git.commit"] == git(project, "rev-parse", "HEAD").strip()
    assert tags["git.dirty"] == "false"
    (project / "metrics/train/small.json").write_text("2")  # what the pipeline writes itself doesn't count
    (project / "dvc.lock").write_text(LOCK + "\n")
    (project / "untracked").write_text("")
    assert lineage_tags(project, [], "")["git.dirty"] == "false"
    (project / "code.py").write_text("2")
    assert lineage_tags(project, [], "")["git.dirty"] == "true"


def test_without_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    assert not [key for key in lineage_tags(project, [], "") if key.startswith("git.")]
    monkeypatch.setitem(os.environ, "PATH", "")
    assert not [key for key in lineage_tags(project, [], "") if key.startswith("git.")]


def test_credentials_stay_out(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: {a: {cmd: x, outs: [{path: 'https://u:secret@h/x', etag: e1}]}}")
    tags = lineage_tags(tmp_path, ["https://u:secret@h/x"], "")
    assert tags["dvc.https://h/x"] == "e1"
    assert "secret" not in str(tags)


def test_experiments_of_dvc_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c" * 40)
    assert experiment_tags() == {}
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    assert experiment_tags() == {
        "labelstack.experiment": "quick-fox",
        "labelstack.experiment_baseline": "c" * 40,
    }


def test_the_commit_of_results(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    assert results_commit(project, "train@small", "metrics/train/small.json") == (
        None,
        "this folder is not in a git repository with a commit",
    )
    out = project / "models/base/small.json"
    out.parent.mkdir(parents=True)
    out.write_text("result")
    md5 = hashlib.md5(b"result").hexdigest()
    git(project, "init", "-q")
    (project / "dvc.lock").unlink()
    git(project, "commit", "-q", "--allow-empty", "-m", "start")
    assert results_commit(project, "a", "models/base/small.json")[1] == "dvc.lock is not committed"
    lock = f"stages: {{a: {{cmd: x, outs: [{{path: models/base/small.json, hash: md5, md5: {md5}}}]}}}}\n"
    (project / "dvc.lock").write_text(lock)
    git(project, "add", "dvc.lock")
    git(project, "commit", "-qm", "lock")
    assert results_commit(project, "a", "models/base/small.json")[1] == "dvc.yaml, params.yaml is not committed"
    for name in ("dvc.yaml", "params.yaml"):
        (project / name).write_text("{}\n")
    git(project, "add", "dvc.yaml", "params.yaml")
    git(project, "commit", "-qm", "results")
    head = git(project, "rev-parse", "HEAD").strip()
    assert results_commit(project, "a", "models/base/small.json") == (head, "")
    assert results_commit(project, "b", "models/base/small.json")[0] is None
    out.write_text("another")
    commit, reason = results_commit(project, "a", "models/base/small.json")
    assert commit is None
    assert "is not the one that the committed dvc.lock names" in reason
    out.write_text("result")
    (project / "params.yaml").write_text("{a: 1}\n")
    assert results_commit(project, "a", "models/base/small.json") == (
        None,
        "params.yaml changed since the last commit",
    )
