"""`labelstack rebuild` against a real MLflow server, in a folder and an environment that reach nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ensemble import ensembles
from ensemble.records import WEIGHTS
from labelstack.commands import rebuild
from labelstack.commands.rebuild_folder import free_folder, restore
from labelstack.ensemble.folder import read_spec
from labelstack.ensemble.integrity import MODEL_TAG, write_list
from labelstack.ensemble.log import log_ensemble
from labelstack.ensemble.record import CHECKSUMS, write_checksums
from labelstack.params import load_params
from labelstack.params.tracking import TrackingSection
from labelstack.predictions import read_predictions, write_predictions
from labelstack.registry.versions import register
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.tracking.runs import connect
from stores import free_port
from tiny import PATIENCE, Workspace, environment
from tracking.servers import Server


@dataclass
class Registry:
    """A running MLflow server with one version, and where it keeps that version's ensemble."""

    url: str
    ensemble: Path

    def rebuild(self, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Type the command in a folder, with nothing but the registry's address in the environment."""
        return subprocess.run(
            command(*options), cwd=place, env=self.bare(place), capture_output=True, text=True, timeout=PATIENCE
        )

    def bare(self, place: Path) -> dict[str, str]:
        """An environment without workspace, git or DVC settings, and with an empty home beside the folder."""
        kept = {key: os.environ[key] for key in os.environ if key.startswith(("COV", "OMP_"))}
        home = {"HOME": str(place.with_name("home")), "MLFLOW_TRACKING_URI": self.url}
        return kept | {"PATH": "/usr/bin:/bin"} | home


def command(*options: str) -> list[str]:
    return [str(Path(sys.executable).with_name("labelstack")), "rebuild", *options]


@pytest.fixture(scope="module")
def registry(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    server = Server(folder)
    server.start()
    try:
        workspace = finished.copy(folder / "work")
        registered = subprocess.run(
            [sys.executable, "-m", "labelstack.cli", "stage", "register"],
            cwd=workspace.root,
            env=environment(quick=True) | {"MLFLOW_TRACKING_URI": server.uri},
            capture_output=True,
            text=True,
        )
        assert registered.returncode == 0, registered.stderr
        shutil.rmtree(workspace.root)
        (model,) = (folder / "artifacts").rglob("ensemble.json")
        yield Registry(server.uri, model.parent)
    finally:
        server.kill()


@pytest.fixture
def kept(registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """The registry for tampering: its files are put back afterwards."""
    model = registry.ensemble.parents[1]
    shutil.copytree(model, tmp_path / "kept")
    yield registry
    shutil.rmtree(model)
    shutil.copytree(tmp_path / "kept", model)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Path:
    """An empty current folder, from which only the registry is seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
    return tmp_path / "here"


def test_verify_and_submit_give_back_what_was_registered_bit_for_bit(
    finished: Workspace, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    result = registry.rebuild(tmp_path / "here", "models:/labelstack/1", "--to", "again", "--verify", "--submit")
    assert result.returncode == 0, result.stderr
    row = r"^(\w+) +(base model|stacker|blend|label sets) +(\d+) +(\S+)(?: images)? +ok"
    rows = re.findall(row, result.stdout, re.M)
    assert rows == [
        ("wide", "base model", "40", "0"),
        ("deep", "base model", "40", "0"),
        ("cnn", "stacker", "40", "0"),
        ("xgboost", "stacker", "40", "0"),
        ("blend", "blend", "40", "0"),
        ("blend", "label sets", "40", "0"),
    ]
    assert "not a bit may differ" in result.stdout
    assert "maximum absolute difference 0;" in result.stdout
    again = tmp_path / "here" / "again"
    written = json.loads((finished.root / "metrics/submission.json").read_text())
    (submission,) = (again / "submission").iterdir()
    assert storage.sha256(submission) == written["sha256"]
    assert submission.read_bytes() == finished.submission()
    assert written["sha256"] in result.stdout

    restored = {file.relative_to(again).as_posix() for file in again.rglob("*") if file.is_file()}
    made_new = {"REBUILD.md"} | {name for name in restored if name.startswith(("record/", "src/"))}
    for name in restored - made_new:
        assert (again / name).read_bytes() == (finished.root / name).read_bytes(), name
    assert restored - made_new >= {
        "params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock", "metrics/evaluation.json",
        "models/networks/wide/all/model.keras", "models/networks/deep/all/model.keras",
        "models/stackers/cnn/folds/fold-1/model.keras",
        "models/stackers/xgboost/folds/config.json", "models/ensemble/blend.json", "models/ensemble/thresholds.json",
        "data/manifest/labels.parquet", "data/predictions/wide/test.npy", "data/stacked/cnn/test.npy",
        "data/ensemble/test.npy",
    }  # fmt: skip
    assert "src/labelstack/commands/rebuild.py" in restored
    commit = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    assert commit in (again / "REBUILD.md").read_text()
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["again"]


def test_the_submission_can_be_predicted_from_the_images(
    finished: Workspace, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = finished.root / "data/images/test"
    rebuild.run("@candidate", Path("again"), submit=True, images=images)
    (submission,) = (here / "again/submission").iterdir()
    assert submission.read_bytes() == finished.submission()

    (here / "some").mkdir()
    shutil.copy(images / "shard-00001.parquet", here / "some")
    with pytest.raises(SystemExit):
        rebuild.run("1", Path("other"), submit=True, images=here / "some")
    said = capsys.readouterr().err
    assert "20 are absent and 0 are new" in said
    assert "is restored in other, but does not give what was recorded" in said
    assert "not the recorded one" in (here / "other/REBUILD.md").read_text()


def changed_number(ensemble: Path) -> None:
    file = ensemble / "record/predictions/cnn.npy"
    found = read_predictions(file)
    found.probability[3, 2] = 1 - found.probability[3, 2]
    write_predictions(file, found.image_id, found.probability)


def changed_weight(ensemble: Path) -> None:
    from labelstack.networks.inference import load_model, save_model

    file = ensemble / "members/wide/model.keras"
    network = load_model(file)
    weights = network.get_weights()
    weights[-1][0] += np.float32(0.01)
    network.set_weights(weights)
    save_model(network, file)
    write_checksums(ensemble)  # whoever changes a model can make the checksums fit


@pytest.mark.parametrize(
    ("change", "said", "differs"),
    [
        (changed_number, "recorded predictions of `cnn`: record/predictions/cnn.npy was changed", "stacker `cnn`"),
        (changed_weight, "base model `wide`: members/wide/model.keras was changed", "base model `wide`"),
    ],
)
def test_what_was_changed_by_hand_in_the_registry_is_named(
    kept: Registry,
    here: Path,
    change: Callable[[Path], None],
    said: str,
    differs: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(kept.ensemble)
    with pytest.raises(SystemExit) as ended:
        rebuild.run("1", Path("again"), verify=True)
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert said in shown.err
    (line,) = [line for line in shown.err.splitlines() if "images differ" in line]
    assert differs in line
    assert shown.out.count("DIFFERS") == 1
    assert "nothing was restored" in shown.err
    assert list(here.iterdir()) == []


def test_a_missing_file_is_named_even_without_verify(
    kept: Registry, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept.ensemble / "stackers/xgboost/fold-0/boosters.zip").unlink()
    with pytest.raises(SystemExit) as ended:
        rebuild.run("1", Path("again"))
    assert ended.value.code == 1
    assert "stacker `xgboost`: stackers/xgboost/fold-0/boosters.zip is missing" in capsys.readouterr().err
    (kept.ensemble / CHECKSUMS).unlink()
    (kept.ensemble / "ensemble.json").unlink()
    with pytest.raises(SystemExit):
        rebuild.run("1", Path("again"), verify=True)
    said = capsys.readouterr().err
    assert "checksums.json is missing" in said
    assert "nothing can be predicted again" in said
    assert list(here.iterdir()) == []


@contextlib.contextmanager
def changed(registry: Registry, tmp_path: Path) -> Iterator[None]:
    """The digests of files that were changed are made the recorded ones, for a while."""
    model = registry.ensemble.parents[1]
    digests = {"labelstack.files_digest": write_checksums(registry.ensemble), MODEL_TAG: write_list(model)}
    tracker = connect(TrackingSection(uri=registry.url), tmp_path)
    before = tracker.client.get_model_version("labelstack", "1").tags
    for key, digest in digests.items():
        tracker.client.set_model_version_tag("labelstack", "1", key, digest)
    try:
        yield
    finally:
        for key in digests:
            tracker.client.set_model_version_tag("labelstack", "1", key, before[key])


def test_the_submission_has_the_header_and_order_that_were_recorded(
    finished: Workspace, kept: Registry, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *rows = finished.submission().decode().splitlines()
    wanted = "\n".join(["image_id,label_id", *reversed(rows)]) + "\n"
    file, ids = kept.ensemble / "record/submission.json", kept.ensemble / "record/test.parquet"
    sha256 = hashlib.sha256(wanted.encode()).hexdigest()
    recorded = json.loads(file.read_text())
    assert recorded["header"] == ["id", "predicted"]
    storage.write_json(file, recorded | {"header": ["image_id", "label_id"], "sha256": sha256})
    table = pq.read_table(ids)
    pq.write_table(table.take(np.arange(len(table))[::-1]), ids)
    with changed(kept, tmp_path):
        rebuild.run("1", Path("again"), submit=True)
    assert "SHA-256 as recorded" in capsys.readouterr().out
    (written,) = (here / "again/submission").iterdir()
    assert written.read_text() == wanted


def test_a_version_without_a_recorded_header_gives_its_submission_again(
    finished: Workspace, kept: Registry, here: Path, tmp_path: Path
) -> None:
    file = kept.ensemble / "record/submission.json"
    storage.write_json(file, {key: value for key, value in json.loads(file.read_text()).items() if key != "header"})
    with changed(kept, tmp_path):
        rebuild.run("1", Path("again"), submit=True)
    (written,) = (here / "again/submission").iterdir()
    assert written.read_bytes() == finished.submission()


def test_a_submission_other_than_the_recorded_one_fails(
    kept: Registry, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = kept.ensemble / "record/submission.json"
    storage.write_json(file, json.loads(file.read_text()) | {"sha256": "0" * 64})
    with changed(kept, tmp_path), pytest.raises(SystemExit) as ended:
        rebuild.run("1", Path("again"), submit=True)
    assert ended.value.code == 1
    assert re.search(r"submission\.csv: SHA-256 [0-9a-f]{64}, recorded is 0{64}", capsys.readouterr().err)
    assert (here / "again/models/ensemble/blend.json").is_file()


def test_a_killed_rebuild_leaves_no_folder_and_can_be_repeated(registry: Registry, tmp_path: Path) -> None:
    def begun() -> bool:
        return any(tmp_path.glob(".again.*/model/artifacts"))

    process = subprocess.Popen(
        command("1", "--to", "again"), cwd=tmp_path, env=registry.bare(tmp_path), start_new_session=True
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not begun():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "again").exists()
    result = registry.rebuild(tmp_path, "1", "--to", "again")
    assert result.returncode == 0, result.stderr
    assert load_params(tmp_path / "again/params.yaml").seed == 2018


def test_only_a_free_folder_is_taken(here: Path) -> None:
    (here / "full").mkdir()
    (here / "full/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty \(notes\.txt\)"):
        rebuild.run("1", Path("full"))
    with pytest.raises(UserError, match="is a file"):
        free_folder(here / "full/notes.txt")
    with pytest.raises(UserError, match="current folder"):
        free_folder(Path("."))
    (here / "loop").symlink_to("loop")
    (here / "gone").symlink_to("nothing")
    for name, text in {
        "full/notes.txt/new/one": "notes.txt is a file",
        "/proc/new": "nothing can be put into /proc",
        "loop": "a link that leads to itself",
        "x" * 300: "File name too long",
    }.items():
        with pytest.raises(UserError, match=f"^--to .*{text}"):
            free_folder(Path(name))
    assert free_folder(Path("gone")) == here.resolve() / "nothing"
    assert sorted(file.name for file in here.iterdir()) == ["full", "gone", "loop"]
    (here / "empty").mkdir()
    rebuild.run("1", Path("empty"))
    assert (here / "empty/params.yaml").is_file()
    assert (here / "full/notes.txt").read_text() == "mine"


def test_a_folder_that_fills_up_meanwhile_is_left_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*arguments: Any) -> None:
        (here / "new").mkdir()
        (here / "new/notes.txt").write_text("mine")

    monkeypatch.setattr(rebuild, "note", meanwhile)
    with pytest.raises(UserError, match="can't be put in place"):
        rebuild.run("1", Path("new"))
    assert [file.name for file in here.rglob("*")] == ["new", "notes.txt"]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("models:/labelstack/9", r"no such version of labelstack in .*there are: 1, @candidate, @champion"),
        ("nothing/1", "no such version of nothing"),
        ("the best one", "expected a version like 3"),
    ],
)
def test_an_unknown_version_is_told(here: Path, version: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rebuild.run(version, Path("again"))
    assert list(here.iterdir()) == []


def test_no_registry_is_told_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="no answer within"):
        rebuild.run("1", Path("again"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI"):
        rebuild.run("1", Path("again"))
    assert list(here.iterdir()) == []


def test_images_are_for_the_submission(here: Path) -> None:
    with pytest.raises(UserError, match="goes with --submit"):
        rebuild.run("1", Path("again"), images=here)
    with pytest.raises(UserError, match="no shards"):
        rebuild.run("1", Path("again"), submit=True, images=here)
    assert not (here / "again").exists()


def test_a_version_without_a_record_is_restored_and_not_verified(
    here: Path, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, lock = connect(TrackingSection(uri=registry.url), tmp_path), tmp_path / "requirements.lock"
    lock.write_text("numpy==2.4.6\n")
    with tracker.run("blend", "ensemble") as run:
        parts = ensembles.files(tmp_path / "parts", WEIGHTS)
        register(tracker, "old", "d", lambda: log_ensemble(run, parts, requirements=lock))
    for verify, submit in ((True, False), (False, True)):
        with pytest.raises(UserError, match="registered without a record"):
            rebuild.run("old/1", Path("again"), verify=verify, submit=submit)
    rebuild.run("old/1", Path("again"))
    assert "files as registered; registered without a record" in capsys.readouterr().out
    assert (here / "again/models/networks/small/all/model.keras").read_bytes() == b"small"
    assert "made outside of git" in (here / "again/REBUILD.md").read_text()


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    from labelstack.ensemble.folder import assemble_folder

    assemble_folder(tmp_path / "ensemble", ensembles.files(tmp_path / "parts", WEIGHTS))
    spec = replace(read_spec(tmp_path / "ensemble"), stackers=["../../../elsewhere"])
    with pytest.raises(UserError, match="leads out of the folder"):
        restore(tmp_path / "ensemble", tmp_path / "none", spec, tmp_path / "a" / "new")
    assert not (tmp_path / "elsewhere").exists()
