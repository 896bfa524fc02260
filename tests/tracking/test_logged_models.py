"""Datasets and models of runs: named once, stored once, kept while the server is away, left out where unknown."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labelstack.params.metric import MetricSection
from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import entries, outbox
from labelstack.tracking.datasets import Dataset
from labelstack.tracking.journal import Journal
from labelstack.tracking.logged_models import model_name, tensor_signature
from labelstack.tracking.run import Run
from labelstack.tracking.runs import Tracker, connect
from labelstack.tracking.views import save_view, view_url
from tracking.servers import Server, proxy


def dataset(name: str = "mine train", context: Any = "train", **changes: Any) -> Dataset:
    source = {"uri": "data/images/train"}
    return Dataset(name, "abc123", context, source, {"images": 7, "labels": 3, "positives": 9} | changes)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "folds"
    (folder / "fold-1").mkdir(parents=True)
    (folder / "fold-1" / "weights").write_text("one")
    (folder / "spec.json").write_text("{}")
    return folder


def log(run: Run, weights: Path) -> None:
    run.log_datasets(dataset(), dataset("mine validation", "validation"))
    shape = tensor_signature([-1, 2, 3], [-1, 3])
    run.log_model("trees", weights, "stacker", {"depth": 2, "where": "http://u:secret@h/x"}, shape)
    run.log_metrics({"samples_f1": 0.5, "micro_f1": 0.25}, model="trees", dataset=dataset("mine validation"))
    run.log_metrics({"seconds": 1.0})


def check(tracker: Tracker, run_id: str) -> None:
    run = tracker.client.get_run(run_id)
    inputs = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert len(run.inputs.dataset_inputs) == len(inputs) == 2
    assert {n: one.tags[0].value for n, one in inputs.items()} == {
        "mine train": "train",
        "mine validation": "validation",
    }
    seen = inputs["mine train"].dataset
    assert json.loads(seen.source) == {"uri": "data/images/train"}
    assert json.loads(seen.profile) == {"num_rows": 7, "images": 7, "labels": 3, "positives": 9}
    assert [column["name"] for column in json.loads(seen.schema)["mlflow_colspec"]] == ["image_id", "image", "label_id"]
    found = tracker.client.search_logged_models([tracker.experiment_id], f"source_run_id = '{run_id}'")
    assert [model.name for model in found] == ["trees"]
    (model,) = found
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert (model.model_type, str(model.status), model.params["depth"]) == ("stacker", "READY", "2")
    assert "secret" not in str(model.params)
    scored = {m.key: (m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    assert scored == {k: (v, "mine validation", "abc123") for k, v in {"samples_f1": 0.5, "micro_f1": 0.25}.items()}
    assert len(model.metrics) == 2
    assert run.data.metrics == {"samples_f1": 0.5, "micro_f1": 0.25, "seconds": 1.0}
    assert model_files(tracker, model.model_id) == {"MLmodel", "spec.json", "fold-1/weights"}
    assert tracker.client.list_artifacts(run_id) == []  # the weights lie in one place
    assert run.info.status == "FINISHED"


def model_files(tracker: Tracker, model_id: str, folder: str | None = None) -> set[str]:
    found = set()
    for info in tracker.client.list_logged_model_artifacts(model_id, folder):
        found |= model_files(tracker, model_id, info.path) if info.is_dir else {info.path}
    return found


def test_a_run_names_its_data_and_holds_its_model(tracker: Tracker, weights: Path) -> None:
    with tracker.run("stack", "trees", params={"p": 1}) as run:
        log(run, weights)
    check(tracker, run.run_id)
    with tracker.run("stack", "trees", params={"p": 1}, run_id=run.run_id) as again:  # a resumed run
        log(again, weights)
    assert again.run_id == run.run_id
    check(tracker, run.run_id)


def test_mlflow_reads_the_description_of_a_model(tracker: Tracker, weights: Path, tmp_path: Path) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    with tracker.run("stack", "trees") as run:
        log(run, weights)
    model_id = tracker.client.get_run(run.run_id).outputs.model_outputs[0].model_id
    with tracker.as_default():
        folder = download_artifacts(f"models:/{model_id}", dst_path=str(tmp_path / "got"))
    assert (Path(folder) / "fold-1" / "weights").read_text() == "one"
    model = Model.load(str(Path(folder) / "MLmodel"))
    assert (model.model_id, model.run_id) == (model_id, run.run_id)
    assert model.signature.inputs.inputs[0].shape == (-1, 2, 3)
    assert model.signature.outputs.inputs[0].shape == (-1, 3)
    assert model.flavors["labelstack"]["kind"] == "stacker"
    assert model.flavors["labelstack"]["data"] == ["fold-1", "spec.json"]


def test_a_model_that_a_killed_attempt_left_behind_is_finished(tracker: Tracker, weights: Path) -> None:
    with tracker.run("stack", "trees") as run:
        left = tracker.client.create_logged_model(
            tracker.experiment_id, "trees", source_run_id=run.run_id, params={"depth": "2"}, model_type="stacker"
        )
        log(run, weights)
    check(tracker, run.run_id)
    assert tracker.client.get_run(run.run_id).outputs.model_outputs[0].model_id == left.model_id


def test_models_of_the_same_name_belong_to_their_own_runs(tracker: Tracker, weights: Path) -> None:
    runs = []
    for _ in range(2):
        with tracker.run("stack", "trees") as run:
            log(run, weights)
        runs.append(run.run_id)
    for run_id in runs:
        check(tracker, run_id)


def test_an_absent_model_is_named(tracker: Tracker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such file or folder to store as the model"):  # noqa: SIM117
        with tracker.run("stack", "trees") as run:
            run.log_model("trees", tmp_path / "absent", "stacker", {})


def test_names_and_sources_hold_no_credentials_and_fit(tracker: Tracker) -> None:
    assert model_name("a/b:c.d%e\"f'g") == "a_b_c_d_e_f_g"
    secret = Dataset(
        "https://u:secret@h/data?X-Amz-Signature=secret " + "x" * 600, "d" * 50, "test",
        {"uri": "s3://key:secret@bucket/x"}, {"images": 1},
    )  # fmt: skip
    assert "secret" not in json.dumps(secret.to_dict())
    with tracker.run("predict", "m") as run:
        run.log_datasets(secret)
    (held,) = tracker.client.get_run(run.run_id).inputs.dataset_inputs
    assert len(held.dataset.name) == 500


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mortal")
    shutil.copyfile(empty_database, folder / "s.db")
    server = Server(folder)
    server.start()
    yield server
    server.kill()


def test_what_a_dead_server_did_not_take_is_uploaded_once(
    mortal: Server, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = connect(TrackingSection(uri=mortal.uri), tmp_path)
    with tracker.run("stack", "trees") as run:
        mortal.kill()
        log(run, weights)
        shutil.rmtree(weights)
    assert "entries of the run stack/trees kept in" in caplog.text
    (left,) = outbox.pending(tmp_path)
    shutil.copytree(left, tmp_path / "copy")
    mortal.start()
    again = connect(TrackingSection(uri=mortal.uri), tmp_path)
    check(again, run.run_id)
    shutil.copytree(tmp_path / "copy", left)  # as if the last upload had been killed before it was remembered
    assert outbox.upload_folder(again.client, again.uri, left)
    check(again, run.run_id)


def test_an_upload_killed_after_any_request_goes_on(tracker: Tracker, weights: Path, tmp_path: Path) -> None:
    with tracker.run("stack", "trees") as run:
        left = outbox.folder_of(tracker.root, tracker.public_uri, run.run_id)
        run.outbox._journal = Journal.open(left, run.outbox._header)
        run.outbox._next = float("inf")
        log(run, weights)
        run.outbox.close = lambda: run.outbox._journal.close()  # type: ignore[method-assign, union-attr]
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from labelstack.tracking import outbox, store\n"
        "client, count = store.open_client(sys.argv[1]), 0\n"
        "def counted(call):\n"
        "    def called(*args, **more):\n"
        "        global count\n"
        "        answer = call(*args, **more)\n"
        "        count += 1\n"
        "        if count == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return answer\n"
        "    return called\n"
        "for name in ('log_inputs', 'create_logged_model', 'log_model_artifact', 'log_model_artifacts',\n"
        "             'finalize_logged_model', 'log_outputs', 'log_batch'):\n"
        "    setattr(client, name, counted(getattr(client, name)))\n"
        "outbox.upload_folder(client, sys.argv[1], Path(sys.argv[2]))\n"
    )
    for after in (2, 2, 3, 4):  # after the model was made, then one request further each time
        command = [sys.executable, "-c", code, tracker.uri, str(left), str(after)]
        assert subprocess.run(command, check=False, env=os.environ).returncode == -signal.SIGKILL
        assert left.exists()
    assert outbox.upload_folder(tracker.client, tracker.uri, left) is not None
    check(tracker, run.run_id)


@pytest.mark.parametrize(("status", "words"), [(404, ("logged-models",)), (501, ("logged-models", "log-inputs"))])
def test_a_server_without_logged_models_gets_the_files_with_the_run(
    status: int, words: tuple[str, ...], mortal: Server, weights: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    with proxy(mortal.port, lambda _, path: any(word in path for word in words), status=status) as uri:
        tracker = connect(TrackingSection(uri=uri), tmp_path)
        for _ in range(2):
            with tracker.run("stack", "trees") as run:
                log(run, weights)
        found = tracker.client.get_run(run.run_id)
        files = {info.path for info in tracker.client.list_artifacts(run.run_id)}
        assert files == {"model"}
    assert found.info.status == "FINISHED"
    assert found.data.metrics["samples_f1"] == 0.5
    assert bool(found.inputs.dataset_inputs) == ("log-inputs" not in words)
    assert caplog.text.count("takes no datasets or logged models") == 1
    assert not (tmp_path / "mlpending").exists()
    assert uri in entries._warned


def test_an_experiment_continues_with_the_same_inputs(
    tracker: Tracker, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracker.run("stack", "trees") as run:
        log(run, weights)
    monkeypatch.setenv("DVC_EXP_NAME", "other")
    with tracker.run("stack", "trees", run_id=run.run_id) as continued:
        continued.log_datasets(dataset(), dataset("mine test", "test"))
        continued.log_metrics({"samples_f1": 0.75}, model="trees", dataset=dataset("mine validation"))
    check(tracker, run.run_id)  # the run that it started from is as it was, its model too
    found = tracker.client.get_run(continued.run_id)
    assert found.data.metrics["samples_f1"] == 0.75
    names = [one.dataset.name for one in found.inputs.dataset_inputs]
    assert sorted(names) == ["mine test", "mine train", "mine validation"]
    model = tracker.client.get_run(run.run_id).outputs.model_outputs[0].model_id
    assert [one.model_id for one in found.inputs.model_inputs] == [model]
    assert found.outputs is None or found.outputs.model_outputs == []


def test_the_view_of_the_scores_is_saved_once(tracker: Tracker) -> None:
    def saved() -> dict[str, Any]:
        tags = tracker.client.get_experiment(tracker.experiment_id).tags
        return dict(json.loads(tags["mlflow.sharedViewState.labelstack"]))

    save_view(tracker, MetricSection(primary="macro", beta=2))
    first = saved()
    state = json.loads(first["state"])
    assert state["orderByKey"] == "metrics.`macro_f2_cross_fitted`"
    assert "metrics.`samples_f2_cross_fitted`" in state["selectedColumns"]
    save_view(tracker, MetricSection(primary="macro", beta=2))
    assert saved() == first
    save_view(tracker, MetricSection())
    assert "metrics.`samples_f1_cross_fitted`" in saved()["state"]
    tracker.client.set_experiment_tag(tracker.experiment_id, "mlflow.sharedViewState.labelstack", "{damaged")
    save_view(tracker, MetricSection())
    assert saved()["name"] == "Cross-fitted scores"
    assert view_url("3", "http://h:1/").startswith("http://h:1/#/experiments/3/runs?viewStateShareKey=labelstack")
