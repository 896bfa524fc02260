"""`labelstack init`: what it sees in folders and tables, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from labelstack.cli import app
from labelstack.commands import check, init, init_params
from labelstack.commands.init_params import DataSize, Machine
from labelstack.params import Params, load_params
from labelstack.support.errors import InputProblems, UserError
from tiny import REPOSITORY, Workspace

N = 60
CPU, GPU = Machine(2, 16, None), Machine(16, 64, "a GPU")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as it is cloned, and 60 pictures in data/mine/photos."""
    project = tmp_path / "project"
    (project / "data/mine").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, project)
    for command in (
        ["init", "-q"],
        ["add", "dvc.yaml", "params.yaml"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)
    monkeypatch.chdir(project)
    pictures(Path("data/mine/photos"))
    return project


def pictures(folder: Path, names: list[str] | None = None) -> None:
    for name in names or [f"{i}.jpg" for i in range(N)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / name)


def table(rows: dict[str, Any], file: str = "data/mine/labels.csv") -> Path:
    frame = pd.DataFrame(rows)
    frame.to_parquet(file) if file.endswith(".parquet") else frame.to_csv(file, index=False)
    return Path(file)


def section(labels: Path | None = Path("data/mine/labels.csv"), images: str = "data/mine/photos") -> dict[str, Any]:
    """The section dataset that init writes."""
    init.run(Path(images), labels, Path("."), force=True)
    dataset = yaml.safe_load(Path("params.yaml").read_text())["dataset"]
    assert load_params().dataset.table.model_dump().items() >= dataset["table"].items()
    assert dataset.pop("into") == "data"
    del dataset["table"]["test"], dataset["table"]["validation"], dataset["format"]
    return dict(dataset)


PHOTOS = [f"{i}.jpg" for i in range(N)]
MANY = ["red;cat", "cat", "dog;red", "dog"] * (N // 4)


def test_the_usual_table_needs_no_more_than_its_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table({"image": PHOTOS, "labels": MANY})
    assert section() == {"root": "data/mine", "task": "multi_label", "table": {"images": "photos"}}
    said = capsys.readouterr().out
    for words in (
        "60 images in data/mine, 3 labels", '";" between two', "multi_label: 1 … 2 on an image, 1.5 in the mean",
        "validation (drawn)", "no GPU" if init.this_machine().gpu is None else "GPU", "params.yaml.bak",
        "labelstack check; dvc repro",
    ):  # fmt: skip
        assert words in said
    check.run()
    assert Path("params.yaml.bak").read_bytes() == (REPOSITORY / "params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"file_name": PHOTOS, "category": ["cat", "dog"] * 30},
         {"image": "file_name", "labels": "category", "images": "photos", "separator": None}),
        ({"id": range(N), "tags": [f"{a} {b}" for a, b in combinations("abcdef", 2)] * 4},
         {"image": "id", "labels": "tags", "images": "photos", "suffix": ".jpg", "separator": " "}),
        ({"path": [f"photos/{p}" for p in PHOTOS], "label": ["t-shirt, long", "t-shirt, short", "hat"] * 20},
         {"image": "path", "labels": "label", "separator": None}),
        ({"image": [f".\\{p}" for p in PHOTOS], "labels": [s.replace(";", "|") for s in MANY]},
         {"images": "photos", "separator": "|"}),
        ({"image": PHOTOS, "labels": [s.replace(";", ", ") for s in MANY]}, {"images": "photos", "separator": ","}),
        ({"image": PHOTOS, "labels": [json.dumps(s.split(";")) for s in MANY]},
         {"images": "photos", "separator": "json"}),
        ({"url": [f"http://h/{p}" for p in PHOTOS], "labels": MANY}, {"image": "url"}),
        ({"image": PHOTOS, "labels": MANY, "Subset": ["train", "val", "test"] * 20},
         {"images": "photos", "split": "Subset"}),
        ({"image": PHOTOS, "labels": MANY, "patient_id": [f"p{i // 2}" for i in range(N)], "age": [1.5] * N},
         {"images": "photos"}),
    ],
)  # fmt: skip
def test_columns_and_separators_are_recognised(here: Path, rows: dict[str, Any], expected: dict[str, Any]) -> None:
    table(rows)
    assert section()["table"] == expected


def test_what_belongs_together_is_kept_in_folds_too(here: Path) -> None:
    table({"image": PHOTOS, "labels": MANY, "patient_id": [f"p{i // 2}" for i in range(N)]})
    section()
    assert load_params().folds.group_by == "patient_id"
    table({"image": PHOTOS, "labels": MANY, "patient_id": [f"p{i // 20}" for i in range(N)]})  # too few to be dealt
    section()
    assert load_params().folds.group_by is None


def test_one_label_or_many(here: Path) -> None:
    table({"image": PHOTOS, "labels": ["cat", "dog", "dog"] * 20})
    assert section()["task"] == "single_label"
    assert load_params().thresholds.exclusive
    assert {model.loss for model in load_params().models.values()} == {"cross_entropy"}
    table({"image": PHOTOS, "labels": ["cat", "dog", ""] * 20})
    assert section()["task"] == "multi_label"
    table({"image": PHOTOS, "labels": ["cat", "dog", ""] * 20, "split": ["train", "val", "test"] * 20})
    assert section()["task"] == "single_label"


def test_lists_in_parquet(here: Path) -> None:
    path = table({"image": PHOTOS, "labels": [s.split(";") for s in MANY]}, "data/mine/t.parquet")
    assert section(path) == {
        "root": "data/mine", "task": "multi_label", "table": {"file": "t.parquet", "images": "photos"},
    }  # fmt: skip


def test_tables_of_the_other_splits_lie_beside_train(here: Path) -> None:
    table({"image": PHOTOS[:40], "labels": MANY[:40]}, "data/mine/train.csv")
    table({"image": PHOTOS[40:]}, "data/mine/test.csv")
    expected = {"file": "train.csv", "test_file": "test.csv", "images": "photos"}
    assert section(Path("data/mine/train.csv"))["table"] == expected


def test_a_folder_for_each_class(here: Path) -> None:
    pictures(Path("data/classes"), [f"{'cat' if i % 2 else 'dog'}/{i}.png" for i in range(N)])
    expected = {"root": "data/classes", "task": "single_label", "table": {"file": None}}
    assert section(None, "data/classes") == expected


def test_data_may_lie_anywhere(here: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "far/photos")
    labels = table({"image": PHOTOS, "labels": MANY}, str(tmp_path / "far/labels.csv"))
    assert section(labels, str(tmp_path / "far/photos"))["root"] == str(tmp_path / "far")


def test_a_folder_that_holds_more_is_refused(here: Path) -> None:
    labels = table({"image": PHOTOS, "labels": MANY}, "labels.csv")
    with pytest.raises(UserError, match="DVC would watch all of it"):
        init.run(Path("data/mine/photos"), labels, Path("."))
    assert Path("params.yaml").read_bytes() == (REPOSITORY / "params.yaml").read_bytes()


def test_a_changed_file_is_kept_unless_forced_and_then_too(here: Path) -> None:
    labels = table({"image": PHOTOS, "labels": MANY})
    mine = Path("params.yaml").read_text().replace("epochs: 10", "epochs: 11")
    Path("params.yaml").write_text(mine)
    arguments = ["init", "--images", "data/mine/photos", "--labels", str(labels)]
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, UserError)
    assert "params.yaml: was changed from the one that came with the project: --force" in str(refused)
    assert Path("params.yaml").read_text() == mine
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert Path("params.yaml.bak").read_text() == mine
    written = Path("params.yaml").read_bytes()
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert Path("params.yaml").read_bytes() == written
    assert sorted(map(str, Path().glob("params.yaml*"))) == ["params.yaml", "params.yaml.bak"]


def test_what_is_wrong_comes_at_once_and_nothing_is_written(here: Path) -> None:
    Path("params.yaml").write_text("mine: 1\n")
    with pytest.raises(InputProblems) as caught:
        init.run(Path("nope"), Path("none.csv"), Path("."))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "--images nope", "--labels none.csv", str(here / "params.yaml"),
    ]  # fmt: skip
    assert Path("params.yaml").read_text() == "mine: 1\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"image": ["x.jpg"] * N, "labels": MANY}, "expected a column of images, paths of files"),
        ({"image": PHOTOS, "colour": MANY, "shape": MANY}, "expected a column of labels called labels or label"),
        ({"image": [*PHOTOS[:-2], "x.jpg", PHOTOS[0]], "labels": MANY}, 'found none called "photos/x.jpg"'),
        ({"image": [*PHOTOS[:-2], "x.jpg", PHOTOS[0]], "labels": MANY}, "expected each image once"),
        ({"image": [], "labels": []}, "expected at least one row"),
        ({"image": PHOTOS[:4], "labels": MANY[:4]}, "validation: expected at least 2 images"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(here: Path, rows: dict[str, Any], said: str) -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(InputProblems) as caught:
        init.run(Path("data/mine/photos"), table(rows), Path("."))
    assert any(said in problem for problem in caught.value.problems), caught.value.problems
    assert Path("params.yaml").read_bytes() == before


def test_a_table_beside_the_images_is_named(here: Path) -> None:
    table({"image": PHOTOS, "labels": MANY})
    with pytest.raises(InputProblems, match=r"--labels data/mine/labels\.csv"):
        init.run(Path("data/mine"), None, Path("."))


@pytest.mark.parametrize("machine", [CPU, GPU, Machine(1, 2, None)])
@pytest.mark.parametrize("images", [20, 700, 20_000, 2_000_000])
@pytest.mark.parametrize("labels", [1, 40, 5000])
def test_params_fit_whatever_there_is(machine: Machine, images: int, labels: int) -> None:
    dataset = {"format": "table", "root": "data/mine", "task": "single_label", "table": init_params.shares(images)}
    content = init_params.content("mine", dataset, DataSize(images, labels, 300), images // 4, machine)
    params = Params.model_validate(content)
    assert params.training.mixed_precision == bool(machine.gpu)
    assert {model.weights for model in params.models.values()} == {"imagenet" if machine.gpu else "none"}
    assert 2 <= params.folds.k <= 5
    assert (images // 4) >= params.folds.k
    if machine.gpu is None and images <= 20_000:
        assert init_params.cost_s(content["models"], images) <= 2 * 1800 * machine.cores


@pytest.mark.parametrize(
    ("text", "name"), [("My photos", "My photos"), ("a/b:c", "a_b_c"), ("..", "labelstack"), ("é", "labelstack")]
)
def test_names_are_such_as_mlflow_takes(text: str, name: str) -> None:
    assert init_params.plain_name(text) == name


@pytest.mark.long
def test_dvc_takes_a_data_set_from_anywhere(tmp_path: Path) -> None:
    workspace, far = Workspace(tmp_path / "work"), tmp_path / "far"
    shutil.copy(REPOSITORY / "params.yaml", workspace.root / "params.yaml")
    pictures(far / "photos")
    table({"image": PHOTOS, "labels": MANY}, str(far / "labels.csv"))
    (workspace.root / "params.yaml").unlink()
    workspace.run("labelstack", "init", "--images", str(far / "photos"), "--labels", str(far / "labels.csv"))
    assert workspace.repro("download") == {
        "settings",
        "ingest",
        *(f"download@{s}" for s in ("train", "validation", "test")),
    }
    assert not {"ingest", "download@train"} & set(json.loads(workspace.run("dvc", "status", "--json").stdout))
    (far / "photos/0.jpg").write_bytes((far / "photos/1.jpg").read_bytes() + b"\0")
    assert "ingest" in json.loads(workspace.run("dvc", "status", "--json").stdout)
