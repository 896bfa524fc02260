"""iMaterialist 2019: photos, instances and labels of good files, and a sentence for all that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from formats.fashion_photos import DESCRIPTIONS, HEADER, ROWS, photo, write_csv, write_photos
from labelstack.formats.format import format_for
from labelstack.formats.imaterialist2019 import FORMAT, Imaterialist2019Format
from labelstack.formats.manifest import read_manifest, write_manifest
from labelstack.formats.text_id import text_id
from labelstack.masks.instance_table import masks_of, read_instances, write_instances
from labelstack.masks.run_lengths import decode
from labelstack.masks.run_text import write_runs
from labelstack.params.dataset import DatasetSection, InstancesSection
from labelstack.support.errors import InputProblems, UserError


def problems_of(root: Path, section: InstancesSection | None = None) -> list[str]:
    with pytest.raises(InputProblems) as refused:
        Imaterialist2019Format(section, root).read(root)
    return refused.value.problems


def changed(row: int, column: int, value: Any) -> list[list[Any]]:
    rows = [list(one) for one in ROWS]
    rows[row][column] = value
    return rows


def test_photos_labels_and_instances(tmp_path: Path) -> None:
    data = FORMAT.read(write_photos(tmp_path))
    train = data.manifests["train"]
    assert train["name"].tolist() == ["a.jpg", "b.jpg"]
    assert train["url"].tolist() == [["file:train/a.jpg"], ["file:train/b.jpg"]]
    assert train["image_id"].tolist() == [text_id("a.jpg"), text_id("b.jpg")]
    assert train["label_id"].tolist() == [[0, 6, 7, 9], [1]]  # attributes come after the last category, 6
    assert len(data.manifests["validation"]) == 0
    assert data.manifests["test"]["name"].tolist() == ["c.jpg"]  # once, though twice in the file
    assert data.labels["label_id"].tolist() == [0, 1, 6, 7, 9, 347]
    assert data.labels["name"].tolist()[:4] == [
        "category::shirt, blouse",
        "category::headband, head covering, hair accessory",
        "category::pants",
        "length::mini (length)",
    ]
    assert data.labels["group"].tolist()[-1] == "silhouette"
    assert data.labels["n_train"].tolist() == [1, 1, 1, 1, 1, 0]
    assert data.counts["instances"] == {"train": 3}
    assert data.counts["instances_with_attributes"] == {"train": 1}
    table = data.instances
    assert table["category"].to_pylist() == [6, 0, 1]
    assert table["attributes"].to_pylist() == [[0, 2], [], []]
    assert table["area"].to_pylist() == [6, 2, 4]
    boxes = [[table[side][row].as_py() for side in ("left", "top", "right", "bottom")] for row in range(3)]
    assert boxes == [[0, 0, 2, 4], [0, 0, 1, 2], [0, 9, 1, 20]]
    mask = decode(masks_of(table).take([0]))[0]
    assert mask.shape == (30, 40)
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    ("labels", "sets", "count"), [("categories", [[0, 6], [1]], 3), ("attributes", [[0, 2], []], 3)]
)
def test_a_photos_labels_are_what_params_say(tmp_path: Path, labels: Any, sets: list[list[int]], count: int) -> None:
    data = Imaterialist2019Format(InstancesSection(labels=labels)).read(write_photos(tmp_path))
    assert data.manifests["train"]["label_id"].tolist() == sets
    assert len(data.labels) == count


def test_the_form_of_2020(tmp_path: Path) -> None:
    rows = [["a", "1 4", 30, 40, 6, "0,340"], ["b", "1 2", 20, 25, 0, ""]]
    root = write_photos(tmp_path, rows, [*HEADER, "AttributesIds"])
    write_csv(
        root / "sample_submission.csv", ["ImageId", "EncodedPixels", "ClassId", "AttributesIds"], [["c", "", "", ""]]
    )
    data = FORMAT.read(root)
    assert data.manifests["train"]["name"].tolist() == ["a.jpg", "b.jpg"]
    assert data.manifests["test"]["url"].tolist() == [["file:test/c.jpg"]]
    assert data.instances["attributes"].to_pylist() == [[0, 340], []]


def test_classes_of_a_list(tmp_path: Path) -> None:
    rows = [["a.jpg", "1 4", 30, 40, 58], ["b.jpg", "1 2", 20, 25, 2]]
    root = write_photos(tmp_path, rows)
    (root / "label_descriptions.json").unlink()
    write_csv(root / "label_list.csv", ["id", "name"], [[0, "null"], [2, "bag, purse"], [58, "wallet"]])
    data = FORMAT.read(root)
    assert data.labels["name"].tolist() == ["category::bag, purse", "category::wallet"]
    assert data.instances["category"].to_pylist() == [58, 2]
    assert problems_of(root, InstancesSection(labels="attributes")) == [
        "label_list.csv: has no attributes: dataset.instances.labels must be categories"
    ]
    (root / "label_list.csv").write_text("id,name\n2,bag, purse\n")
    assert problems_of(root) == [
        "label_list.csv: line 2: expected two fields, id and name (a name with a comma between quotation marks), "
        "found 3"
    ]


def test_rows_of_a_photo_need_not_stand_together(tmp_path: Path) -> None:
    root = write_photos(tmp_path, [ROWS[0], ROWS[2], ROWS[1]])
    data = FORMAT.read(root)
    a, b = text_id("a.jpg"), text_id("b.jpg")
    assert data.instances["image_id"].to_pylist() == [a, a, b]
    assert data.instances["category"].to_pylist() == [6, 0, 1]


def test_the_table_is_written_and_read_by_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FORMAT.read(write_photos(tmp_path))
    monkeypatch.setattr("labelstack.masks.instance_table._ROW_GROUP", 2)
    for name in ("one", "two"):
        write_instances(tmp_path / name, data.instances)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_instances(tmp_path / "one").equals(data.instances)
    of_b = read_instances(tmp_path / "one", [text_id("b.jpg")])
    assert write_runs(masks_of(of_b)) == ["10 3 20 1"]
    assert len(read_instances(tmp_path / "one", [5])) == 0
    write_instances(tmp_path / "none", None)
    assert len(read_instances(tmp_path / "none")) == 0
    write_manifest(tmp_path / "manifest", data.manifests["train"])
    assert read_manifest(tmp_path / "manifest")["name"].tolist() == ["a.jpg", "b.jpg"]
    with pytest.raises(UserError, match="not a table of instances"):
        read_instances(tmp_path / "manifest")


def test_answers_are_a_file_like_train(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    write_csv(root / "answers.csv", HEADER, [["c.jpg", "1 3", 10, 10, "0_2"]])
    form = format_for(DatasetSection(format="imaterialist2019", root=str(root)))
    data = form.read(root, None, 0)
    truth = form.answers(root / "answers.csv", data.labels)
    assert truth.to_dict("list") == {"image_id": [text_id("c.jpg")], "label_id": [[0, 9]]}


def test_the_image_level_submission_has_names(tmp_path: Path) -> None:
    data = FORMAT.read(write_photos(tmp_path))
    FORMAT.write_submission(tmp_path / "mine.csv", data.submission, [[9, 0]])
    washed = "textile finishing, manufacturing techniques::washed"
    assert (tmp_path / "mine.csv").read_text() == f'ImageId,labels\nc.jpg,"category::shirt, blouse|{washed}"\n'


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            changed(0, 1, "1199 3"),
            "line 2: EncodedPixels: expected runs inside the photo, whose pixels are 1 … Height · Width, found the run "
            "1199 3, which ends at 1201 of 30 · 40 = 1200",
        ),
        (changed(0, 1, "5 4 7 2"), "line 2: EncodedPixels: expected runs that do not overlap, found 7 2 after 5 4"),
        (changed(0, 1, "9 1 5 1"), "line 2: EncodedPixels: expected runs in ascending order, found 5 1 after 9 1"),
        (
            changed(2, 1, "5 4 7"),
            "line 4: EncodedPixels: expected pairs of a start and a length, found 3 values, an odd number",
        ),
        (changed(0, 1, "5 0"), "line 2: EncodedPixels: expected lengths of at least 1, found the run 5 0"),
        (changed(0, 1, "0 2"), "line 2: EncodedPixels: expected starts counted from 1, found the run 0 2"),
        (changed(1, 1, ""), "line 3: EncodedPixels: expected runs such as 1 3 10 5, found an empty cell"),
        (
            changed(2, 3, 24),
            "line 4: Height, Width: expected Height and Width of the upright photo, found 20 × 24, and train/b.jpg is "
            "20 × 25",
        ),
        (
            changed(1, 2, 31),
            "line 3: Height, Width: expected the same in all rows of a photo, found 31 × 40, and 30 × 40 on line 2",
        ),
        (changed(2, 2, 0), 'line 4: Height: expected a whole number from 1 to 65500, found "0"'),
        (changed(2, 2, "tall"), 'line 4: Height: expected a whole number from 1 to 65500, found "tall"'),
        (
            [*ROWS[:2], ["b.jpg", "1 1", 60000, 60000, "1"]],
            "line 4: Height, Width: expected Height · Width of at most 100,000,000, found 60000 · 60000",
        ),
        (changed(1, 4, "3"), "line 3: ClassId: expected categories that label_descriptions.json has, found 3"),
        (changed(1, 4, "0_1"), "line 3: ClassId: expected attributes that label_descriptions.json has, found 1"),
        (changed(1, 4, "0_2_2"), 'line 3: ClassId: expected each attribute once, found "0_2_2"'),
        (
            changed(1, 4, "shirt"),
            'line 3: ClassId: expected a category and attributes such as 6 or 6_12_45, found "shirt"',
        ),
        (
            changed(2, 0, "b"),
            'line 4: ImageId: expected the file name of a photo, which ends in .jpg, found "b" (b.jpg is there)',
        ),
        (changed(2, 0, "d.jpg"), 'line 4: ImageId: expected a photo, found none called "train/d.jpg"'),
        ([*ROWS, ["a.jpg", "1 1", 30]], "line 5: expected 5 fields, as many as the header has, found 3"),
        ([], "expected at least one row, found only the header"),
    ],
)
def test_a_row_is_refused(tmp_path: Path, rows: list[list[Any]], sentence: str) -> None:
    assert problems_of(write_photos(tmp_path, rows)) == [f"train.csv: {sentence}"]


def test_faults_of_a_thousand_rows_are_one_sentence(tmp_path: Path) -> None:
    told = problems_of(write_photos(tmp_path, [["a.jpg", "5", 30, 40, 0]] * 3000))
    assert told == [
        "train.csv: EncodedPixels: expected pairs of a start and a length, found 1 values, an odd number (3,000 times, "
        "first in line 2, line 3, line 4, …)"
    ]


def test_runs_that_lead_out_can_be_cut_off(tmp_path: Path) -> None:
    root = write_photos(tmp_path, changed(2, 1, "10 3 500 9"))
    data = Imaterialist2019Format(InstancesSection(outside="clip")).read(root)
    assert write_runs(masks_of(data.instances))[2] == "10 3 500 1"
    assert data.counts["instances_clipped"] == {"train": 1}


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    (root / "train/a.jpg").write_bytes(b"no photo")
    assert problems_of(root) == [
        "train.csv: line 2: ImageId: expected a photo that can be read: mend it, or take its rows out, found "
        "train/a.jpg, which can't"
    ]


def test_a_turned_photo_has_the_size_that_it_is_shown_in(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 25)).save(root / "train/b.jpg", exif=exif)  # 25 high as stored, 20 as shown
    assert len(FORMAT.read(root).instances) == 3


def test_test_photos_without_their_ending(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    write_csv(root / "sample_submission.csv", ["ImageId"], [["c"], ["gone.jpg"]])
    assert problems_of(root) == [
        'sample_submission.csv: line 2: ImageId: expected a photo in test/, its name with .jpg, found "c" '
        "(c.jpg is there)",
        'sample_submission.csv: line 3: ImageId: expected a photo in test/, its name with .jpg, found "gone.jpg"',
    ]


def test_descriptions_that_are_wrong(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    wrong = json.loads(json.dumps(DESCRIPTIONS))
    wrong["categories"] += [{"id": 0, "name": "again"}, {"id": -1, "name": "below"}, {"id": 7}, 5]
    (root / "label_descriptions.json").write_text(json.dumps(wrong))
    assert problems_of(root) == [
        "label_descriptions.json: categories[3]: id: expected each id once, found 0 again",
        "label_descriptions.json: categories[4]: id: expected a whole number from 0, found -1",
        "label_descriptions.json: categories[5]: name: expected a name, found null",
        "label_descriptions.json: categories[6]: expected an object with id and name, found 5",
    ]


def test_a_header_of_something_else(tmp_path: Path) -> None:
    root = write_photos(tmp_path)
    write_csv(root / "train.csv", ["id", "label"], [])
    assert problems_of(root) == [
        "train.csv: line 1: expected the columns ImageId,EncodedPixels,Height,Width,ClassId, each once, found "
        '"id,label"'
    ]


def test_what_is_missing_is_named_before_anything_is_read(tmp_path: Path) -> None:
    missing = FORMAT.missing_files(tmp_path / "none")
    assert missing == [
        f"{tmp_path}/none: there is no such folder yet; it is to hold train.csv, label_descriptions.json or "
        "label_list.csv, sample_submission.csv and the photos"
    ]
    photo(tmp_path / "train/a.jpg", 3, 3)
    assert FORMAT.missing_files(tmp_path) == [
        f"{tmp_path}/train.csv: missing (dataset.instances.train names it)",
        f"{tmp_path}/sample_submission.csv: missing (dataset.instances.test names it)",
        f"{tmp_path}/label_descriptions.json: missing, and so is label_list.csv, which may stand for it",
        f"{tmp_path}/test: missing, a folder of photos (dataset.instances.test_photos names it)",
    ]
    assert FORMAT.missing_files(write_photos(tmp_path)) == []


def test_long_runs_are_read_whole(tmp_path: Path) -> None:
    text = " ".join(f"{start} 1" for start in range(1, 60_000, 2))  # more than Python's csv takes by itself
    assert len(text) > 131_072
    photo(tmp_path / "train/big.jpg", 250, 250)
    root = write_photos(tmp_path, [["big.jpg", text, 250, 250, 0]])
    assert write_runs(masks_of(FORMAT.read(root).instances)) == [text]
