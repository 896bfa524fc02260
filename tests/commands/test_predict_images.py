"""Command `labelstack predict IMAGE…` in a finished workspace."""

from __future__ import annotations

import base64
import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ensemble.test_serving import submitted
from labelstack.commands import predict_images
from labelstack.support.errors import UserError
from tiny import Workspace

FOLDER = "data/sample/images/test"


@pytest.fixture
def here(finished: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(finished.root)
    return finished.root


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_as_typed(finished: Workspace) -> None:
    labels = submitted(finished.root)
    names = sorted(labels)[:2]
    files = [f"{FOLDER}/{name}" for name in names]
    done = finished.run("labelstack", "predict", *files, "gone.jpg", "--json")
    rows = lines(done.stdout)
    assert [row["image"] for row in rows] == [*files, "gone.jpg"]
    assert [row["label_id"] for row in rows] == [*(labels[name] for name in names), []]
    assert rows[2]["error"] == "gone.jpg: neither a readable image file nor base64 of one"
    assert done.stderr == "predict: 2 of 3 images labelled by labelstack v1, 1 with an error\n"


def test_a_folder_of_images_and_a_file_of_answers(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = submitted(here)
    for name in sorted(labels)[:5]:
        (tmp_path / "in" / "deeper").mkdir(parents=True, exist_ok=True)
        shutil.copy(here / FOLDER / name, tmp_path / "in" / "deeper" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    predict_images.run([str(tmp_path / "in")], all_probabilities=True, out=tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == sorted(labels)[:5]
    for row in rows:
        chosen = [int(label) for label in row["label_id"].split()]
        assert chosen == labels[Path(row["image"]).name]
        assert row["probability"].split() == [f"{float(row[f'p_{label}']):.6g}" for label in chosen]
        assert len(row["labels"].split("; ")) == len(chosen)
    assert capsys.readouterr().out == f"predict: 5 of 5 images labelled by labelstack v1 → {tmp_path / 'out.csv'}\n"


@pytest.mark.parametrize("column", ["image", "url"])
def test_a_csv_of_images_and_lines_of_json(here: Path, tmp_path: Path, column: str) -> None:
    labels = submitted(here)
    name = max(labels)
    (tmp_path / "in.csv").write_text(f"id,{column}\n1,{FOLDER}/{name}\n2,http://u:hunter2@10.0.0.1/a.jpg?i=1\n3,\n")
    predict_images.run(
        [str(tmp_path / "in.csv")], "models:/labelstack/1", out=tmp_path / "out.jsonl", all_probabilities=True
    )
    rows = lines((tmp_path / "out.jsonl").read_text())
    assert [row["image"] for row in rows] == [f"{FOLDER}/{name}", "http://10.0.0.1/a.jpg?i=1", ""]
    assert rows[0]["label_id"] == labels[name]
    assert [rows[0]["probabilities"][str(label)] for label in labels[name]] == rows[0]["probability"]
    assert rows[1]["error"].startswith("10.0.0.1: not allowed")
    assert rows[2]["error"] == "the image is empty"
    assert "hunter2" not in (tmp_path / "out.jsonl").read_text()


def test_the_table(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = submitted(here)
    name = min(labels)
    strange = tmp_path / "[bold]a.jpg"
    shutil.copy(here / FOLDER / name, strange)
    predict_images.run(
        [str(strange), "http://u:hunter2@10.0.0.1/a.jpg?token=hunter2", "[red]no"], all_probabilities=True
    )
    text = capsys.readouterr().out
    assert "[bold]a.jpg" in text.replace("\n", "").replace("│", "").replace(" ", "")
    assert "season::" in text
    assert "[red]no: neither a readable image file nor base64 of one" in text
    assert "hunter2" not in text
    assert text.endswith("predict: 1 of 3 images labelled by labelstack v1, 2 with an error\n")


def test_nothing_labelled_is_a_failure(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        predict_images.run(["gone.jpg"], as_json=True)
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert lines(printed.out)[0]["label_id"] == []
    assert printed.err.startswith("predict: 0 of 1 images labelled")


@pytest.mark.parametrize(
    ("given", "model", "out", "text"),
    [
        ([], None, None, "no images: give files"),
        (["a.jpg"], "@nobody", None, "no such version of labelstack"),
        (["a.jpg"], "?", None, "expected a version like"),
        (["a.jpg"], "", None, "expected a version like"),
        (["a.jpg"], None, "out.xlsx", r"--out out.xlsx: expected a file that ends in .csv or .jsonl"),
        (["a.jpg"], "@nobody", "/proc/out.csv", "--out /proc/out.csv: can't be written"),
        (["a.jpg"], "@nobody", "params.yaml/out.csv", "params.yaml is a file"),
        (["models"], None, None, "no image files in this folder"),
        (["gone.csv"], None, None, "gone.csv: not found"),
    ],
)
def test_mistakes_are_named(here: Path, given: list[str], model: str | None, out: str | None, text: str) -> None:
    with pytest.raises(UserError, match=text):
        predict_images.run(given, model, out=Path(out) if out else None)


def test_strange_arguments_are_a_row_each_and_nothing_else_is_lost(finished: Workspace, tmp_path: Path) -> None:
    labels = submitted(finished.root)
    name = min(labels)
    strange = os.fsdecode(os.fsencode(tmp_path / "ro") + b"\xff\xfe.jpg")
    for copy in (strange, tmp_path / "a\nb.jpg"):
        shutil.copy(finished.root / FOLDER / name, copy)
    base64_text = base64.b64encode((finished.root / FOLDER / name).read_bytes() + bytes(5000)).decode()
    assert len(base64_text) > 4096
    given = [strange, "", "x" * 300, base64_text, str(tmp_path / "a\nb.jpg"), f"{FOLDER}/{name}"]
    rows = lines(finished.run("labelstack", "predict", *given, "--json").stdout)
    assert [row["image"] for row in rows] == [*given[:3], base64_text[:60] + "…", *given[4:]]
    assert [row["label_id"] == labels[name] for row in rows] == [True, False, False, True, True, True]
    assert rows[1]["error"] == "the image is empty"
    assert rows[2]["error"].endswith("…: neither a readable image file nor base64 of one")
    for place in ("out.csv", "out.jsonl"):
        done = finished.run("labelstack", "predict", *given, "--out", str(tmp_path / place))
        assert f"4 of 6 images labelled by labelstack v1, 2 with an error → {tmp_path / place}" in done.stdout
    assert lines((tmp_path / "out.jsonl").read_text()) == rows
    with (tmp_path / "out.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["image"].endswith(r"ro\udcff\udcfe.jpg")
    assert r"\udcff" in finished.run("labelstack", "predict", strange).stdout


def test_without_a_registry_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        predict_images.run(["a.jpg"])
    assert not list(tmp_path.iterdir())
