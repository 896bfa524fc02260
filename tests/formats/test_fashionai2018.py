"""The format `fashionai2018`: rows that know one attribute, letters, several files, a submission of probabilities."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from labelstack.formats.fashionai2018 import FORMAT
from labelstack.formats.format import CompetitionData, format_for
from labelstack.formats.manifest import read_manifest, write_manifest
from labelstack.formats.submission import read_form, write_form
from labelstack.formats.text_id import text_id
from labelstack.formats.zipped import zipped_by_name
from labelstack.params import Params
from labelstack.params.dataset import DatasetSection
from labelstack.support.errors import InputProblems
from labelstack.support.fashionai_values import FIRST, NAMES

SKIRT, LAPEL = "skirt_length_labels", "lapel_design_labels"
LABELS = [
    f"Images/{SKIRT}/a.jpg,{SKIRT},nnymnn",
    f"Images/{LAPEL}/b.jpg,{LAPEL},mnnym",
    f"Images/{SKIRT}/c.jpg,{SKIRT},ynnnnn",
]
QUESTION = [f"Images/{LAPEL}/q.jpg,{LAPEL},?", f"Images/{SKIRT}/p.jpg,{SKIRT},?"]


def put(root: Path, file: str, lines: list[str], images: bool = True) -> None:
    """A file of the data set and an empty file for each image that it names."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text("".join(f"{line}\n" for line in lines))
    for line in lines if images else []:
        path = (root / file).parent.parent / line.partition(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "train/Annotations/label.csv", LABELS)
    put(tmp_path, "test/Tests/question.csv", QUESTION)
    return tmp_path


def read(root: Path, folds: int = 0, **dataset: Any) -> CompetitionData:
    section = DatasetSection.model_validate({"format": "fashionai2018", "root": str(root), **dataset})
    return format_for(section).read(root, None, folds)


def problems_of(root: Path, **dataset: Any) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        read(root, **dataset)
    return caught.value.problems


def test_a_row_knows_one_attribute_its_true_value_and_those_that_may_be(root: Path) -> None:
    data = read(root)
    train, test = data.manifests["train"], data.manifests["test"]
    assert [[NAMES[label] for label in row] for row in train["label_id"]] == [
        [f"{SKIRT}::knee"],
        [f"{LAPEL}::shawl"],
        [f"{SKIRT}::invisible"],
    ]
    assert [[NAMES[label] for label in row] for row in train["maybe"]] == [
        [f"{SKIRT}::midi"],
        [f"{LAPEL}::invisible", f"{LAPEL}::plus size shawl"],
        [],
    ]
    assert train["known"].tolist() == [SKIRT, LAPEL, SKIRT]
    assert train["name"].tolist() == [line.partition(",")[0] for line in LABELS]
    assert train["image_id"].tolist() == [text_id(name) for name in train["name"]]
    assert train["url"].tolist()[1] == [f"file:train/Images/{LAPEL}/b.jpg"]
    assert test["known"].tolist() == [LAPEL, SKIRT]
    assert test["label_id"].tolist() == test["maybe"].tolist() == [None, None]
    assert data.counts["images_of_attribute"][SKIRT] == {"train": 2, "test": 1}
    assert data.counts["images_with_maybe"] == {"train": 2}
    for split, manifest in data.manifests.items():
        write_manifest(root / f"{split}.parquet", manifest)
        again = read_manifest(root / f"{split}.parquet")
        assert again.to_dict("list") == manifest.to_dict("list")


def test_the_labels_are_54_values_in_eight_groups(root: Path) -> None:
    labels = read(root).labels
    assert labels["label_id"].tolist() == list(range(54))
    sizes = labels["group"].value_counts(sort=False).to_dict()
    assert sizes == {
        "coat_length_labels": 8, "collar_design_labels": 5, "lapel_design_labels": 5, "neck_design_labels": 5,
        "neckline_design_labels": 10, "pant_length_labels": 6, "skirt_length_labels": 6, "sleeve_length_labels": 9,
    }  # fmt: skip
    assert labels["name"].is_unique
    assert labels.loc[labels["n_train"] > 0, "name"].tolist() == [
        f"{LAPEL}::shawl", f"{SKIRT}::invisible", f"{SKIRT}::knee",
    ]  # fmt: skip


def test_of_several_files_the_first_line_of_a_path_counts(root: Path) -> None:
    put(
        root,
        "base/Annotations/label.csv",
        [f"Images/{SKIRT}/a.jpg,{SKIRT},nnnnny", f"Images/{SKIRT}/d.jpg,{SKIRT},nynnnn"],
    )
    put(root, "rank/answers.csv", [f"Images/{SKIRT}/d.jpg,{SKIRT},nnynnn,0"], images=False)
    files = ["train/Annotations/label.csv", "base/Annotations/label.csv", "rank/answers.csv"]
    data = read(root, fashionai={"labels": files})
    train = data.manifests["train"].set_index("name")
    assert len(train) == 4
    assert train.loc[f"Images/{SKIRT}/a.jpg", "label_id"] == [FIRST[SKIRT] + 2]
    assert train.loc[f"Images/{SKIRT}/d.jpg", "label_id"] == [FIRST[SKIRT] + 1]
    assert train.loc[f"Images/{SKIRT}/d.jpg", "url"] == [f"file:base/Images/{SKIRT}/d.jpg"]
    assert data.counts["repeated_paths_dropped"] == 2
    turned = read(root, fashionai={"labels": [files[1], files[0], files[2]]}).manifests["train"].set_index("name")
    assert turned.loc[f"Images/{SKIRT}/a.jpg", "label_id"] == [FIRST[SKIRT] + 5]


def test_another_order_of_lines_says_the_same(root: Path) -> None:
    before = read(root).manifests["train"].set_index("name").sort_index()
    put(root, "train/Annotations/label.csv", LABELS[::-1])
    after = read(root).manifests["train"].set_index("name").sort_index()
    assert after.to_dict("list") == before.to_dict("list")


@pytest.mark.parametrize(
    ("mark", "end"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n"), (b"\xef\xbb\xbf", b"\r\n")], ids=["bom", "crlf", "both"]
)
def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(root: Path, mark: bytes, end: bytes) -> None:
    before = read(root)
    for file in ("train/Annotations/label.csv", "test/Tests/question.csv"):
        (root / file).write_bytes(mark + (root / file).read_bytes().replace(b"\n", end))
    after = read(root)
    for split in ("train", "test"):
        assert after.manifests[split].to_dict("list") == before.manifests[split].to_dict("list")
    assert after.submission.texts == before.submission.texts


A = f"Images/{SKIRT}/a.jpg"
KEYS = (
    "one of coat_length_labels, collar_design_labels, lapel_design_labels, neck_design_labels, neckline_design_labels, "
    "pant_length_labels, skirt_length_labels, sleeve_length_labels"
)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{A},{SKIRT},nyynnn", 'line 1: letters: expected exactly one y, found 2 in "nyynnn"'),
        (f"{A},{SKIRT},nmmnnn", 'line 1: letters: expected exactly one y, found none in "nmmnnn"'),
        (f"{A},{SKIRT},nnxyn?", 'line 1: letters: expected none but n, y and m, found "?x" in "nnxyn?"'),
        (
            f"{A},{SKIRT},nynnn",
            f'line 1: letters: expected 6 letters for {SKIRT}, one for each value, found 5: "nynnn"',
        ),
        (f"{A},skirt_length,nnynnn", f'line 1: key: expected {KEYS}, found "skirt_length"'),
        (f"{A},,nnynnn", f"line 1: key: expected {KEYS}, found an empty field"),
        (
            f"Images/{LAPEL}/b.jpg,{SKIRT},nnynnn",
            f'line 2: key: expected one attribute for each path, found "Images/{LAPEL}/b.jpg" under {SKIRT} on line 1 '
            "too",
        ),
        (
            f"Images/{SKIRT}/gone.jpg,{SKIRT},nnynnn",
            f"line 1: path: expected an image file, found none called train/Images/{SKIRT}/gone.jpg",
        ),
        (
            rf"Images\{SKIRT}\a.jpg,{SKIRT},nnynnn",
            rf'line 1: path: expected / between the folders of a path, found "Images\\{SKIRT}\\a.jpg": write it as in '
            "the published files",
        ),
        (
            f"../Images/a.jpg,{SKIRT},nnynnn",
            "line 1: path: expected a path below the folder of the images, such as Images/skirt_length_labels/1.jpg, "
            'found "../Images/a.jpg"',
        ),
        (
            f'"Images/a,b.jpg",{SKIRT},nnynnn',
            "line 1: path: expected a path without commas, quotation marks and control characters, found "
            '"Images/a,b.jpg"',
        ),
        (f",{SKIRT},nnynnn", "line 1: path: expected a path, found an empty field"),
        (f"{A},{SKIRT}", "line 1: expected three fields, path, key and letters, found 2"),
        (f"{A},{SKIRT},nnynnn,1", 'line 1: expected 0 in a fourth field, found "1"'),
    ],
)
def test_bad_labels_are_told_in_a_sentence(root: Path, line: str, told: str) -> None:
    put(root, "train/Annotations/label.csv", [line, *LABELS[1:]], images=False)
    assert problems_of(root) == [f"train/Annotations/label.csv: {told}"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"Images/{LAPEL}/q.jpg,{LAPEL}",
            "line 1: expected three fields, path, key and one that is not read, found 2",
        ),
        (f"{QUESTION[1]}", f'line 2: path: expected each image once, found "Images/{SKIRT}/p.jpg" on line 1 too'),
        (
            f"Images/{LAPEL}/x.jpg,{LAPEL},",
            f"line 1: path: expected an image file, found none called test/Images/{LAPEL}/x.jpg",
        ),
        (
            f"Images/{LAPEL}/q.jpg,neck_design_labels,",
            "line 1: key: expected an attribute that dataset.fashionai.labels have images of, found "
            '"neck_design_labels"',
        ),
    ],
)
def test_bad_questions_are_told_in_a_sentence(root: Path, line: str, told: str) -> None:
    put(root, "test/Tests/question.csv", [line, QUESTION[1]], images=False)
    assert problems_of(root) == [f"test/Tests/question.csv: {told}"]


def test_one_path_under_two_keys_in_two_files(root: Path) -> None:
    put(root, "base/Annotations/label.csv", [f"{A},{LAPEL},ynnnn"])
    files = ["train/Annotations/label.csv", "base/Annotations/label.csv"]
    assert problems_of(root, fashionai={"labels": files}) == [
        f'base/Annotations/label.csv: line 1: key: expected one attribute for each path, found "{A}" under {SKIRT} on '
        "train/Annotations/label.csv, line 1 too"
    ]


def test_all_problems_of_all_files_at_once(root: Path) -> None:
    put(root, "train/Annotations/label.csv", [f"{A},{SKIRT},nnnnnn", f"b.jpg,{LAPEL},y"], images=False)
    put(root, "test/Tests/question.csv", ["q.jpg,x,y", "a"], images=False)
    assert len(problems_of(root)) == 4
    (root / "test/Tests/question.csv").unlink()
    (root / "train/Annotations/label.csv").write_text("")
    assert problems_of(root) == [
        "train/Annotations/label.csv: expected at least one line, found an empty file",
        "test/Tests/question.csv: expected this file, found none",
    ]
    assert FORMAT.missing_files(root) == [
        f"{root}/test/Tests/question.csv: missing (dataset.fashionai.question names it)"
    ]


def test_another_encoding_is_told_with_the_file(root: Path) -> None:
    (root / "test/Tests/question.csv").write_bytes("\n".join(QUESTION).encode("utf-16"))
    assert problems_of(root) == [
        "test/Tests/question.csv: expected UTF-8 text, found another byte at position 0",
    ]


def test_answers_are_a_file_like_label_csv(root: Path) -> None:
    labels = read(root).labels
    put(root, "answers.csv", [f"Images/{LAPEL}/q.jpg,{LAPEL},nymnn,0"], images=False)
    found = FORMAT.answers(root / "answers.csv", labels).to_dict("list")
    first = FIRST[LAPEL]
    assert found == {
        "image_id": [text_id(f"Images/{LAPEL}/q.jpg")],
        "label_id": [[first + 1]],
        "known": [LAPEL],
        "maybe": [[first + 2]],
    }
    put(root, "answers.csv", [f"Images/{LAPEL}/q.jpg,{LAPEL},nnnnn,0"], images=False)
    with pytest.raises(InputProblems, match=r"answers\.csv: line 1: letters: expected exactly one y, found none"):
        FORMAT.answers(root / "answers.csv", labels)


def test_the_submission_has_the_asked_attributes_shares_in_the_order_of_the_question(root: Path) -> None:
    write_form(root / "form.json", read(root).submission)
    form = read_form(root / "form.json")
    P = np.zeros((2, 54), np.float32)
    P[0, FIRST[LAPEL] : FIRST[LAPEL] + 5] = [0.25, 0, 0.125, 0, 0.125]
    P[:, 0] = 0.5  # of another attribute: counts nothing
    FORMAT.write_probabilities(root / "out.csv", form, np.arange(54), P)
    assert (root / "out.csv").read_bytes() == (
        f"Images/{LAPEL}/q.jpg,{LAPEL},0.50000000;0.00000000;0.25000000;0.00000000;0.25000000\n"
        f"Images/{SKIRT}/p.jpg,{SKIRT},{';'.join(['0.16666667'] * 6)}\n"
    ).encode()
    FORMAT.write_submission(root / "out.csv", form, [[FIRST[LAPEL] + 1], [FIRST[SKIRT]]])
    assert [line.rpartition(",")[2] for line in (root / "out.csv").read_text().splitlines()] == [
        "0.00000000;1.00000000;0.00000000;0.00000000;0.00000000",
        "1.00000000;0.00000000;0.00000000;0.00000000;0.00000000;0.00000000",
    ]
    for bad in (P[:1], P - 1, P * np.nan):
        with pytest.raises(ValueError, match="expected numbers ≥ 0, 2 rows of 54"):
            FORMAT.write_probabilities(root / "other.csv", form, np.arange(54), bad)
    assert not (root / "other.csv").exists()


def test_a_name_that_ends_in_zip_is_an_archive_of_one_file_with_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with zipped_by_name(tmp_path / name / "mine.zip") as file:
            file.write_text("1,2\n")
    with zipfile.ZipFile(tmp_path / "a/mine.zip") as archive:
        assert archive.namelist() == ["mine.csv"]
        assert archive.read("mine.csv") == b"1,2\n"
    assert (tmp_path / "a/mine.zip").read_bytes() == (tmp_path / "b/mine.zip").read_bytes()
    with zipped_by_name(tmp_path / "mine.csv") as file:
        assert file == tmp_path / "mine.csv"


def test_there_is_an_empty_validation_split_where_base_models_have_folds_of_train(root: Path) -> None:
    assert len(read(root).manifests["validation"]) == 0
    assert set(read(root, folds=2).manifests) == {"train", "test"}
    assert set(read(root, validation=0.2).manifests) == {"train", "test"}


def test_params_of_the_format_are_checked() -> None:
    with pytest.raises(ValidationError, match="the labels of the format fashionai2018 are its 54 values"):
        DatasetSection(format="fashionai2018", label_ids=(0, 3))
    with pytest.raises(ValidationError, match=r"must be a path below dataset\.root"):
        DatasetSection.model_validate({"fashionai": {"question": "../question.csv"}})
    with pytest.raises(ValidationError, match=r"must name each file once, and a\.csv stands there again"):
        DatasetSection.model_validate({"fashionai": {"labels": ["a.csv", "b.csv", "a.csv"]}})
    content = {
        "dataset": {"format": "fashionai2018"},
        "models": {"one": {"backbone": "small_cnn"}},
        "stackers": {"mean": {"kind": "mean"}},
    }
    with pytest.raises(ValidationError, match=r"dataset\.task: must be single_label with dataset\.format"):
        Params.model_validate(content)
    content["dataset"]["task"] = "single_label"
    assert Params.model_validate(content).models["one"].loss == "cross_entropy"


def told_of_soft_labels(said: Any, format: str = "fashionai2018") -> str:
    task = "single_label" if format == "fashionai2018" else "multi_label"
    one = {"backbone": "small_cnn", "soft_labels": said}
    content = {"dataset": {"format": format, "task": task}, "models": {"one": one}, "stackers": {"m": {"kind": "mean"}}}
    try:
        Params.model_validate(content)
    except ValidationError as error:
        return str(error)
    return ""


def test_soft_labels_are_for_data_that_have_some() -> None:
    for said in ("none", "published", "sum_to_one", {SKIRT: "published", LAPEL: "none"}):
        assert told_of_soft_labels(said) == ""
    assert told_of_soft_labels("none", "imaterialist2018") == ""
    told = "models.one.soft_labels: is for labels that may be true, which dataset.format fashionai2018 has alone"
    assert told in told_of_soft_labels("published", "imaterialist2018")
    assert "models.one.soft_labels: there is no label group skirt; there are coat_length_labels, " in (
        told_of_soft_labels({"skirt": "published"})
    )
    for wrong in ("soft", {SKIRT: "soft"}, 1, ["none"]):
        assert "must be none, published, sum_to_one, or a section of these by label group" in told_of_soft_labels(wrong)
