from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from labelstack.params import digest
from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker, connect, runs_of_experiment

PNG = b"\x89PNG\r\n\x1a\n picture"


def test_a_run_holds_what_was_logged(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "thresholds.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.keras").write_bytes(b"weights")
    with tracker.run("train", "small", params={"model.size": 64, "units": [1, 2]}, tags={"dvc.data/x": "ab"}) as run:
        run.log_metrics({"loss": 0.5, "absent": None}, step=0)
        run.log_metrics({"loss": 0.25}, step=1)
        run.log_metrics({"samples_f1": 0.75})
        run.log_artifact(tmp_path / "thresholds.json", "")
        run.log_artifacts(tmp_path / "model", "model")
        run.log_bytes(PNG, "plots/curves.png")
        run.log_bytes(b"hello", "note.txt")
        run.log_bytes('{"ä": 1}'.encode(), "deep/er/x.json")
    found = tracker.client.get_run(run.run_id)
    assert found.info.run_name == "train/small"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"model.size": "64", "units": "[1, 2]"}
    assert found.data.metrics == {"loss": 0.25, "samples_f1": 0.75} == run.metrics
    assert found.data.tags["dvc.data/x"] == "ab"
    assert found.data.tags["labelstack.stage"] == "train"
    assert found.data.tags["params.digest"] == run.params_digest
    history = tracker.client.get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.5), (1, 0.25)]
    place = tracker.root / "mlartifacts" / run.run_id / "artifacts"
    assert {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()} == {
        "thresholds.json",
        "model/model.keras",
        "plots/curves.png",
        "note.txt",
        "deep/er/x.json",
    }
    assert (place / "plots/curves.png").read_bytes() == PNG


def test_many_and_long_params(tracker: Tracker) -> None:
    long = "x" * 20_000
    with tracker.run("train", "many", params={f"p{i}": i for i in range(250)} | {"long": long}) as run:
        pass
    found = tracker.client.get_run(run.run_id).data.params
    assert len(found) == 251
    assert found["p249"] == "249"
    assert len(found["long"]) <= 6000
    assert found["long"].startswith("xxx")
    assert "sha256:" in found["long"]


def test_long_histories_go_in_batches(tracker: Tracker) -> None:
    rows = [{"epoch": e, "loss": 1 / (e + 1), "f1": math.nan if e == 0 else 0.5} for e in range(700)]
    with tracker.run("train", "long") as run:
        run.log_history(rows)
    assert len(tracker.client.get_metric_history(run.run_id, "loss")) == 700
    assert math.isnan(tracker.client.get_metric_history(run.run_id, "f1")[0].value)
    assert run.metrics == {"loss": pytest.approx(1 / 700), "f1": 0.5}


def test_resuming_keeps_every_step_once(tracker: Tracker) -> None:
    params = {"a": 1}
    with suppress(RuntimeError), tracker.run("train", "m", params=params) as first:
        first.log_metrics({"loss": 3.0}, step=0)
        first.log_metrics({"loss": 2.0}, step=1)
        raise RuntimeError("killed")
    assert tracker.client.get_run(first.run_id).info.status == "FAILED"
    with tracker.run("train", "m", params=params, run_id=first.run_id) as second:
        assert second.resumed
        for step, loss in enumerate([3.0, 2.0, 1.0]):
            second.log_metrics({"loss": loss}, step=step)
        second.log_metrics({"f1": 0.5})
    assert second.run_id == first.run_id
    history = tracker.client.get_metric_history(first.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert tracker.client.get_run(first.run_id).info.status == "FINISHED"
    assert second.metrics == {"loss": 1.0, "f1": 0.5}


def test_final_figures_are_replaced_not_doubled(tracker: Tracker) -> None:
    with tracker.run("train", "m", params={"a": 1}, tags={"dvc.x": "1", "params.digest": "abc"}) as run:
        run.log_metrics({"f1": 0.5, "same": 0.5})
        run.log_metrics({"f1": 0.4})
    ended = tracker.client.get_run(run.run_id).info.end_time
    time.sleep(0.01)
    with tracker.run("train", "m", run_id=run.run_id) as again:
        again.log_metrics({"f1": 0.25, "same": 0.5})
    found = tracker.client.get_run(run.run_id)
    assert found.data.metrics["f1"] == 0.25 == again.metrics["f1"]
    assert len(tracker.client.get_metric_history(run.run_id, "same")) == 1
    assert found.info.end_time == ended  # adding figures later doesn't make the training longer
    assert again.params_digest == "abc" == found.data.tags["params.digest"]
    assert again.tags["dvc.x"] == "1"


def test_final_figure_of_a_curve_stands_at_its_last_step(tracker: Tracker) -> None:
    with tracker.run("train", "m") as run:
        run.log_history([{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}])
        run.log_metrics({"loss": 1.5})
    assert tracker.client.get_run(run.run_id).data.metrics["loss"] == 1.5
    assert {m.step for m in tracker.client.get_metric_history(run.run_id, "loss")} == {0, 1}


@pytest.mark.parametrize("run_id", ["0123456789abcdef0123456789abcdef", "not/a run"])
def test_a_run_that_vanished_is_begun_anew(tracker: Tracker, run_id: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), tracker.run("train", "m", run_id=run_id) as run:
        assert not run.resumed
    assert run.run_id != run_id
    assert "starting a new one" in caplog.text
    assert not tracker.has_run(run_id)
    assert tracker.has_run(run.run_id)


def test_a_deleted_run_is_begun_anew(tracker: Tracker) -> None:
    with tracker.run("train", "m") as first:
        pass
    tracker.client.delete_run(first.run_id)
    with tracker.run("train", "m", run_id=first.run_id) as second:
        pass
    assert second.run_id != first.run_id


def test_other_params_are_another_run(tracker: Tracker) -> None:
    with tracker.run("train", "m", params={"a": 1}) as first:
        pass
    with tracker.run("train", "m", params={"a": 2}, run_id=first.run_id) as second:
        pass
    assert second.run_id != first.run_id
    assert tracker.client.get_run(first.run_id).data.params == {"a": "1"}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(3), "FAILED")]
)
def test_an_error_ends_the_run_and_goes_on(tracker: Tracker, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracker.run("train", "m") as run:
        raise error
    assert tracker.client.get_run(run.run_id).info.status == status


def test_the_first_error_is_the_one_that_is_seen(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    def gone(*_: object) -> None:
        raise MlflowException("server gone")

    monkeypatch.setattr(tracker.client, "set_terminated", gone)
    with pytest.raises(ZeroDivisionError), tracker.run("train", "m"):
        raise ZeroDivisionError
    assert "server gone" in caplog.text
    with pytest.raises(UserError, match=r"end the run \(train/m\)"), tracker.run("train", "m"):
        pass


def test_missing_artifacts_are_named(tracker: Tracker, tmp_path: Path) -> None:
    with tracker.run("train", "m") as run:
        with pytest.raises(UserError, match="no such file"):
            run.log_artifact(tmp_path / "gone.json")
        with pytest.raises(UserError, match="no such folder"):
            run.log_artifacts(tmp_path / "gone")


def test_tags_hold_no_secret_and_are_cut(tracker: Tracker) -> None:
    with tracker.run("blend", "ensemble", tags={"source": "s3://key:secret@host/x and http://a:b@c/"}) as run:
        run.set_tags({"long": "y" * 9000})
    tags = tracker.client.get_run(run.run_id).data.tags
    assert tags["source"] == "s3://host/x and http://c/"
    assert len(tags["long"]) <= 8000


def test_source_columns_of_the_ui_are_filled(tracker: Tracker) -> None:
    with tracker.run("train", "m", tags={"git.commit": "c" * 40}) as run:
        pass
    tags = tracker.client.get_run(run.run_id).data.tags
    assert tags["mlflow.source.git.commit"] == "c" * 40
    assert tags["mlflow.user"]


def test_url(tracker: Tracker) -> None:
    with tracker.run("train", "m") as run:
        pass
    page = f"/#/experiments/{tracker.experiment_id}/runs/{run.run_id}"
    assert tracker.url(run.run_id) == "http://127.0.0.1:5000" + page
    assert tracker.url(run.run_id, "https://mlflow.example/") == "https://mlflow.example" + page


def test_digest_of_params_is_the_default(tracker: Tracker) -> None:
    with tracker.run("train", "m", params={"a": 1}) as run:
        pass
    assert run.params_digest == digest({"a": "1"})


def test_a_deleted_experiment_is_explained(tracker: Tracker) -> None:
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(UserError, match="was deleted: restore it"):
        connect(TrackingSection(), tracker.root)


def test_connecting_again_finds_the_experiment(tracker: Tracker) -> None:
    assert connect(TrackingSection(), tracker.root).experiment_id == tracker.experiment_id
    assert connect(TrackingSection(experiment="other"), tracker.root).experiment_id != tracker.experiment_id


def test_several_processes_may_begin_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from labelstack.tracking.runs import connect\n"
        "from labelstack.params.tracking import TrackingSection\n"
        "tracker = connect(TrackingSection(experiment='new'), sys.argv[1])\n"
        "with tracker.run('train', 'm') as run: run.log_metrics({'f1': 0.5})\n"
        "print(tracker.experiment_id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert {err for _, err in outputs} == {b""}  # no chatter from MLflow or alembic
    tracker = connect(TrackingSection(experiment="new"), tmp_path)
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 3


def test_importing_is_light() -> None:
    code = (
        "import sys, labelstack.tracking.runs, labelstack.registry.versions, labelstack.tracking.lineage, "
        "labelstack.tracking.run_file, labelstack.ensemble.ensemble\n"
        "print(sorted({'mlflow', 'tensorflow', 'pandas', 'xgboost', 'dvc', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_of_a_dvc_experiment(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    with tracker.run("train", "m", params={"a": 1}, tags={"dvc.x": "1"}) as baseline:
        baseline.log_metrics({"f1": 0.5})
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c" * 40)
    with tracker.run("stack", "s") as stacked:
        pass
    for _ in range(2):  # a stage that is run again in the same experiment
        with tracker.run("train", "m", run_id=baseline.run_id) as own:
            own.log_metrics({"f1": 0.75})
    with tracker.run("train", "m", run_id=own.run_id) as again:
        pass
    assert again.run_id == own.run_id != baseline.run_id
    found = runs_of_experiment(tracker, "quick-fox")
    assert [run.info.run_id for run in found] == [stacked.run_id, own.run_id]
    assert {run.data.tags["labelstack.experiment_baseline"] for run in found} == {"c" * 40}
    assert found[1].data.params == {"a": "1"}
    assert found[1].data.tags["dvc.x"] == "1"
    assert found[1].data.tags["labelstack.continues"] == baseline.run_id
    assert found[1].data.metrics == {"f1": 0.75}
    old = tracker.client.get_run(baseline.run_id)
    assert old.data.metrics == {"f1": 0.5}
    assert "labelstack.experiment" not in old.data.tags
    assert runs_of_experiment(tracker, "it's none") == []
