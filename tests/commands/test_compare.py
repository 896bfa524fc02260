"""`labelstack compare` on a real pipeline: revisions, a DVC experiment, versions, runs and the files here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from labelstack.commands.compare import compare as compare_command
from labelstack.commands.compare.compare import compare as compare_sides
from labelstack.commands.compare.parts import flat_params
from labelstack.ensemble.integrity import FILES_TAG, MODEL_TAG
from labelstack.params import load_params
from labelstack.report.comparison import Side, SideBySide
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import FMetric
from labelstack.scoring.scored import read_scored
from labelstack.stages.scored_sets import workspace_scored
from labelstack.support.errors import UserError
from tiny import REPOSITORY, Workspace

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
Compare = Callable[..., SideBySide]


@pytest.fixture(scope="module")
def experimented(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace with committed results and the DVC experiment `equal`, whose results lie in the files."""
    workspace = finished.copy(tmp_path_factory.mktemp("compare") / "work")
    workspace.run("git", "add", "-A")
    workspace.run(*GIT, "commit", "-qm", "results")
    workspace.run("git", "config", "user.name", "t")
    workspace.run("git", "config", "user.email", "t@example.org")
    workspace.run("dvc", "exp", "run", "-n", "equal", "-S", "blend.method=equal")
    return workspace


@pytest.fixture
def compare(experimented: Workspace, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """What the command compares, as it would in the experiment's workspace."""
    monkeypatch.chdir(experimented.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda *names, row="blend", labels=5: compare_sides(list(names), row=row, labels=labels)


def origin(side: Side, what: str) -> list[str]:
    return [text for kind, text, _ in side.origin if kind == what]


def committed(workspace: Workspace, revision: str, path: str) -> str:
    return workspace.run("git", "show", f"{revision}:{path}").stdout


def experiment_ref(workspace: Workspace) -> str:
    refs = workspace.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (ref,) = [ref for ref in refs if ref.endswith("/equal")]
    return ref


def test_command_compares_a_revision_with_an_experiment(experimented: Workspace) -> None:
    result = experimented.run(
        "labelstack", "compare", "HEAD", "equal", "--html", "out/comparison.html", "--labels", "2"
    )
    scores = [
        json.loads(committed(experimented, revision, "metrics/evaluation.json"))["scores"]["blend"]
        for revision in ("HEAD", experiment_ref(experimented))
    ]
    before, after = (row["samples_f1_cross_fitted"] for row in scores)
    assert re.search(rf"samples F1, cross-fitted +{before:.4f} +{after:.4f} +{after - before:+.4f}", result.stdout)
    assert re.search(r"DVC experiment +equal", result.stdout)
    assert re.search(r"blend.method +log_loss +equal", result.stdout)
    assert max(len(line) for line in result.stdout.splitlines() if "http" not in line) <= 100
    page = (experimented.root / "out" / "comparison.html").read_text(encoding="utf-8")
    assert f"{after - before:+.4f}" in page
    assert "<script" not in page


def test_experiment_against_its_baseline(experimented: Workspace, compare: Compare) -> None:
    found = compare("HEAD", "equal", labels=3)
    head, experiment = found.sides
    assert [(row.key, row.values) for row in found.params] == [("blend.method", ["log_loss", "equal"])]
    assert origin(experiment, "DVC experiment") == ["equal"]
    assert origin(head, "DVC experiment") == []
    run = json.loads((experimented.root / "models/ensemble/run.json").read_text())
    assert origin(experiment, "MLflow run") == [f"blend/ensemble {run['run_id']}"]
    assert head.scored is not None
    assert experiment.scored is not None
    here = workspace_scored(load_params())
    assert here.digest == head.scored.digest == experiment.scored.digest
    assert (here.chosen["blend"] == here.aligned(experiment.scored).chosen["blend"]).all()
    sets = [here.aligned(side.scored).chosen["blend"] for side in (experiment, head)]
    expected = bootstrap.paired(FMetric(), here.truth, *sets)
    first = found.against[0].differences[0]
    assert (first.difference, first.low, first.high) == pytest.approx(tuple(expected))
    assert first.reference == pytest.approx(head.rows["blend"]["samples_f1_cross_fitted"], abs=1e-6)
    names = set(head.labels.values())
    assert len(names) == here.truth.shape[1]
    assert {row.label for row in found.against[0].winners} <= names
    assert found.notes == []


def test_members_are_compared_by_their_row(compare: Compare) -> None:
    found = compare("HEAD", "equal", "version:1", row="xgboost")
    assert [side.row for side in found.sides] == ["xgboost"] * 3
    assert [against.differences[0].verdict for against in found.against] == ["equal", "equal"]


def test_versions_are_compared_by_their_record(compare: Compare) -> None:
    found = compare("1", "v2", "@champion", "models:/labelstack/2", "labelstack/1")
    assert [origin(side, "registry version")[0].split(" @")[0] for side in found.sides[:2]] == [
        "labelstack v1", "labelstack v2",
    ]  # fmt: skip
    assert "@champion" in origin(found.sides[2], "registry version")[0]
    assert all(side.scored is not None and len(side.scored.chosen) == 5 for side in found.sides)
    by_revision = compare("HEAD", "equal").against[0]
    assert found.against[0].differences[:3] == by_revision.differences[:3]
    assert found.against[0].winners == by_revision.winners
    assert found.against[3].differences[0].verdict == "equal"
    assert [(row.key, row.values[:2]) for row in found.params] == [("blend.method", ["log_loss", "equal"])]


def test_runs_are_compared_by_the_label_sets_they_logged(experimented: Workspace, compare: Compare) -> None:
    run_id = json.loads(committed_run(experimented, "HEAD"))["run_id"]
    found = compare(run_id[:8], "blend/ensemble", "equal")
    first, latest, experiment = found.sides
    assert origin(first, "MLflow run") == [f"blend/ensemble {run_id}"]
    assert origin(latest, "MLflow run") == origin(experiment, "MLflow run")
    assert found.against[0].differences[0] == found.against[1].differences[0]
    assert found.against[0].differences[0].basis == "paired"
    assert origin(latest, "registry version")[0].startswith("labelstack v2")
    assert [row.key for row in found.params] == ["blend.method"]
    single = compare("stack/xgboost", "train/wide", "run:blend/ensemble")
    assert [side.row for side in single.sides] == ["xgboost", "wide", "blend"]
    assert {against.differences[0].basis for against in single.against} == {"paired"}
    assert single.no_params.endswith("that all sides have")
    member = compare("HEAD", "run:blend/ensemble", row="wide")
    assert member.against[0].differences[0].verdict == "equal"


def committed_run(workspace: Workspace, revision: str) -> str:
    return workspace.run(
        "python", "-c", f"import dvc.api; print(dvc.api.read('models/ensemble/run.json', rev='{revision}'))"
    ).stdout


def test_every_stage_logs_its_label_sets_with_its_run(experimented: Workspace, compare: Compare) -> None:
    here = workspace_scored(load_params())
    files = list((experimented.root / "mlartifacts").glob("*/artifacts/evaluation/scored.npz"))
    logged = [read_scored(file) for file in files]
    assert sorted(name for one in logged for name in one.chosen) == ["blend", "blend", "cnn", "deep", "wide", "xgboost"]
    for one in logged:
        (name,) = one.chosen
        assert one.digest == here.digest
        if name != "blend":
            assert (here.aligned(one).chosen[name] == here.chosen[name]).all()


def test_an_experiment_is_known_to_its_runs(compare: Compare) -> None:
    (_, side) = compare("HEAD", "run:equal").sides
    assert origin(side, "DVC experiment") == ["equal"]
    assert origin(side, "registry version")[0].startswith("labelstack v2")


def test_names_left_out_are_the_champion_and_the_files(compare: Compare) -> None:
    found = compare()
    assert [side.name for side in found.sides] == ["@champion", "workspace"]
    assert found.notes[0] == "no name given: workspace is compared with the champion"
    assert found.against[0].differences[0].basis == "paired"
    assert [side.name for side in compare("HEAD").sides] == ["@champion", "HEAD"]
    assert compare("equal", "workspace").against[0].differences[0].verdict == "equal"


def test_files_that_params_have_left_behind_are_said(
    experimented: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = experimented.copy(tmp_path / "work")
    copy.params(blend={"method": "greedy"})
    (copy.root / "data/ensemble/cross_fitted.npy").unlink()
    monkeypatch.chdir(copy.root)
    found = compare_sides(["HEAD", "workspace"], row="blend", labels=1)
    assert any("changed after the stages ran (blend.method" in note for note in found.notes)
    assert any("no interval" in note and "cross_fitted.npy" in note for note in found.notes)
    assert found.against[0].why_no_labels == "no label sets of workspace"
    (copy.root / "metrics/evaluation.json").unlink()
    with pytest.raises(UserError, match=r"workspace: metrics/evaluation\.json not found; run `dvc repro`"):
        compare_sides(["HEAD", "workspace"], row="blend", labels=1)


def test_what_older_runs_and_versions_lack_is_said(
    experimented: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = experimented.copy(tmp_path / "work")
    for record in (copy.root / "mlartifacts/models").glob("*/artifacts/**/record"):
        shutil.rmtree(record)
    for sets in (copy.root / "mlartifacts").glob("*/artifacts/evaluation"):
        shutil.rmtree(sets)
    monkeypatch.chdir(copy.root)
    with pytest.raises(UserError, match="record is missing"):
        compare_sides(["1", "2"], row="blend", labels=1)
    client = MlflowClient(f"sqlite:///{copy.root}/mlflow.db")
    for version, key in product("12", (FILES_TAG, MODEL_TAG)):
        client.delete_model_version_tag("labelstack", version, key)
    found = compare_sides(["1", "2"], row="blend", labels=1)
    assert {row.basis for row in found.against[0].differences} == {"plain"}
    assert found.against[0].differences[0].difference != 0
    assert found.against[0].why_no_labels == "no label sets of 1 and 2"
    assert [row.key for row in found.params] == ["blend.method"]
    assert "1: registered without its scores and label sets: those of its MLflow run are taken" in found.notes
    assert "2: its MLflow run holds no evaluation/scored.npz, so differences have no interval" in found.notes
    member = compare_sides(["1", "2"], row="wide", labels=1).against[0].differences[0]
    assert (member.metric, member.difference) == ("samples F1, cross-fitted", 0)


def test_wrong_names_are_told_all_at_once(compare: Compare) -> None:
    with pytest.raises(UserError) as error:
        compare("HEAD", "equl", "7", "run:xgboost", "rev:@champion", "version:nine", "a::b'\"")
    text = str(error.value)
    assert "6 names were not found" in text
    assert "equl: no git revision or DVC experiment, no MLflow run of that name; did you mean equal?" in text
    assert "7: no registry version, no git revision or DVC experiment, no MLflow run" in text
    assert "run:xgboost: no MLflow run of that name; did you mean stack/xgboost?" in text
    for known in ("versions: 2, 1, @", "experiments: equal", "runs: blend/ensemble, stack/cnn", "workspace"):
        assert known in text


def test_sides_without_results_or_row_are_told_all_at_once(compare: Compare) -> None:
    with pytest.raises(UserError) as error:
        compare("HEAD~1", "HEAD", "stack/cnn", row="wider")
    text = str(error.value)
    assert "3 problems" in text
    assert re.search(r"HEAD~1: commit [0-9a-f]{12} has no metrics/evaluation.json", text)
    assert "HEAD: no row wider (there are: wide, deep, cnn, xgboost, blend)" in text
    assert "stack/cnn: no row wider (there are: cnn)" in text


def test_a_name_that_means_two_things_is_a_version_unless_said(experimented: Workspace, compare: Compare) -> None:
    experimented.run("git", "tag", "2", "HEAD")
    try:
        found = compare("2", "rev:2")
        assert [len(origin(side, "files")) for side in found.sides] == [0, 0]
        assert origin(found.sides[0], "registry version")[0].startswith("labelstack v2")
        assert origin(found.sides[1], "registry version")[0].startswith("labelstack v1")
        assert found.notes == ["2 is taken for a registry version; rev:2 is the git revision"]
    finally:
        experimented.run("git", "tag", "-d", "2")


def test_start_of_several_run_ids_is_refused(experimented: Workspace, compare: Compare) -> None:
    import sqlite3

    with sqlite3.connect(experimented.root / "mlflow.db") as store:
        ids = [row[0] for row in store.execute("select run_uuid from runs")]
    one = ids[0]
    assert compare(f"run:{one[:6]}", f"run:{one}").against[0].differences[0].verdict == "equal"
    with pytest.raises(UserError, match=f"run:{one[:5]}: no MLflow run of that name"):
        compare(f"run:{one[:5]}", "HEAD")


def test_clone_without_the_data_says_how_to_get_it_and_uses_a_remote(
    experimented: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    experimented.run("git", "clone", "-q", ".", str(clone))
    experimented.run("git", "push", "-q", str(clone), "refs/exps/*:refs/exps/*")
    monkeypatch.chdir(clone)
    found = compare_sides(["HEAD", "equal"], row="blend", labels=2)
    assert {row.basis for row in found.against[0].differences} == {"plain"}
    assert found.against[0].differences[0].difference != 0
    assert "data/ensemble/cross_fitted.npy" in found.notes[0]
    assert "`dvc pull`" in found.notes[0]
    assert "`dvc fetch --all-commits`" in found.notes[0]
    storage = tmp_path / "storage"
    experimented.run("dvc", "remote", "add", "--local", "-f", "storage", str(storage))
    experimented.run("dvc", "push", "-q", "-r", "storage", "blend", "ingest", "register")
    Workspace.existing(clone).run("dvc", "remote", "add", "-d", "--local", "storage", str(storage))
    found = compare_sides(["equal", "equal"], row="blend", labels=2)
    assert found.against[0].differences[0].verdict == "equal"
    assert "another registry" in origin(found.sides[0], "registry version")[0]


def test_params_of_another_version_of_labelstack_are_compared_as_written() -> None:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    flat, notes = flat_params(yaml.safe_dump(content))
    assert notes == []
    assert flat["metric.beta"] == "1.0"
    assert flat["blend.members"] == "[]"
    del content["blend"]
    flat, notes = flat_params(yaml.safe_dump({**content, "blender": {"speed": 3}}))
    assert flat["blender.speed"] == "3"
    assert notes == ["its params.yaml does not fit this version of labelstack: params are compared as written"]


@pytest.mark.parametrize("place", [".", "/proc/page.html", "/dev/null"])
def test_a_page_that_cannot_be_written_is_said_before_anything_is_loaded(place: str) -> None:
    with pytest.raises(UserError, match=f"^--html {place}: "):
        compare_command.run(["nothing"], html=Path(place), row="blend", labels=5)


def test_params_that_cannot_be_read_are_left_out_with_a_note():
    flat, notes = flat_params("seed: 010")
    assert flat == {}
    (note,) = notes
    assert note.startswith("its params.yaml: line 1, column 7: 010: a leading zero")
    assert note.endswith(": params are not compared")


def test_without_a_repository_or_a_store_names_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="nothing says where the registry is"):
        compare_sides([], row="blend", labels=1)
    with pytest.raises(UserError, match="rev:HEAD: no git revision or DVC experiment"):
        compare_sides(["rev:HEAD", "workspace"], row="blend", labels=1)
