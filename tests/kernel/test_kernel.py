"""A kernel, made of a registered version and run where nothing but its packages and its weights is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernel.running import contents_of, hidden, run_alone
from labelstack.commands import kernel
from labelstack.kernel import alone
from labelstack.kernel.contents import PACKAGES, Contents
from labelstack.params.sample import SampleSection
from labelstack.sample.dataset import draw_dataset
from labelstack.stacking.deciding.decisions import Decision
from labelstack.support.errors import UserError
from registry.kept_version import CHANGE, unpack


class Made:
    """A kernel, its weights and the registered test images, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script, self.images = folder, folder / "kernel.py", folder / "sample/images/test"
        self.model = unpack(folder)
        kernel.run(str(self.model), self.script)
        sizes = {"n_train": 20, "n_validation": 20, "n_test": 12, "image_size": CHANGE["sample"]["image_size"]}
        draw_dataset(folder / "sample", SampleSection(**sizes), 2018, workers=0)
        written = json.loads((self.model / "artifacts/ensemble/record/submission.json").read_text())
        self.sha256 = written["sha256"]

    @property
    def contents(self) -> Contents:
        return contents_of(self.script)

    def run(self, *options: str, kill_after: int = 0) -> subprocess.CompletedProcess[str]:
        return run_alone(self.script, self.folder / "site", *options, kill_after=kill_after)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("kernel"))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_alone_it_writes_what_submit_wrote(made: Made, tmp_path: Path) -> None:
    assert {"mlflow", "dvc", "ruamel", "boto3", "imgaug"} <= hidden(made.contents.packages)
    mixed = tmp_path / "input/other/names"  # files are known by what is in them
    mixed.mkdir(parents=True)
    for number, file in enumerate(sorted((made.folder / "kernel_weights").rglob("*.*"))):
        shutil.copy(file, mixed / f"{number}.bin")
    done = made.run("--input", str(tmp_path), "--test", str(made.images), "--out", str(tmp_path / "s.csv"))
    assert done.returncode == 0, done.stderr
    assert sha256(tmp_path / "s.csv") == made.sha256
    assert "12 rows, 0 of them answered without an image" in done.stdout
    assert f"{made.sha256}, as registered" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["input", "s.csv"]


@pytest.mark.slow
def test_killed_it_goes_on_from_its_finished_parts(made: Made, tmp_path: Path) -> None:
    options = ("--input", "kernel_weights", "--test", str(made.images), "--out", str(tmp_path / "s.csv"))
    for parts in (1, 3):  # of 2 networks × 2 shards
        killed = made.run(*options, kill_after=parts if parts == 1 else 2)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        there = sorted((tmp_path / "s.csv.work/parts").glob("*.npz"))
        assert len(there) == parts
        assert not (tmp_path / "s.csv").exists()
    done = made.run(*options, kill_after=2)  # one is left to write, so it is not killed
    assert done.returncode == 0, done.stderr
    assert sha256(tmp_path / "s.csv") == made.sha256
    assert [file.name for file in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.slow
def test_other_rows_and_images_that_are_not_there(made: Made, tmp_path: Path) -> None:
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("image_id,label_id\n3,\n77,\n1,\n")
    out = tmp_path / "s.csv"
    options = ("--input", "kernel_weights", "--test", str(made.images), "--sample", str(sample), "--out", str(out))
    done = made.run(*options)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 images are there (1 missing)" in done.stdout
    header, third, absent, first = out.read_text().splitlines()
    assert header == "image_id,label_id"
    priors = [made.contents.unseen[i] + 1 for i in range(len(made.contents.unseen))]  # label ids are 1, 2, …
    assert absent == f"77,{' '.join(map(str, priors))}"
    known = json.loads((Path(__file__).parents[1] / "registry/kept/expected.json").read_text())
    assert first == f"1,{' '.join(map(str, known['1.jpg']['label_id']))}"
    assert third.startswith("3,")


@pytest.mark.slow
def test_a_limit_of_time_leaves_out_views_and_models_and_says_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = made.model / "artifacts/ensemble"
    rule = Decision("global", thresholds=np.full(44, 0.25, np.float32)).to_dict()
    less = [{"weights": w, "decision": rule, "score": 0.25} for w in ({"gradients": 0.5, "cnn": 0.5}, {"outline": 1})]
    monkeypatch.setattr(kernel, "made_here", lambda ensemble: True)
    monkeypatch.setattr(kernel, "fitted_steps", lambda *arguments: less)
    monkeypatch.chdir(ensemble / "files")  # of params.yaml
    script = tmp_path / "kernel.py"
    kernel.run(str(ensemble), script, smaller=True)
    options = ("--input", "kernel_weights", "--test", str(made.images), "--hours", "9", "--out")

    done = run_alone(script, tmp_path / "site", *options, "whole.csv")
    assert done.returncode == 0, done.stderr
    assert "all networks and views within the time" in done.stdout
    assert sha256(tmp_path / "whole.csv") == made.sha256

    done = run_alone(script, tmp_path / "site", *options, "least.csv", faster=1e9)
    assert done.returncode == 0, done.stderr
    gone = "gradients, cnn, xgboost, ridge, logistic, weights"
    assert f"the first test-time view of each network alone, without {gone}; " in done.stdout
    assert "cross-fitted 0.2500 in the place of" in done.stdout
    assert (tmp_path / "least.csv").read_text() == "id,predicted\n" + "".join(alone_answers(ensemble, made.images))


def alone_answers(ensemble: Path, images: Path) -> list[str]:
    """Lines of a submission by the network `outline`, shown no mirror images, in the batches of the pipeline."""
    from labelstack.images.pixels.decode import decode
    from labelstack.networks.inference import compile_predict, load_model

    forward = compile_predict(load_model(ensemble / "members/outline/model.keras"))
    squares = np.stack([decode((images / f"{i}.jpg").read_bytes(), 32) for i in range(1, 13)])
    P = np.concatenate([forward(squares[:6]), forward(squares[6:])])
    label_id = [entry["label_id"] for entry in json.loads((ensemble / "labels.json").read_text())]
    rows = [" ".join(str(label_id[i]) for i in np.flatnonzero(row >= 0.25)) for row in P]
    return [f"{number},{row}\n" for number, row in enumerate(rows, 1)]


def test_the_same_source_and_model_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    kernel.run(str(made.model / "artifacts/ensemble"), tmp_path / "kernel.py", tmp_path / "w")
    assert (tmp_path / "kernel.py").read_bytes() == made.script.read_bytes()
    for file in (made.folder / "kernel_weights").rglob("*.*"):
        assert (tmp_path / "w" / file.relative_to(made.folder / "kernel_weights")).read_bytes() == file.read_bytes()
    assert {"params.yaml", "predictions", "probe.parquet"}.isdisjoint(file.name for file in (tmp_path / "w").rglob("*"))


def test_the_header_says_how_it_is_run(made: Made) -> None:
    head = made.script.read_text().partition("import base64")[0]
    assert "python kernel.py --input FOLDER --test FOLDER --out submission.csv" in head
    assert "/kaggle/input, ../input" in head
    assert "members/gradients/model.keras" in head
    assert {*PACKAGES.values(), "xgboost", "scikit-learn"} <= set(re.split(r"[,.\s]+", head))


def test_a_missing_and_a_changed_weight_are_named(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shutil.copytree(made.folder / "kernel_weights", tmp_path / "w")
    (weights / "stackers/ridge/fold-1/arrays.zip").unlink()
    network = weights / "members/outline/model.keras"
    network.write_bytes(network.read_bytes()[:-1] + b"!")
    options = ["--input", str(weights), "--test", str(made.images), "--out", str(tmp_path / "s.csv")]
    assert alone.main(made.contents, options) == 2
    said = capsys.readouterr().err
    assert "2 problems" in said
    assert "stackers/ridge/fold-1/arrays.zip: not found by its content" in said
    assert f"members/outline/model.keras: was changed or cut off: {network} is another file" in said
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--test": "nowhere"}, "--test nowhere: no such folder"),
        ({"--input": "nowhere"}, "--input nowhere: no such folder"),
        ({"--out": "{images}"}, "is a folder; name a file"),
        ({"--work": "{images}"}, "holds other files, and would be removed at the end"),
        ({"--hours": "0"}, "--hours 0: expected more than 0"),
        ({"--hours": "9"}, "--hours: this kernel has no smaller blends to fall back on"),
    ],
)
def test_what_is_typed_wrong_is_told(
    made: Made, tmp_path: Path, change: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = {"--input": f"{made.folder / 'kernel_weights'}", "--test": "{images}", "--out": str(tmp_path / "s.csv")}
    options = [word.format(images=made.images) for pair in (usual | change).items() for word in pair]
    assert alone.main(made.contents, options) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_installed_is_named_with_the_way_to_get_it(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = made.contents
    monkeypatch.setitem(contents.packages, "no_such_module", "no-such-package")  # type: ignore[arg-type]
    assert alone.main(contents, ["--test", str(made.images)]) == 2
    said = capsys.readouterr().err
    assert "no-such-package: not found" in said
    assert "pip install --no-index" in said


def test_a_script_that_was_cut_is_refused(made: Made, tmp_path: Path) -> None:
    text = made.script.read_text()
    start = text.index('SOURCE = """') + 500
    (tmp_path / "kernel.py").write_text(text[:start] + ("a" if text[start] != "a" else "b") + text[start + 1 :])
    done = subprocess.run([sys.executable, tmp_path / "kernel.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "changed or cut off" in done.stderr


def test_what_no_kernel_can_be_made_of_is_told(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a file that ends in \.py"):
        kernel.run(str(made.model), tmp_path / "kernel")
    with pytest.raises(UserError, match="no ensemble's folder"):
        kernel.run(str(tmp_path), tmp_path / "kernel.py")
    with pytest.raises(UserError, match="other files lie in the folder"):
        kernel.run(str(made.model), tmp_path / "kernel.py", made.images)
    model = shutil.copytree(made.model, tmp_path / "model")
    (model / "artifacts/ensemble/labels.json").write_text("[]")
    with pytest.raises(UserError, match=r"labels\.json was changed"):
        kernel.run(str(model), tmp_path / "kernel.py")
    assert not (tmp_path / "kernel.py").exists()
