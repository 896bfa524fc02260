"""The file of boxes: what it may look like, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from labelstack.formats.box_file import read_boxes
from labelstack.support.box import Box
from labelstack.support.errors import InputProblems


def manifest(*ids: int, names: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(ids)} | ({} if names is None else {"name": names}))


MANIFESTS = {"train": manifest(1, 2, 3), "validation": manifest(), "test": manifest(3, 4)}


def written(folder: Path, *lines: str) -> Path:
    file = folder / "boxes.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def problems(file: Path, **given: Any) -> list[str]:
    with pytest.raises(InputProblems) as raised:
        read_boxes(file, **{"units": "share", "manifests": MANIFESTS} | given)
    return raised.value.problems


def test_boxes_are_shares_by_split_and_row(tmp_path: Path) -> None:
    file = written(tmp_path, "ID,top,left,right,bottom,who", "2, 0.25,0,0.5,1,ann", "4,0,0.1,1,0.75,bob")
    assert read_boxes(file, "share", MANIFESTS) == {
        "train": {2: Box(0, 0.25, 0.5, 1)},
        "validation": {},
        "test": {4: Box(0.1, 0, 1, 0.75)},
    }


def test_pixels_are_of_the_size_that_the_line_gives(tmp_path: Path) -> None:
    file = written(tmp_path, "id,left,top,right,bottom,width,height", "1,10,30,40,60,40,120")
    assert read_boxes(file, "pixels", MANIFESTS)["train"] == {1: Box(0.25, 0.25, 1, 0.5)}


def test_images_are_called_as_the_data_set_calls_them_and_parquet_is_read(tmp_path: Path) -> None:
    manifests = {"train": manifest(11, 12, names=["a/1.jpg", "b.jpg"])}
    table = pd.DataFrame({"image": ["b.jpg"], "left": [0.0], "top": [0.5], "right": [1.0], "bottom": [0.75]})
    table.to_parquet(tmp_path / "boxes.parquet")
    assert read_boxes(tmp_path / "boxes.parquet", "share", manifests) == {"train": {12: Box(0, 0.5, 1, 0.75)}}


def test_a_split_says_which_of_two_images_of_one_id_is_meant(tmp_path: Path) -> None:
    file = written(tmp_path, "id,split,left,top,right,bottom", "3,test,0,0,1,0.5", "3,train,0,0,1,1")
    found = read_boxes(file, "share", MANIFESTS)
    assert found == {"train": {3: Box(0, 0, 1, 1)}, "validation": {}, "test": {3: Box(0, 0, 1, 0.5)}}
    bare = written(tmp_path, "id,left,top,right,bottom", "3,0,0,1,1")
    assert problems(bare) == [
        "boxes.csv: line 2: id: expected an image of one split, or a column split, found '3' in train and test"
    ]


def test_every_fault_is_told_with_line_column_and_what_was_expected(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "id,left,top,right,bottom",
        "1,-0.1,0,1,1.5",
        "2,0.5,0,0.5,1",
        "4,x,0,1,",
        "4,0,0,1,1",
        "77,0,0,1,1",
        "1,0,0,1",
        "1,nan,0.9,1,0.1",
    )
    assert problems(file) == [
        "boxes.csv: line 7: expected 5 fields, found 4",
        "boxes.csv: line 2: left: expected a number from 0 to 1, found -0.1",
        "boxes.csv: line 2: bottom: expected a number from 0 to 1, found 1.5",
        "boxes.csv: line 3: right: expected more than left, found left 0.5 and right 0.5",
        "boxes.csv: line 4: left: expected a number, found 'x'",
        "boxes.csv: line 4: bottom: expected a number, found ''",
        "boxes.csv: line 5: id: expected each image once, found '4' again",
        "boxes.csv: line 8: id: expected each image once, found '1' again",
        "boxes.csv: line 6: id: expected an image of the data set, found '77'",
    ]


def test_pixels_stay_inside_of_their_image(tmp_path: Path) -> None:
    file = written(tmp_path, "id,left,top,right,bottom,width,height", "1,0,0,41,10,40,0", "2,0,0,1,1,x,9")
    assert problems(file, units="pixels") == [
        "boxes.csv: line 2: right: expected a number from 0 to 40, found 41",
        "boxes.csv: line 2: height: expected a number of pixels above 0, found 0",
        "boxes.csv: line 3: width: expected a number, found 'x'",
    ]


@pytest.mark.parametrize(
    ("lines", "units", "said"),
    [
        (["id,left,top,right", "1,0,0,1"], "share", "expected the columns id (or image), left, top, right, bottom,"),
        (["id,image,left,top,right,bottom"], "share", "found id, image, left, top, right, bottom"),
        (["left,top,right,bottom"], "share", "found left, top, right, bottom"),
        (["id,left,left,top,right,bottom"], "share", "each once"),
        (["id,left,top,right,bottom"], "pixels", "bottom, width, height, each once"),
        ([""], "share", "found nothing"),
    ],
)
def test_a_header_must_name_every_column_once(tmp_path: Path, lines: list[str], units: str, said: str) -> None:
    (problem,) = problems(written(tmp_path, *lines), units=units)
    assert said in problem


def test_a_file_that_is_not_there_or_no_table_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "boxes.csv") == [
        f"boxes.csv: not found in {tmp_path}, and params.yaml names it as boxes"
    ]
    (tmp_path / "boxes.parquet").write_bytes(b"no")
    (problem,) = problems(tmp_path / "boxes.parquet")
    assert "boxes.parquet: not readable as parquet" in problem
