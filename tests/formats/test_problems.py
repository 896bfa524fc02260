"""Faults that many records share are told once; different ones all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from formats.files import GOOD, problems_of, write
from labelstack.formats.problems import FileProblems


def many(n: int, change: Any) -> dict[str, Any]:
    """A train split of n images, after a change."""
    train = {
        "images": [{"image_id": i, "url": f"http://a/{i}"} for i in range(n)],
        "annotations": [{"image_id": i, "label_id": [3]} for i in range(n)],
    }
    change(train)
    return GOOD | {"train": train}


def test_a_label_that_is_not_declared_is_told_once(tmp_path: Path) -> None:
    def spoil(train: dict[str, Any]) -> None:
        for number, record in enumerate(train["annotations"]):
            record["label_id"] = [3, 229]
            if number == 40:
                record["label_id"] = [3, 4, "x"]

    assert problems_of(write(tmp_path, many(50, spoil)), (1, 228)) == [
        "train.json: label_id: expected a label id of 1…228 (dataset.label_ids), found something else 50 times: "
        "229 (49 times, first in annotations[0] (image_id 0): label_id[1]), "
        '"x" (once, first in annotations[40] (image_id 40): label_id[2])'
    ]


def test_images_without_annotation_and_other_faults_are_each_told_once(tmp_path: Path) -> None:
    def spoil(train: dict[str, Any]) -> None:
        train["annotations"] = train["annotations"][:80]
        for number in range(20):
            train["images"][number]["url"] = ""
        train["images"][99] = 7

    assert problems_of(write(tmp_path, many(100, spoil))) == [
        'train.json: url: expected a non-empty string or a list of such, found "" (20 times, first in images[0] '
        "(image_id 0), images[1] (image_id 1), images[2] (image_id 2), …)",
        "train.json: images[99]: expected an object, found the number 7",
        "train.json: expected an annotation, found none (19 times, first in images[80] (image_id 80), "
        "images[81] (image_id 81), images[82] (image_id 82), …)",
    ]


faults = st.lists(st.tuples(st.sampled_from(["images", "annotations"]), st.sampled_from("kl"), st.integers(0, 9)))


@given(faults)
def test_every_fault_is_counted_and_every_kind_is_told(rows: list[tuple[str, str, int]]) -> None:
    problems = FileProblems("a.json")
    for number, (section, key, value) in enumerate(rows):
        problems.add(section, f"{section}[{number}]", key, "sense", str(value))
    kinds = {(section, key): [row[2] for row in rows if row[:2] == (section, key)] for section, key, _ in rows}
    wanted = sum(len(values) if len(values) <= 3 else 1 for values in kinds.values())
    sentences = problems.sentences()
    assert len(sentences) == wanted
    assert bool(problems) == bool(rows)
    for (section, key), values in kinds.items():
        if len(values) > 3:
            (told,) = [text for text in sentences if f"{key}: " in text and f"{section}[" in text]
            assert f"{len(values)} times" in told
            assert told.startswith("a.json: ")


def test_a_million_different_values_are_one_sentence() -> None:
    problems = FileProblems("a.json")
    for number in range(5000):
        problems.add("images", f"images[{number}]", "image_id", "a number", f'"x{number}"')
    (told,) = problems.sentences()
    assert told == (
        "a.json: image_id: expected a number, found something else 5,000 times: "
        + ", ".join(f'"x{i}" (once, first in images[{i}])' for i in range(5))
        + ", others 4,995 times"
    )
