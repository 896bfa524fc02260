"""Champions: what the stage `register` decides, and what a person decides with `labelstack promote`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from labelstack.commands import promote as promoting
from labelstack.params.tracking import TrackingSection
from labelstack.registry.champions import champion, history
from labelstack.registry.versions import all_versions, read_version, register
from labelstack.stages import register as registering
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker, connect
from registry.versions import Logs
from tiny import Workspace, typed


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def another(workspace: Workspace, **change: Any) -> str:
    """Blend in another way and register that; what `register` printed."""
    workspace.params(**change)
    return workspace.run(*typed(*(f"stage {name}" for name in ("blend", "evaluate", "submit", "register")))).stdout


def promote(*arguments: str, reason: str = "") -> None:
    """`labelstack promote` in this process and folder."""
    version = next((text for text in arguments if text != "--back"), None)
    promoting.run(version, reason=reason, back="--back" in arguments)


def ensemble_metrics(tracker: Tracker, workspace: Workspace) -> dict[str, float]:
    run = json.loads((workspace.root / "models/ensemble/run.json").read_text())
    return dict(tracker.client.get_run(run["run_id"]).data.metrics)


def test_by_interval_by_hand_and_back(
    copied: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = connect(TrackingSection(), copied.root)
    monkeypatch.chdir(copied.root)
    assert read_version(tracker, "labelstack", 1).tags["labelstack.promotion"] == "champion: there was none before"
    with pytest.raises(UserError, match="nothing to go back to"):
        promote("--back", reason="x")

    said = another(copied, thresholds={"strategy": "fixed", "fixed": 0.05})
    assert "labelstack v2 (new version)" in said
    assert "promotion: v1 stays champion: this one is worse (-" in said
    measured = ensemble_metrics(tracker, copied)
    assert measured["promotion_low"] < measured["promotion_difference"] < measured["promotion_high"] < 0
    assert champion(tracker, "labelstack") == 1
    version = read_version(tracker, "labelstack", 2)
    assert version.aliases == ["candidate"]
    assert version.tags["labelstack.compared_with"] == "labelstack/1"
    assert version.tags["labelstack.promotion"] in said

    said = copied.run("labelstack", "promote", "2", "--reason", "fewer false alarms").stdout
    assert re.search(r"v2 against v1: -0\.\d{4} samples F1, 95 % interval -0\.\d{4} … -0\.\d{4}", said)
    assert "champion of labelstack is v2 (was v1)" in said
    assert champion(tracker, "labelstack") == 2
    with pytest.raises(UserError, match="labelstack v2 is champion already"):
        promote("@champion", reason="x")

    said = another(copied, thresholds={"strategy": "auto", "fixed": 0.3}, blend={"method": "equal"})
    assert "labelstack v3 (new version)" in said
    assert "promotion: champion: better than v2 on the same data (+" in said
    assert champion(tracker, "labelstack") == 3
    assert ensemble_metrics(tracker, copied)["promotion_low"] > 0
    before = read_version(tracker, "labelstack", 3)
    again = copied.run("labelstack", "stage", "register").stdout
    assert "labelstack v3 (registered before)" in again
    assert before.tags["labelstack.promotion"] in again
    assert read_version(tracker, "labelstack", 3).last_updated_timestamp == before.last_updated_timestamp

    for to in (2, 1):
        promote("--back", reason="too slow")
        assert f"champion of labelstack is v{to} (was v{to + 1})" in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing to go back to"):
        promote("--back", reason="x")
    assert [(move.before, move.after, move.how) for move in history(tracker, "labelstack")] == [
        (None, 1, "first"), (1, 2, "by hand"), (2, 3, "compared"), (3, 2, "back"), (2, 1, "back"),
    ]  # fmt: skip

    table = copied.run("labelstack", "promote").stdout
    for number in (1, 2, 3):
        (line,) = [line for line in table.splitlines() if line.startswith(f" v{number} ")]
        tags = read_version(tracker, "labelstack", number).tags
        score, low, high = (f"{float(text):.4f}" for text in tags["labelstack.score"].split())
        assert f"{score} samples F1" in line
        assert f"{low} … {high}" in line
        assert tags["labelstack.data_digest"] in line
        assert ("champion" in line, "candidate" in line) == (number == 1, number == 3)
        assert f"v{number}  {tags['labelstack.promotion']}" in table
    assert re.search(r"v3 → v2 by \S+ \(back\): too slow", table)
    assert len({version.tags["labelstack.data_digest"] for version in all_versions(tracker, "labelstack")}) == 1


def test_the_version_page(finished: Workspace, copied: Workspace) -> None:
    tracker = connect(TrackingSection(), copied.root)
    version = read_version(tracker, "labelstack", 1)
    scores = json.loads((finished.root / "metrics/evaluation.json").read_text())["scores"]["blend"]
    submission = json.loads((finished.root / "metrics/submission.json").read_text())
    tags = version.tags
    assert tags["labelstack.submission_sha256"] == submission["sha256"]
    assert re.fullmatch("[0-9a-f]{64}", tags["labelstack.files_digest"])
    assert tags["labelstack.metric"] == "samples_f1_cross_fitted"
    assert {"git.commit", "git.dirty", "params.digest", "labelstack.ensemble_digest"} <= set(tags)
    assert len(version.description) <= 5000
    for part in (
        tags["labelstack.data_digest"], tags["labelstack.files_digest"], tags["git.commit"], version.run_id,
        submission["sha256"], f"{scores['samples_f1_cross_fitted']:.4f}", "| validation | 60 | 0 |",
        "labelstack rebuild models:/labelstack/1 --to rebuilt --verify", "xgboost", tags["labelstack.promotion"],
    ):  # fmt: skip
        assert part in version.description, part
    for average in ("samples", "micro", "macro"):
        assert re.search(rf"\| {average} F1 \| 0\.\d{{4}} \| 0\.\d{{4}} … 0\.\d{{4}} \|", version.description)
    with tracker.as_default():
        import mlflow

        card = mlflow.artifacts.load_text(f"runs:/{version.run_id}/model_card.md")
    assert card.startswith(version.description[:100])


def test_a_registration_that_lost_its_card_gets_it_again(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = connect(TrackingSection(), copied.root)
    monkeypatch.chdir(copied.root)
    card = read_version(tracker, "labelstack", 1).description
    for left, then in (("", card), ("my own words", "my own words")):
        tracker.client.update_model_version("labelstack", "1", left)
        registering.run()
        assert read_version(tracker, "labelstack", 1).description == then
    assert len(all_versions(tracker, "labelstack")) == 1


def test_a_mistake_is_told_without_a_traceback(finished: Workspace) -> None:
    result = finished.run("labelstack", "promote", "7", "--reason", "x", ok=False)
    assert result.returncode == 2
    assert "7: no such version of labelstack in sqlite:///mlflow.db (there are: 1, @candidate" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason", "said"),
    [
        (("best",), "x", "expected a version like 3"),
        (("1",), "", "say why"),
        (("1",), "  ", "say why"),
        (("--back",), "", "say why"),
        (("1", "--back"), "x", "leave --back out"),
        ((), "x", "which version?"),
        (("v1",), "x", "labelstack v1 is champion already"),
    ],
)
def test_mistakes(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str, said: str
) -> None:
    monkeypatch.chdir(finished.root)
    with pytest.raises(UserError, match=re.escape(said)):
        promote(*arguments, reason=reason)


def test_a_champion_that_somebody_moves_meanwhile(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = connect(TrackingSection(), copied.root)
    monkeypatch.chdir(copied.root)
    for digest in ("d2", "d3"):
        register(tracker, "labelstack", digest, Logs(tracker))
    compare = promoting.compared

    def while_another_moves(*given: Any) -> str:
        tracker.client.set_registered_model_alias("labelstack", "champion", "3")
        return compare(*given)

    monkeypatch.setattr(promoting, "compared", while_another_moves)
    with pytest.raises(UserError, match="somebody else moved the champion just now, it is v3"):
        promote("2", reason="x")


def test_without_params_and_without_versions(
    finished: Workspace, tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI"):
        promote()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished.root}/mlflow.db")
    promote()
    assert re.search(r"v1 .*candidate, champion.* 0\.\d{4} samples F1", capsys.readouterr().out)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty.db")
    store.open_client(f"sqlite:///{tmp_path}/empty.db").search_experiments()
    promote()
    assert "labelstack: no versions in sqlite:///empty.db" in capsys.readouterr().out
    with pytest.raises(UserError, match="no versions"):
        promote("--back", reason="x")
    with pytest.raises(UserError, match="there are: none"):
        promote("1", reason="x")
