from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.files import GOOD, problems_of, with_change, write
from labelstack.formats import imaterialist2018


def test_reads_strings_of_digits_and_plain_urls(tmp_path: Path) -> None:
    dataset = imaterialist2018.read(write(tmp_path, GOOD))
    train = dataset.manifests["train"]
    assert train["image_id"].tolist() == [2, 1]  # the order of images, not of annotations
    assert train["url"].tolist() == [["http://a/2.jpg"], ["http://a/ü.jpg"]]
    assert train["label_id"].tolist() == [[3], [3, 7]]
    assert dataset.manifests["validation"]["label_id"].tolist() == [[], [3]]
    assert dataset.manifests["test"]["image_id"].tolist() == [9, 4]
    assert dataset.manifests["test"]["label_id"].tolist() == [None, None]
    assert dataset.labels.to_dict("list") == {
        "label_id": [3, 7],
        "name": ["label 3", "label 7"],
        "group": ["", ""],
        "n_train": [2, 1],
        "n_validation": [1, 0],
    }
    assert str(dataset.labels["label_id"].dtype) == "int32"
    assert dataset.counts == {
        "images": {"train": 2, "validation": 2, "test": 2},
        "labels": 2,
        "labels_per_image": {"train": 1.5, "validation": 0.5},
        "labels_without_train_image": 0,
        "labels_without_validation_image": 1,
        "repeated_labels_dropped": 1,
        "test_annotations_ignored": 0,
        "shared": {
            "urls": {"train_validation": 0, "train_test": 0, "validation_test": 0},
            "images": {"train_validation": 0, "train_test": 0, "validation_test": 0},
        },
    }


def test_annotations_of_test_images_are_counted_and_left_unread(tmp_path: Path) -> None:
    content = with_change(lambda c: c["test"].update(annotations=[{"image_id": 9, "label_id": [99]}]))
    dataset = imaterialist2018.read(write(tmp_path, content))
    assert dataset.counts["test_annotations_ignored"] == 1
    assert dataset.labels["label_id"].tolist() == [3, 7]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"images": [\n  {"image_id": 1,, }', "line 2, column 18"),
        ('{"images": [{"image_id": 1', "line 1, column 27"),
        ("", "line 1, column 1"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "expected an object at the top, found a list"),
        ("3.5", "expected an object at the top, found the number 3.5"),
        ('{"pictures": []}', "images: expected this key at the top, found keys pictures"),
        ("{}", "images: expected this key at the top, found no keys"),
        ('{"images": {}}', "images: expected a list of records, found an object"),
        ('{"images": null}', "images: expected a list of records, found null"),
        ('{"images": []}', "expected at least one record, found an empty list"),
        ('{"images": [7]}', "images[0]: expected an object, found the number 7"),
    ],
)
def test_unreadable_files_are_explained(tmp_path: Path, text: str, where: str) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD | {"test": text}))
    assert problem.startswith("test.json: ")
    assert where in problem


def test_bytes_that_are_not_utf8_are_explained(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    (root / "test.json").write_bytes(b'{"images": "\xff"}')
    assert problems_of(root) == ["test.json: expected UTF-8 text, found another byte at position 12"]


def test_a_folder_in_place_of_a_file_is_explained(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": GOOD["train"], "validation": GOOD["validation"]})
    (root / "test.json").mkdir()
    assert problems_of(root)[0].startswith("test.json: cannot be read")


def test_missing_splits_are_all_named(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nowhere") == [
        f"{split}.json: expected this file, found none" for split in ("train", "validation", "test")
    ]


BAD_IDS = [True, 1.0, None, "x", "-1", "1 ", "", "²", "١", -1, 2**63, 10**30, "9" * 5000, [], {}]


@pytest.mark.parametrize("value", BAD_IDS)
def test_bad_image_ids_are_refused(tmp_path: Path, value: Any) -> None:
    content = with_change(lambda c: c["test"]["images"][1].update(image_id=value))
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.startswith(
        "test.json: images[1]: image_id: expected an integer of 0…9223372036854775807 or a string"
    )
    assert len(problem) < 250


@pytest.mark.parametrize("value", [*BAD_IDS, 2**31, str(2**31)])
def test_bad_label_ids_are_refused(tmp_path: Path, value: Any) -> None:
    content = with_change(lambda c: c["train"]["annotations"][0].update(label_id=[3, value]))
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.startswith(
        "train.json: annotations[0] (image_id 1): label_id[1]: expected an integer of 0…2147483647"
    )


def test_a_number_of_thousands_of_digits_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    text = json.dumps(GOOD["test"]).replace('"image_id": 9', '"image_id": ' + "9" * 5000)
    (problem,) = problems_of(write(tmp_path, GOOD | {"test": text}))
    assert "images[0]: image_id: expected an integer" in problem


def test_the_largest_ids_are_accepted(tmp_path: Path) -> None:
    def largest(content: dict[str, Any]) -> None:
        content["test"]["images"][0]["image_id"] = 2**63 - 1
        content["train"]["annotations"][0]["label_id"] = ["2147483647"]

    dataset = imaterialist2018.read(write(tmp_path, with_change(largest)))
    assert dataset.manifests["test"]["image_id"].tolist() == [2**63 - 1, 4]
    assert dataset.labels["label_id"].tolist() == [3, 2**31 - 1]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"image_id": 4}, "url: expected a non-empty string or a list of such, found no such key"),
        ({"image_id": 4, "url": None}, "url: expected a non-empty string or a list of such, found null"),
        ({"image_id": 4, "url": 5}, "url: expected a non-empty string or a list of such, found 5"),
        ({"image_id": 4, "url": " "}, 'url: expected a non-empty string or a list of such, found " "'),
        ({"image_id": 4, "url": []}, "url: expected at least one URL, found an empty list"),
        ({"image_id": 4, "url": ["http://a", 7]}, "url[1]: expected a non-empty string, found 7"),
        ({"image_id": 4, "url": ["a\ud800"]}, 'url[0]: expected a non-empty string, found "a\\ud800"'),
    ],
)
def test_bad_urls_are_refused(tmp_path: Path, record: dict[str, Any], expected: str) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD | {"test": {"images": [record]}}))
    assert problem == f"test.json: images[0] (image_id 4): {expected}"


def test_a_missing_image_id_is_named(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD | {"test": {"images": [{"url": "http://a"}]}}))
    assert problem.startswith("test.json: images[0]: image_id: expected")
    assert problem.endswith("found no such key")


@pytest.mark.parametrize(
    ("value", "what"), [(1.5, "the number 1.5"), (True, "a boolean"), (None, "null"), ({}, "an object")]
)
def test_labels_must_be_a_list_or_one(tmp_path: Path, value: Any, what: str) -> None:
    content = with_change(lambda c: c["train"]["annotations"][0].update(label_id=value))
    assert problems_of(write(tmp_path, content)) == [
        f"train.json: annotations[0] (image_id 1): label_id: expected a list of label ids, found {what}"
    ]


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        train = content["train"]
        train["images"].append({"image_id": 2, "url": "http://a"})
        train["images"].append({"image_id": 5, "url": "http://a"})
        train["annotations"].append({"image_id": 6, "label_id": [3]})
        train["annotations"].append({"image_id": "1", "label_id": [3]})
        train["annotations"].append({"image_id": 1})
        train["annotations"].append("text")
        del content["validation"]["annotations"]
        content["test"]["images"][0]["url"] = []

    assert problems_of(write(tmp_path, with_change(spoil), "label_id,name\n3,a\n7,b\n7,c\n")) == [
        "labels.csv: line 4: label_id: expected each id once, found 7 again",
        "train.json: images[2] (image_id 2): image_id: expected each id once, found it in record 0 too",
        "train.json: annotations[3] (image_id 1): image_id: expected each id once, found it in record 0 too",
        "train.json: annotations[4] (image_id 1): image_id: expected each id once, found it in record 0 too",
        "train.json: annotations[4]: label_id: expected a list of label ids, found no such key",
        "train.json: annotations[5]: expected an object, found a string",
        "train.json: images[3] (image_id 5): expected an annotation, found none",
        "train.json: annotations[2] (image_id 6): expected an image of this id, found none",
        "validation.json: annotations: expected this key at the top, found keys images",
        "test.json: images[0] (image_id 9): url: expected at least one URL, found an empty list",
    ]


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("label_ids", [None, (1, 228)])
def test_a_split_without_any_label_is_refused(tmp_path: Path, split: str, label_ids: tuple[int, int] | None) -> None:
    def empty(content: dict[str, Any]) -> None:
        for record in content[split]["annotations"]:
            record["label_id"] = []

    (problem,) = problems_of(write(tmp_path, with_change(empty)), label_ids)
    assert problem.startswith(f"{split}.json: annotations: expected at least one label, found none: none of the 2 ")


@pytest.mark.parametrize(("folds", "said"), [(3, "or set folds.k to 2 or less"), (5, "folds.k to 2")])
def test_more_folds_than_validation_images_are_known_at_once(tmp_path: Path, folds: int, said: str) -> None:
    (problem,) = problems_of(write(tmp_path, GOOD), folds=folds)
    assert problem.startswith(f"validation.json: images: expected at least {folds}, one for each fold")
    assert said in problem
    imaterialist2018.read(tmp_path, folds=2)


def test_one_validation_image_is_too_few_for_any_folds(tmp_path: Path) -> None:
    def one(content: dict[str, Any]) -> None:
        content["validation"] = {key: records[1:] for key, records in content["validation"].items()}

    (problem,) = problems_of(write(tmp_path, with_change(one)), folds=2)
    assert "found 1: give it more images" in problem
    assert "folds.k is at least 2" in problem


number = st.integers(0, 300)
record = st.tuples(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=3), st.lists(number, max_size=6)
)


@settings(max_examples=40, deadline=None)
@given(
    splits=st.fixed_dictionaries(
        {s: st.dictionaries(number, record, min_size=1, max_size=8) for s in ("train", "validation", "test")}
    ),
    as_text=st.booleans(),
)
def test_any_valid_data_set_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, splits: dict[str, dict[int, tuple[list[str], list[int]]]], as_text: bool
) -> None:
    spell: Callable[[int], Any] = str if as_text else int
    content = {
        split: {
            "images": [{"image_id": spell(i), "url": urls} for i, (urls, _) in rows.items()],
            "annotations": [
                {"image_id": spell(i), "label_id": list(map(spell, labels))} for i, (_, labels) in rows.items()
            ],
        }
        for split, rows in splits.items()
    }
    root = write(tmp_path_factory.mktemp("data"), content)
    bare = [s for s in ("train", "validation") if not any(labels for _, labels in splits[s].values())]
    if bare:
        assert [problem.split(".json")[0] for problem in problems_of(root, (0, 300))] == bare
        return
    dataset = imaterialist2018.read(root, (0, 300))
    for split, rows in splits.items():
        frame = dataset.manifests[split]
        assert frame["image_id"].tolist() == list(rows)
        assert frame["url"].tolist() == [urls for urls, _ in rows.values()]
        if split != "test":
            assert frame["label_id"].tolist() == [sorted(set(labels)) for _, labels in rows.values()]
            assert dataset.labels[f"n_{split}"].sum() == sum(len(set(labels)) for _, labels in rows.values())
