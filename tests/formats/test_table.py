"""The format `table`: what is read, drawn and written."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from formats.tables import SPLITS, answered, named, problems_of, put, read, section
from labelstack.formats.beside import read_beside
from labelstack.formats.format import format_for
from labelstack.formats.manifest import read_manifest, write_manifest
from labelstack.formats.submission import read_form, write_form
from labelstack.formats.table import FORMAT
from labelstack.params import Params
from labelstack.params.dataset import DatasetSection
from labelstack.params.folds import FoldsSection
from labelstack.stages import ingest, paths
from labelstack.support.errors import InputProblems
from tiny import REPOSITORY, merged

TEXTS = ["007", "1e5", "NaN", "null", "=1+1", "-x", "@a", "+b", "true", "1.0"]


def test_a_column_says_the_splits(tmp_path: Path) -> None:
    data = read(put(tmp_path, SPLITS), split="split")
    assert named(data) == {
        "train": {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"]},
        "validation": {"c/d.jpg": ["cat"]},
        "test": {"e.jpg": None, "http://h/1.jpg": None},
    }
    assert answered(data) == {"http://h/1.jpg": ["cat"]}  # of the other nobody knows
    assert data.manifests["train"]["url"].tolist() == [["file:a.jpg"], ["file:b.jpg"]]
    assert data.labels.to_dict("list") == {
        "label_id": [0, 1], "name": ["cat", "dog"], "group": ["", ""], "n_train": [1, 2], "n_validation": [1, 0],
    }  # fmt: skip
    assert (data.counts["test_images_with_answers"], data.counts["drawn"]) == (1, [])


def test_an_id_is_the_digest_of_the_text(tmp_path: Path) -> None:
    data = read(put(tmp_path, SPLITS), split="split")
    digest = int.from_bytes(hashlib.sha256(b"c/d.jpg").digest()[:8], "big")
    assert data.manifests["validation"]["image_id"].tolist() == [digest % 2**63]


def test_texts_stay_texts(tmp_path: Path) -> None:
    names = [f"{text}.jpg" for text in TEXTS]
    rows = "".join(f'"{name}","{text}"\n' for name, text in zip(names, TEXTS, strict=True))
    data = read(put(tmp_path, f"image,labels\n{rows}", images=names))
    assert data.labels["name"].tolist() == sorted(TEXTS)
    assert {name for split in named(data).values() for name in split} == set(names)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_csv_files_of_all_kinds(tmp_path: Path, delimiter: str, end: str, bom: bytes) -> None:
    rows = [
        ["split", " image ", "labels"],
        ["train", "a.jpg", 'x, "y"/ z '],
        ["val", "b.jpg", "z"],
        ["test", "e.jpg", ""],
    ]
    text = end.join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows) + end
    data = read(put(tmp_path, bom + text.encode()), separator="/", split="split")
    assert named(data)["train"] == {"a.jpg": ['x, "y"', "z"]}


def test_labels_are_trimmed_and_kept_once(tmp_path: Path) -> None:
    put(tmp_path, "image,labels,split\na.jpg, cat ; dog;cat;; ,train\nb.jpg,,train\nc/d.jpg,cat,val\ne.jpg,,test\n")
    data = read(tmp_path, split="split")
    assert named(data)["train"] == {"a.jpg": ["cat", "dog"], "b.jpg": []}
    assert data.counts["repeated_labels_dropped"] == 1
    assert data.counts["images_without_label"] == {"train": 1, "validation": 0}


def test_paths_may_be_windows_ones_or_lie_in_a_folder_or_lack_their_ending(tmp_path: Path) -> None:
    put(tmp_path, "image,labels,split\nc\\d,cat,train\n./e,cat,val\nh%20 ü,cat,test\n", images=[
        "photos/c/d.jpg", "photos/e.jpg", "photos/h%20 ü.jpg"])  # fmt: skip
    data = read(tmp_path, images="photos", suffix=".jpg", split="split")
    assert [name for split in named(data).values() for name in split] == ["c\\d", "./e", "h%20 ü"]
    urls = [row[0] for manifest in data.manifests.values() for row in manifest["url"]]
    assert urls == ["file:photos/c/d.jpg", "file:photos/e.jpg", "file:photos/h%2520%20%C3%BC.jpg"]


def test_files_say_the_splits_and_test_needs_no_labels(tmp_path: Path) -> None:
    put(tmp_path, "image,labels\na.jpg,cat\nb.jpg,dog\n", "train.csv")
    put(tmp_path, "image,labels\nc/d.jpg,cat\n", "valid.csv")
    put(tmp_path, "image\ne.jpg\n", "test.csv")
    data = read(tmp_path, file="train.csv", validation_file="valid.csv", test_file="test.csv")
    assert named(data)["test"] == {"e.jpg": None}
    assert answered(data) == {}


@pytest.mark.parametrize("lists", [True, False])
def test_parquet_files(tmp_path: Path, lists: bool) -> None:
    cells = [["007", "b;c"], None, ["b;c"]] if lists else ["007|b;c", None, "b;c"]
    put(tmp_path, "", "other.csv")
    table = pd.DataFrame({"image": ["a.jpg", "b.jpg", "c/d.jpg"], "labels": cells})
    pd.DataFrame({"image": ["e.jpg"]}).to_parquet(tmp_path / "u.parquet")
    table[:2].to_parquet(tmp_path / "t.parquet")
    table[2:].to_parquet(tmp_path / "v.parquet")
    data = read(tmp_path, file="t.parquet", validation_file="v.parquet", test_file="u.parquet", separator="|")
    assert named(data)["train"] == {"a.jpg": ["007", "b;c"], "b.jpg": []}


def test_whole_numbers_of_a_parquet_file_are_texts_and_fractions_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "")
    rows = {"image": [f"{i}.jpg" for i in range(8)], "labels": [1, 2] * 4}
    for name in rows["image"]:
        (tmp_path / str(name)).touch()
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path, file="t.parquet", test=0.3).labels["name"].tolist() == ["1", "2"]
    pd.DataFrame(rows | {"labels": [1.5] * 8}).to_parquet(tmp_path / "t.parquet")
    assert problems_of(tmp_path, file="t.parquet") == [
        "t.parquet: labels: expected texts or lists of texts (or whole numbers), found the type double"
    ]


def test_json_lists_in_csv(tmp_path: Path) -> None:
    text = 'image,labels,split\na.jpg,"[""x;y"", ""z""]",train\nb.jpg,[],train\nc/d.jpg,"[""z""]",val\ne.jpg,,test\n'
    data = read(put(tmp_path, text), separator="json", split="split")
    assert named(data)["train"] == {"a.jpg": ["x;y", "z"], "b.jpg": []}
    FORMAT.write_submission(tmp_path / "s.csv", data.submission, [[0, 1]])
    assert (tmp_path / "s.csv").read_text() == 'image,labels\ne.jpg,"[""x;y"", ""z""]"\n'
    assert any("separator: json" in problem for problem in problems_of(tmp_path, split="split"))


def many(root: Path, n: int = 40, group: bool = False) -> Path:
    rows = "".join(f"{i}.jpg,{'cat' if i % 3 else 'dog'},{i // 4}\n" for i in range(n))
    return put(root, f"image,labels,who\n{rows}", images=[f"{i}.jpg" for i in range(n)])


def test_splits_that_nobody_named_are_drawn_and_their_labels_are_the_answers(tmp_path: Path) -> None:
    data = read(many(tmp_path), folds=3)
    assert data.counts["images"] == {"train": 27, "validation": 7, "test": 6}
    assert data.counts["drawn"] == ["validation", "test"]
    whole = {name for split in named(data).values() for name in split}
    assert whole == {f"{i}.jpg" for i in range(40)}
    assert answered(data) == {name: ["cat" if int(name[:-4]) % 3 else "dog"] for name in named(data)["test"]}
    assert named(read(tmp_path, folds=3)) == named(data)
    order = [int(name[:-4]) for name in data.manifests["train"]["name"]]
    assert order == sorted(order)


@pytest.mark.parametrize("by", ["who", "who.csv", {"blocks": 10}])
def test_what_belongs_together_is_not_drawn_apart(tmp_path: Path, by: Any) -> None:
    many(tmp_path)
    (tmp_path / "who.csv").write_text("id,group\n" + "".join(f"{i}.jpg,{i // 4}\n" for i in range(40)))
    data = read(tmp_path, folds=3, by={"group_by": by})
    of = [{int(name[:-4]) // 4 for name in split} for split in named(data).values()]
    if isinstance(by, dict):  # of the rows left, runs for validation are others
        assert of[2].isdisjoint(of[0] | of[1])
    else:
        assert sum(map(len, of)) == len(set.union(*of)) == 10


def test_an_empty_cell_stands_alone(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,cat,{'same' if i < 30 else ''}\n" for i in range(40))
    data = read(
        put(tmp_path, f"image,labels,who\n{rows}", images=[f"{i}.jpg" for i in range(40)]), by={"group_by": "who"}
    )
    of = {split for split, images in named(data).items() if any(int(name[:-4]) < 30 for name in images)}
    assert len(of) == 1
    beside = read_beside(tmp_path, FoldsSection(group_by="who"), data.manifests, data.columns)
    assert set(beside["group"]) == {"", "same"}


def test_columns_are_handed_on_where_folds_name_them_and_only_then(tmp_path: Path) -> None:
    table = "image,labels,split,who,dealt\n" + "".join(
        f"{name},cat,{split}, {split} {i} ,{i}\n"
        for i, (name, split) in enumerate(
            zip(["a.jpg", "b.jpg", "c/d.jpg", "e.jpg"], ["train", "train", "val", "test"], strict=True)
        )
    )
    put(tmp_path, table)
    assert read(tmp_path, split="split").columns == {}
    by = {"group_by": "who", "column": "dealt"}
    data = read(tmp_path, split="split", by=by)
    assert data.columns == {
        "train": {"who": ["train 0", "train 1"], "dealt": ["0", "1"]},
        "validation": {"who": ["val 2"], "dealt": ["2"]},
    }
    beside = read_beside(tmp_path, FoldsSection.model_validate(by), data.manifests, data.columns)
    assert beside["group"].tolist() == ["train 0", "train 1", "val 2"]
    assert beside["fold"].tolist() == [0, 1, 2]
    assert beside["row_id"].tolist() == [i for s in ("train", "validation") for i in data.manifests[s]["image_id"]]


def test_columns_of_parquet_files_and_of_one_of_two_files(tmp_path: Path) -> None:
    put(tmp_path, "", ".x")
    pd.DataFrame({"image": ["a.jpg", "b.jpg"], "labels": ["x", "y"]}).to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"image": ["c/d.jpg"], "labels": ["x"], "dealt": [3]}).to_parquet(tmp_path / "v.parquet")
    put(tmp_path, "image\ne.jpg\n", "u.csv", images=[])
    files = {"file": "t.parquet", "validation_file": "v.parquet", "test_file": "u.csv"}
    data = read(tmp_path, by={"column": "dealt"}, **files)
    assert data.columns == {"train": {"dealt": ["", ""]}, "validation": {"dealt": ["3"]}}
    assert problems_of(tmp_path, by={"group_by": "who"}, **files) == [
        'folds.group_by: expected a column "who" in t.parquet or v.parquet, found none'
    ]


def test_a_column_that_is_not_there_or_holds_no_folds_is_named(tmp_path: Path) -> None:
    assert problems_of(many(tmp_path), by={"group_by": "whom"}) == [
        'labels.csv: expected a column "whom" (folds.group_by), found "image", "labels", "who"'
    ]
    by = FoldsSection(column="labels")
    data = read(tmp_path, by=by.model_dump(exclude_defaults=True))
    with pytest.raises(
        InputProblems, match="train: labels: fold: expected a number from 0, found something else 27 times"
    ):
        read_beside(tmp_path, by, data.manifests, data.columns)
    (tmp_path / "f.csv").write_text("id,fold\n" + "".join(f"{i}.jpg,{i % 3}\n" for i in range(40)))
    beside = read_beside(tmp_path, FoldsSection(column="f.csv"), data.manifests)  # of test images too
    assert len(beside) == 34
    number = dict(
        zip(pd.concat([data.manifests[s] for s in ("train", "validation")])["name"], beside["fold"], strict=True)
    )
    assert all(fold == int(name[:-4]) % 3 for name, fold in number.items())


def test_another_seed_draws_others(tmp_path: Path) -> None:
    draws = [format_for(section(many(tmp_path)), ingest.drawing(seed)).read(tmp_path, None, 2) for seed in (0, 1)]
    assert named(draws[0])["test"].keys() != named(draws[1])["test"].keys()


@pytest.mark.parametrize("top", ["", "pictures"])
def test_a_folder_for_each_class(tmp_path: Path, top: str) -> None:
    names = [f"{label}/{i}.JPG" for label in ("1", "cats and dogs", "ü") for i in range(6)]
    put(tmp_path / top, "", ".DS_Store", images=[*names, "ü/notes.txt", ".hidden/a.jpg"])
    data = read(tmp_path, "single_label", file=None, images=top or None)
    assert data.labels["name"].tolist() == ["1", "cats and dogs", "ü"]
    assert sum(data.counts["images"].values()) == 18
    assert all(labels == [name.partition("/")[0]] for name, labels in named(data)["train"].items())


def test_folders_of_splits_with_a_folder_for_each_class(tmp_path: Path) -> None:
    train = [f"train/{label}/{i}.png" for label in "ab" for i in range(3)]
    put(tmp_path, "", ".x", images=[*train, "val/a/1.png", "val/b/1.png", "test/1.png", "test/2.png"])
    data = read(tmp_path, "single_label", file=None)
    assert named(data)["validation"] == {"val/a/1.png": ["a"], "val/b/1.png": ["b"]}
    assert named(data)["test"] == {"test/1.png": None, "test/2.png": None}
    assert answered(data) == {}
    put(tmp_path, "", ".x", images=["test/b/7.png"])
    assert answered(read(tmp_path, "single_label", file=None)) == {"test/b/7.png": ["b"]}


def test_test_images_in_a_folder_that_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "", ".x", images=["train/a/1.png", "train/b/1.png", "val/a/1.png", "test/unknown/1.png"])
    assert answered(read(tmp_path, file=None)) == {}
    put(tmp_path, "", ".x", images=["test/a/2.png"])
    (problem,) = problems_of(tmp_path, file=None)
    assert "expected a class that train/ has too, found unknown/ (1 images)" in problem


def test_a_submission_has_the_texts_of_the_table(tmp_path: Path) -> None:
    text = 'photo,tags,split\na.jpg,a|b,train\nb.jpg,b,val\n"e.jpg",,test\n"c/d.jpg",,test\n"http://h/1,2.jpg",,test\n'
    data = read(put(tmp_path, text), image="photo", labels="tags", separator="|", split="split")
    write_form(tmp_path / "form.json", data.submission)
    form = read_form(tmp_path / "form.json")
    assert form.image_id.tolist() == data.manifests["test"]["image_id"].tolist()
    FORMAT.write_submission(tmp_path / "s.csv", form, [[1, 0], [], [1]])
    assert (tmp_path / "s.csv").read_bytes() == b'photo,tags\ne.jpg,a|b\nc/d.jpg,\n"http://h/1,2.jpg",b\n'


def test_names_live_in_the_manifest(tmp_path: Path) -> None:
    data = read(put(tmp_path, SPLITS), split="split")
    for split, manifest in data.manifests.items():
        write_manifest(tmp_path / f"{split}.parquet", manifest)
        back = read_manifest(tmp_path / f"{split}.parquet")
        pd.testing.assert_frame_equal(back, manifest.reset_index(drop=True), check_dtype=False)
        write_manifest(tmp_path / "without.parquet", manifest.drop(columns="name"))
        assert "name" not in read_manifest(tmp_path / "without.parquet")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of local images, and params.yaml for it."""
    monkeypatch.chdir(tmp_path)
    many(tmp_path / "mine")
    dataset = {"format": "table", "root": "mine", "answers": None}
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(shipped, {"dataset": dataset})))
    return tmp_path


def test_ingest_writes_answers_and_notices_a_changed_picture(here: Path) -> None:
    ingest.run()
    test, known = read_manifest(paths.manifest("test")), read_manifest(paths.ANSWERS)
    assert known["image_id"].tolist() == test["image_id"].tolist()
    before = json.loads(paths.LOCAL_FILES.read_text())
    (here / "mine" / test["name"][0]).write_bytes(b"other")
    ingest.run()
    after = json.loads(paths.LOCAL_FILES.read_text())
    assert {split for split in before if before[split] != after[split]} == {"test"}


def test_single_label_is_a_rule_for_other_formats_too(here: Path) -> None:
    images = [{"image_id": i, "url": "http://h/1"} for i in range(5)]
    content = {"images": images, "annotations": [{"image_id": i, "label_id": [1, 2][: i % 3]} for i in range(5)]}
    for split in ("train", "validation", "test"):
        (here / f"mine/{split}.json").write_text(json.dumps(content if split != "test" else {"images": images}))
    stated = yaml.safe_load((here / "params.yaml").read_text())
    stated["dataset"] |= {"format": "imaterialist2018", "task": "single_label"}
    stated["thresholds"] |= {"calibration": "temperature"}
    Path("mine/labels.csv").unlink()
    Path("params.yaml").write_text(yaml.safe_dump(stated))
    with pytest.raises(InputProblems, match="single_label") as caught:
        ingest.run()
    assert len(caught.value.problems) == 6
    assert "train: image 2: expected exactly one label (dataset.task: single_label), found 2: label 1, label 2" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": "mine/x.csv"}, "dataset.answers: must be null"),
        ({"label_ids": [0, 3]}, "dataset.label_ids: must be null"),
        ({"table": {"split": "s", "test_file": "t.csv"}}, "dataset.table.split: a column or files say"),
        ({"table": {"file": None, "test_file": "t.csv"}}, "dataset.table.file: must name the file of the train rows"),
        ({"table": {"file": None, "split": "s"}}, "dataset.table.split: names a column, and file: null has none"),
        ({"table": {"file": "../t.csv"}}, "dataset.table.file: must be a path below dataset.root"),
        ({"table": {"images": "/srv"}}, "dataset.table.images: must be a path below dataset.root"),
        ({"table": {"separator": "and"}}, "dataset.table.separator: must be 1 to 8 signs"),
        ({"table": {"separator": ""}}, "dataset.table.separator: must be 1 to 8 signs"),
        ({"table": {"suffix": "a/b"}}, "dataset.table.suffix: must be the end of a file's name"),
        ({"table": {"test": 0}}, "dataset.table.test: "),
        ({"table": {"colum": "x"}}, "dataset.table.colum: unknown key"),
        ({"task": "multilabel"}, "dataset.task: "),
    ],
)
def test_params_that_do_not_fit_are_named(here: Path, change: dict[str, object], said: str) -> None:
    stated = yaml.safe_load((here / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(merged(stated, {"dataset": change})))
    with pytest.raises(InputProblems) as caught:
        ingest.run()
    assert [problem for problem in caught.value.problems if problem.startswith(said)], caught.value.problems


def test_defaults_need_nothing_of_other_formats() -> None:
    shipped = Params.model_validate(yaml.safe_load((REPOSITORY / "params.yaml").read_text()))
    assert shipped.dataset.table == DatasetSection().table


def test_check_names_missing_files(tmp_path: Path) -> None:
    dataset = section(tmp_path / "mine", images="photos", test_file="test.csv")
    assert format_for(dataset).missing_files(tmp_path / "mine") == [
        f"{tmp_path}/mine: there is no such folder yet; it is to hold labels.csv, test.csv"
    ]
    put(tmp_path / "mine", SPLITS)
    assert format_for(dataset).missing_files(tmp_path / "mine") == [
        f"{tmp_path}/mine/test.csv: missing",
        f"{tmp_path}/mine/photos: missing, the folder of the images (dataset.table.images)",
    ]


def test_whatever_texts_a_table_holds_come_back_in_the_submission(tmp_path: Path) -> None:
    rng = random.Random(0)
    signs = "aA0 ,;'\"=+-@é" + chr(0x1F600) + "%#&?()[]"
    names = sorted({unicodedata.normalize("NFC", "".join(rng.choices(signs, k=7)).strip()) + f"{i}" for i in range(60)})
    images = [f"{name}.jpg" for name in names]
    put(tmp_path, "", images=images)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "labels"], *zip(images, names, strict=True)])
    data = read(tmp_path, separator=None)
    FORMAT.write_submission(tmp_path / "s.csv", data.submission, [[label] for label in data.answers["label_id"].str[0]])
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        (_, *rows) = csv.reader(file)
    assert [(f"{json.loads(label)[0]}.jpg") for _, label in rows] == [image for image, _ in rows]
