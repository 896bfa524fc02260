from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from labelstack.sample.garments import dress_up
from labelstack.sample.labels import GARMENTS, Outfit, sample_outfit
from labelstack.sample.scene import encode_jpeg, photograph

PLAIN = Outfit("t-shirt", "short", "round", "", "", "", ("red",), "", "", ())


def outfits_of(garment: str, number: int) -> list[Outfit]:
    found: list[Outfit] = []
    seed = 0
    while len(found) < number:
        outfit = sample_outfit(np.random.default_rng(seed))
        found += [outfit] if outfit.garment == garment else []
        seed += 1
    return found


@pytest.mark.parametrize("garment", GARMENTS)
def test_every_garment_can_be_photographed(garment: str) -> None:
    for seed, outfit in enumerate(outfits_of(garment, 6)):
        image = photograph(outfit, 48, np.random.default_rng(seed))
        assert image.shape == (48, 48, 3)
        assert image.dtype == np.uint8
        assert image.std() > 3


def test_the_same_seed_gives_the_same_photo_and_another_seed_another() -> None:
    first, again, other = (photograph(PLAIN, 64, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def mean_centre(outfit: Outfit, number: int = 40) -> np.ndarray:
    images = [photograph(outfit, 48, np.random.default_rng(seed))[18:30, 18:30] for seed in range(number)]
    return np.mean(images, axis=(0, 1, 2))


def test_colours_show() -> None:
    red, green, blue, black, white = (
        mean_centre(replace(PLAIN, colours=(name,))) for name in ("red", "green", "blue", "black", "white")
    )
    assert red.argmax() == 0
    assert green.argmax() == 1
    assert blue.argmax() == 2
    assert black.mean() + 80 < white.mean()


def detail_at_centre(outfit: Outfit) -> float:
    """Mean strength of edges in the middle of the garment."""
    edges = []
    for seed in range(30):
        grey = photograph(outfit, 96, np.random.default_rng(seed))[30:66, 30:66].mean(axis=2)
        edges.append(np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.2), cv2.CV_64F)).mean())
    return float(np.mean(edges))


@pytest.mark.parametrize(
    "change",
    [{"pattern": p} for p in ("striped", "checked", "dotted", "floral")] + [{"material": m} for m in ("knit", "lace")],
)
def test_patterns_and_weaves_show(change: dict[str, str]) -> None:
    assert detail_at_centre(replace(PLAIN, **change)) > 1.1 * detail_at_centre(PLAIN)  # type: ignore[arg-type]


def test_denim_and_leather_look_unlike_plain_cloth() -> None:
    for material in ("denim", "leather"):
        plain, woven = (
            photograph(replace(PLAIN, colours=("black",), material=m), 96, np.random.default_rng(3))
            for m in ("", material)
        )
        assert np.abs(plain.astype(int) - woven).mean() > 1


@pytest.mark.parametrize(
    ("garment", "detail"), [(garment, detail) for garment, kind in GARMENTS.items() for detail in kind.detail]
)
def test_details_add_pieces(garment: str, detail: str) -> None:
    length = "short" if garment == "shorts" else "long"
    bare = Outfit(garment, "long", "collar", length, "", "", ("red",), "", "", ())
    without, having = (
        dress_up(outfit, False, np.random.default_rng(1)) for outfit in (bare, replace(bare, details=(detail,)))
    )
    assert len(having) > len(without)


def test_longer_garments_reach_lower() -> None:
    for garment in ("dress", "skirt", "coat"):
        lowest = []
        for length in ("short", "knee", "long"):
            outfit = Outfit(garment, "long", "collar", length, "", "", ("red",), "", "", ())
            pieces = dress_up(outfit, False, np.random.default_rng(1))
            lowest.append(max(piece.points[:, 1].max() for piece in pieces if piece.paint == "fabric"))
        assert lowest == sorted(lowest)
        assert lowest[2] - lowest[0] > 0.4


def test_somebody_inside_shows_skin() -> None:
    worn, flat = (dress_up(PLAIN, inside, np.random.default_rng(1)) for inside in (True, False))
    assert any(piece.paint == "skin" for piece in worn)
    assert not any(piece.paint == "skin" for piece in flat)


def test_jpeg_keeps_the_picture() -> None:
    image = photograph(PLAIN, 96, np.random.default_rng(2))
    data = encode_jpeg(image)
    assert data[:2] == b"\xff\xd8"
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(image.astype(int) - back).mean() < 12
