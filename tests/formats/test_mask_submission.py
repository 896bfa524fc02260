"""The submission of masks: written, read again, scored; and a sentence for all that the server would refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.mask_submission import FoundInstances, Submitted, read_masks, write_masks
from labelstack.masks.run_lengths import decode, encode
from labelstack.scoring.instance_precision import Instances, photo_scores
from labelstack.support.errors import InputProblems

LABELS = InstanceLabels("label_descriptions.json", {0: "shirt", 6: "pants", 23: "shoe"}, {2: "a", 12: "b", 340: "c"})
NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def scored(truth: Submitted, found: Submitted, n: int) -> list[float]:
    one, other = (Instances(*side) for side in (truth, found))
    return photo_scores(one, other, n).tolist()


def box(top: int, left: int, bottom: int, right: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_what_is_written_scores_full_marks_and_every_photo_has_a_row(tmp_path: Path) -> None:
    masks = np.array([box(0, 0, 4, 4), box(2, 2, 10, 10)])
    photo = FoundInstances("b.jpg", [0, 6], [{340, 2}, set()], encode(masks))
    assert write_masks(tmp_path / "mine.csv", NAMES, [photo], side=32) == 2
    lines = (tmp_path / "mine.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["ImageId", "a.jpg", "b.jpg", "b.jpg", "c.jpg"]
    assert lines[1] == "a.jpg,1 1,23"
    assert lines[2].endswith(",0_2_340")
    read = read_masks(tmp_path / "mine.csv", NAMES, LABELS, side=32)
    assert read.photo.tolist() == [0, 1, 1, 2]
    large = masks.repeat(2, axis=1).repeat(2, axis=2)
    assert np.array_equal(decode(read.masks)[1], large[0])
    assert np.array_equal(decode(read.masks)[2], large[1] & ~large[0])  # the first lies on top
    assert scored(read, read, 3) == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_masks_give_a_file_that_is_not_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    photos = []
    for name in data.draw(st.lists(st.sampled_from(NAMES), unique=True).map(sorted)):
        n, height, width = (data.draw(st.integers(low, 6)) for low in (0, 1, 1))
        masks = np.array(data.draw(st.lists(st.booleans(), min_size=n * height * width, max_size=n * height * width)))
        attributes = [data.draw(st.sets(st.sampled_from([2, 12, 340]))) for _ in range(n)]
        photos.append(FoundInstances(name, [6] * n, attributes, encode(masks.reshape(n, height, width).astype(bool))))
    written = write_masks(path, NAMES, photos, side=8)
    read = read_masks(path, NAMES, LABELS, side=8)
    assert set(read.photo.tolist()) == {0, 1, 2}
    assert (read.category == 6).sum() == written
    assert decode(read.masks).astype(int)[read.category == 6].sum(axis=0).max(initial=0) <= 3  # one a photo at most
    assert min(scored(read, read, 3)) == 1


@pytest.mark.parametrize("order", [["b.jpg", "a.jpg"], ["a.jpg", "a.jpg"], ["d.jpg"]])
def test_photos_come_in_order(tmp_path: Path, order: list[str]) -> None:
    none = encode(np.zeros((0, 4, 4), bool))
    with pytest.raises(ValueError, match="expected test photos in their order, each at most once"):
        write_masks(tmp_path / "mine.csv", NAMES, [FoundInstances(name, [], [], none) for name in order])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        (["a.jpg,1 2,0", "b.jpg,1 1,6"], ["expected a row for every test photo, found none for 1 (c.jpg)"]),
        (
            ["a.jpg,1 2,0", "b.jpg,1 1,6", "c.jpg,1 1,6", "d.jpg,1 1,6"],
            ['line 5: ImageId: expected a test photo, found "d.jpg"'],
        ),
        (
            ["a.jpg,1 4,0", "a.jpg,9 2,6", "a.jpg,4 3,6", "b.jpg,2 1,6", "c.jpg,1 1,6"],
            [
                "line 4: EncodedPixels: expected pixels that no other mask of the photo has, found some of a.jpg that "
                "line 2 has too"
            ],
        ),
        (
            ["a.jpg,1 64,0", "a.jpg,9 2,6", "a.jpg,20 2,6", "b.jpg,2 1,6", "c.jpg,1 1,6"],
            [
                f"line {line}: EncodedPixels: expected pixels that no other mask of the photo has, found some of a.jpg "
                "that line 2 has too"
                for line in (3, 4)
            ],
        ),
        (
            ["a.jpg,60 9,0", "b.jpg,1 1,7_340_2", "c.jpg,1 1,six"],
            [
                "line 3: ClassId: expected categories that label_descriptions.json has, found 7",
                'line 3: ClassId: expected ascending attributes, each once, found "7_340_2"',
                'line 4: ClassId: expected a category and attributes such as 6 or 6_12_45, found "six"',
                "line 2: EncodedPixels: expected runs inside the photo, whose pixels are 1 … Height · Width, found the "
                "run 60 9, which ends at 68 of 8 · 8 = 64",
            ],
        ),
        (
            ["a.jpg,1 1,6_5", "b.jpg,1 1", "b.jpg,,6", "c.jpg,1 1,6"],
            [
                "line 2: ClassId: expected attributes that label_descriptions.json has, found 5",
                "line 3: expected three fields, as the header has, found 2",
                "line 4: EncodedPixels: expected runs such as 1 3 10 5, found an empty cell",
            ],
        ),
    ],
)
def test_what_the_server_would_refuse(tmp_path: Path, rows: list[str], sentences: list[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["ImageId,EncodedPixels,ClassId", *rows]) + "\n")
    with pytest.raises(InputProblems) as refused:
        read_masks(path, NAMES, LABELS, side=8)
    assert refused.value.problems == [f"mine.csv: {sentence}" for sentence in sentences]


def test_another_files_header(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("ImageId,labels\n")
    with pytest.raises(
        InputProblems, match='expected the header ImageId,EncodedPixels,ClassId, found "ImageId,labels"'
    ):
        read_masks(tmp_path / "mine.csv", NAMES, LABELS)
