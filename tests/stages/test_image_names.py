"""Messages about a data set whose images are called by texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelstack.cli import main
from labelstack.commands.rebuild_folder import _called
from labelstack.ensemble import record
from labelstack.formats.manifest import write_manifest
from labelstack.formats.text_id import text_id
from labelstack.predictions import Predictions
from labelstack.stages import paths
from labelstack.stages.image_names import with_names
from labelstack.support.errors import UserError

NAMES = ["cats/1.jpg", "https://someone:secret@h/2.jpg"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    manifest = pd.DataFrame({"image_id": [text_id(name) for name in NAMES], "name": NAMES})
    write_manifest(paths.manifest("train"), manifest.assign(url=[[name] for name in NAMES], label_id=[[0], [1]]))
    return tmp_path


def test_names_stand_in_messages_in_the_place_of_ids(here: Path) -> None:
    with pytest.raises(UserError) as caught:
        Predictions(np.zeros(0, np.int64), np.zeros((0, 2), np.float32)).rows_of(np.array([text_id(n) for n in NAMES]))
    assert with_names(str(caught.value)) == (
        "2 of 2 images have no prediction (first ids: 'cats/1.jpg', 'https://h/2.jpg')"
    )


def test_other_numbers_stay(here: Path) -> None:
    ours, other = text_id(NAMES[0]), text_id("no image of ours")
    for text in (f"id {other}", f"0.{ours}", f"{ours}0", "12 of 34", f"x{ours}"):
        assert with_names(text) == text
    paths.manifest("train").write_bytes(b"no parquet")
    assert with_names(f"id {ours}") == f"id {ours}"


def test_the_command_line_shows_them(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise UserError(f"image {text_id(NAMES[0])}: lost")

    monkeypatch.setattr("labelstack.cli.app", fails)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "labelstack: image 'cats/1.jpg': lost\n"


def test_a_rebuilt_version_names_test_images_as_its_submission_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "read_test_id", lambda folder: np.array([7, 8]))
    monkeypatch.setattr(record, "read_test_name", lambda folder: ["a.jpg", "b.jpg"])
    assert _called(tmp_path, {"separator": ";"}, [8, 9]) == "'b.jpg', id 9"
    assert _called(tmp_path, {}, [8, 9]) == "ids 8, 9"
