"""Regions of probabilities against hand-drawn maps and SciPy; their table; overlays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from labelstack.masks.instance_table import masks_of
from labelstack.masks.region_writer import ROW_GROUP, SCHEMA, region_batches, region_rows, write_regions
from labelstack.masks.run_lengths import decode, encode
from labelstack.params.regions import RegionsSection
from labelstack.segmentation.overlay import below_each_other, beside_each_other, overlay, png
from labelstack.segmentation.regions import Regions, find_regions

BACKGROUND = 2


def said(drawn: list[str], sure: float = 0.6) -> np.ndarray:
    """Probabilities of a map drawn in signs: a and b are classes 0 and 1, A is 0 with more certainty, . is nothing."""
    signs = np.array([list(row) for row in drawn])
    out = np.full((*signs.shape, 3), (1 - sure) / 2, np.float32)
    for sign, class_, share in (("a", 0, sure), ("b", 1, sure), (".", BACKGROUND, sure), ("A", 0, 0.9)):
        out[signs == sign] = (1 - share) / 2
        out[signs == sign, class_] = share
    return out


def found(drawn: list[str], **params: object) -> tuple[Regions, list[list[str]]]:
    regions = find_regions(said(drawn), BACKGROUND, RegionsSection(**{"smallest": 0, **params}))
    pixels = decode(regions.masks)
    return regions, [["".join("#" if one else "." for one in row) for row in mask] for mask in pixels]


def test_parts_of_a_class_are_regions_by_falling_score() -> None:
    regions, masks = found(["aa..A", "aa..A", "...bb"])
    assert regions.class_.tolist() == [0, 0, 1]
    assert regions.score == pytest.approx([0.9, 0.6, 0.6])
    assert masks == [["....#", "....#", "....."], ["##...", "##...", "....."], [".....", ".....", "...##"]]


def test_corners_connect_or_not() -> None:
    assert len(found(["a..", ".a.", "..a"])[0]) == 1
    assert len(found(["a..", ".a.", "..a"], connected=4)[0]) == 3


def test_what_is_small_is_left_out_by_its_share_of_the_map() -> None:
    drawn = ["aaa.b", "....b"]  # 3 and 2 of 10 pixels
    assert found(drawn, smallest=0.3)[0].class_.tolist() == [0]
    assert found(drawn, smallest=0.31)[0].class_.tolist() == []
    assert found(drawn, smallest=0.2)[0].class_.tolist() == [0, 1]


def test_the_best_are_kept_when_there_are_many() -> None:
    regions, _ = found(["a.A.b"], most=2)
    assert regions.class_.tolist() == [0, 0]
    assert regions.score[0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("how", "masks"),
    [
        ("none", [["####", "#..#", "####"], ["....", ".#..", "...."]]),
        ("background", [["####", "#.##", "####"], ["....", ".#..", "...."]]),
        ("all", [["####", "####", "####"], ["....", ".#..", "...."]]),
    ],
)
def test_holes(how: str, masks: list[list[str]]) -> None:
    regions, drawn = found(["aaaa", "ab.a", "aaaa"], fill_holes=how)
    assert drawn == masks
    assert regions.score == pytest.approx([0.6, 0.6])  # of its own pixels, not of the hole's


def test_a_photo_without_anything_has_no_regions() -> None:
    regions, _ = found(["...", "..."])
    assert len(regions) == 0
    assert len(regions.masks) == 0


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (9, 7, 4), elements=st.floats(0, 1, width=32)))
def test_regions_are_those_of_scipy(probability: np.ndarray) -> None:
    section = RegionsSection(smallest=0, fill_holes="none", most=1000)
    regions = find_regions(probability, 3, section)
    expected = []
    for class_ in range(3):
        labels, n = ndimage.label(probability.argmax(-1) == class_, np.ones((3, 3)))
        for label in range(1, n + 1):
            mask = labels == label
            expected.append((class_, float(probability[mask, class_].mean()), mask.tobytes()))
    given_ = [
        (class_, float(score), np.ascontiguousarray(mask).tobytes())
        for class_, score, mask in zip(regions.class_.tolist(), regions.score, decode(regions.masks), strict=True)
    ]
    assert sorted((c, m) for c, _, m in given_) == sorted((c, m) for c, _, m in expected)
    assert sorted(s for _, s, _ in given_) == pytest.approx(sorted(s for _, s, _ in expected), abs=1e-5)
    assert (np.diff(regions.score) <= 1e-7).all()


def rows(n: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    batches = []
    for image_id in range(n):
        masks = rng.random((rng.integers(0, 4), 6, 5)) < 0.4
        masks[:, 0, 0] = True
        k = len(masks)
        batches.append(region_rows(image_id, np.arange(k), np.linspace(0.9, 0.5, k), encode(masks)))
    return batches


def test_the_table_survives_and_does_not_depend_on_how_it_comes(tmp_path: Path) -> None:
    batches = rows(2 * ROW_GROUP // 3 + 700, 0)
    total = write_regions(tmp_path / "one", batches)
    assert total > ROW_GROUP
    write_regions(tmp_path / "a", batches[:100])
    write_regions(tmp_path / "none", [])
    write_regions(tmp_path / "b", batches[100:])
    write_regions(tmp_path / "two", region_batches([tmp_path / name for name in ("a", "none", "b")]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pq.ParquetFile(tmp_path / "one") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert max(sizes) == ROW_GROUP
    table = pq.read_table(tmp_path / "one")
    assert table.schema.equals(SCHEMA)
    assert len(table) == total == sum(map(len, batches))
    masks = decode(masks_of(table.slice(0, 5)))
    assert masks.shape == (5, 6, 5)
    assert table["area"].to_pylist()[:5] == masks.sum((1, 2)).tolist()
    assert table["region"].to_pylist()[:3] == list(range(len(batches[0]))) + list(range(3 - len(batches[0])))


def test_overlays_colour_what_is_not_background() -> None:
    photo = np.full((40, 60, 3), 100, np.uint8)
    map_ = np.full((40, 60), BACKGROUND, np.uint8)
    assert len(np.unique(overlay(photo, map_, BACKGROUND).reshape(-1, 3), axis=0)) == 1
    map_[:20] = 0
    shown = overlay(photo, map_, BACKGROUND, ["a name with ü, and more", "b"])
    assert not np.array_equal(shown[0, 0], shown[-1, -1])
    row = beside_each_other(photo, [map_, map_], BACKGROUND)
    assert row.shape == (40, 180, 3)
    assert beside_each_other(photo, [map_], BACKGROUND, height=20).shape == (20, 60, 3)
    picture = below_each_other([row, row[:, :90]])
    assert picture.shape == (80, 180, 3)
    assert (picture[40:, 90:] == 255).all()
    assert png(picture).startswith(b"\x89PNG")
