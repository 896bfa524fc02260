"""Fixed descriptors against other implementations and hand-made cases."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.feature import hog

from labelstack.networks.backbones.descriptor_layers import ForegroundMap, ForegroundOdds, LabColour, OrientedGradients
from networks.pictures import array, noise, scene, smooth

FIXED_LAYERS = [LabColour, ForegroundMap, ForegroundOdds, OrientedGradients]


def lab(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return array(LabColour()(images))


# ---- Lab colour ----


def test_lab_colour_is_that_of_scikit_image():
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(1, 18, -1, 3).astype(np.uint8)
    for images in (cube, noise(2, 16, 16, 3), np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)):
        found = lab(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rgb2lab(images) / 100, atol=2e-4)


def test_greys_have_no_colour_and_lightness_from_0_to_1():
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    found = lab(grey).reshape(256, 3)
    assert np.abs(found[:, 1:]).max() < 1e-4
    assert (np.diff(found[:, 0]) > 0).all()
    assert found[[0, -1], 0] == pytest.approx([0, 1], abs=1e-5)


# ---- what is unlike the border ----


def mahalanobis(colours: NDArray[np.float32], rim: int, floor: float, limit: float) -> NDArray[np.float64]:
    """The map in plain NumPy, pixel lists and a mask instead of slices."""
    inside = np.zeros(colours.shape[:2], bool)
    inside[rim:-rim, rim:-rim] = True
    edge = colours[~inside].astype(np.float64)
    inverse = np.linalg.inv(np.cov(edge.T, bias=True).reshape([colours.shape[-1]] * 2) + floor**2 * np.eye(len(edge.T)))
    offset = colours - edge.mean(axis=0)
    return np.minimum(np.sqrt(np.einsum("hwc,cd,hwd->hw", offset, inverse, offset)) / limit, 1)


@pytest.mark.parametrize(("border", "rim"), [(0.0625, 2), (0.2, 6), (0.001, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_foreground_map_is_the_mahalanobis_distance_from_the_border(border, rim, channels):
    colours = np.stack([smooth(32, seed) / 255 for seed in range(3)]).astype(np.float32)[..., :channels]
    found = array(ForegroundMap(border, floor=0.03, limit=4.0)(colours))
    assert found.shape == (3, 32, 32, 1)
    for image, expected in zip(found[..., 0], colours, strict=True):
        np.testing.assert_allclose(image, mahalanobis(expected, rim, 0.03, 4.0), atol=2e-3)


@pytest.mark.parametrize("colour", [0, 255, (200, 30, 90)])
def test_a_uniform_image_has_no_foreground(colour):
    found = array(ForegroundMap()(lab(scene(colour, colour))))
    assert np.abs(found).max() < 1e-3


@pytest.mark.parametrize("background", [(250, 250, 250), (20, 25, 30), (60, 140, 70), (90, 90, 200)])
def test_a_square_unlike_the_border_stands_out_whatever_the_background(background):
    found = array(ForegroundMap()(lab(scene(background, (220, 40, 40)))))[0, ..., 0]
    inside = np.zeros((64, 64), bool)
    inside[19:45, 19:45] = True
    assert found[inside].min() > 0.9
    assert found[~inside].max() < 0.02


def test_the_background_of_many_colours_is_still_background():
    """Colours along one axis in the border: distance counts across that axis, not along it."""
    shades = np.tile(np.linspace(40, 220, 64)[None, :, None], (64, 1, 3)).astype(np.uint8)[None]
    shades[:, 24:40, 24:40] = (200, 60, 60)
    found = array(ForegroundMap()(lab(shades)))[0, ..., 0]
    assert found[26:38, 26:38].min() > 0.9
    assert found[:20].max() < 0.5


# ---- more like the centre than like the border ----


def test_foreground_odds_of_centre_and_border_colours():
    found = array(ForegroundOdds()(lab(scene((240, 240, 240), (30, 60, 160)))))
    assert found.shape == (1, 64, 64, 1)
    assert found[0, 22:42, 22:42].min() > 0.95
    assert found[0, :16].max() < 0.05


def test_foreground_odds_are_even_where_nothing_is_known():
    image = scene((240, 240, 240), (240, 240, 240))
    assert array(ForegroundOdds()(lab(image))) == pytest.approx(0.5, abs=1e-3)
    image = scene((240, 240, 240), (30, 60, 160))
    image[0, 12, 12] = (0, 255, 0)  # a colour of neither, too small for the grid of samples
    assert array(ForegroundOdds()(lab(image)))[0, 12, 12, 0] == pytest.approx(0.5, abs=0.2)


def test_foreground_odds_are_the_ratio_of_kernel_densities():
    colours = (smooth(32, 5) / 255).astype(np.float32)
    found = array(ForegroundOdds(grid=8, centre=0.5, width=0.2, floor=0.02)(colours[None]))[0, ..., 0]
    cells = colours.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    ring = np.ones((8, 8), bool)
    ring[1:-1, 1:-1] = False

    def density(samples: NDArray[Any]) -> NDArray[Any]:
        squared = ((colours[:, :, None] - samples) ** 2).sum(axis=-1)
        return np.exp(-squared / (2 * 0.2**2)).mean(axis=-1)

    inside, outside = density(cells[2:6, 2:6].reshape(-1, 3)), density(cells[ring])
    np.testing.assert_allclose(found, (inside + 0.02) / (inside + outside + 0.04), atol=1e-4)


# ---- oriented gradients ----


def gradients(image: NDArray[Any], **options: int) -> NDArray[np.float32]:
    """Of one image [h, w] or [h, w, c]: [blocks down, blocks across, 4 cells, bins]."""
    image = image[..., None] if image.ndim == 2 else image
    layer = OrientedGradients(**options)
    found = array(layer(image[None].astype(np.float32)))
    assert found.shape == layer.compute_output_shape((1, *image.shape))
    return found[0].reshape(*found.shape[1:3], 4, -1)


def edge(size: int = 32) -> NDArray[np.float32]:
    """Dark left, bright right."""
    return np.tile((np.arange(size) >= size // 2).astype(np.float32), (size, 1))


@pytest.mark.parametrize(
    ("image", "bins", "expected"),
    [
        (edge(), 9, {0}),
        (1 - edge(), 9, {0}),  # which side is bright does not count
        (edge().T, 8, {4}),
        (edge().T, 9, {4, 5}),  # half-way between two bins
        (1 - edge().T, 8, {4}),
    ],
)
def test_a_straight_edge_votes_into_the_bin_of_its_direction(image, bins, expected):
    votes = gradients(image, cell=8, bins=bins).sum(axis=(0, 1, 2))
    assert set(np.flatnonzero(votes > 0.2 * votes.max())) == expected
    assert votes[sorted(set(range(bins)) - expected)].max() < 0.02 * votes.max()
    assert np.ptp(votes[sorted(expected)]) < 0.01 * votes.max()


@pytest.mark.parametrize("degrees", [20, 40, 60, 80, 100, 120, 140, 160])
def test_a_ramp_votes_into_the_bin_of_its_angle(degrees):
    y, x = np.mgrid[:40, :40] / 40
    ramp = np.cos(np.radians(degrees)) * x + np.sin(np.radians(degrees)) * y
    votes = gradients(ramp, cell=8)[1:-1, 1:-1].sum(axis=(0, 1, 2))  # the image's rim mirrors
    assert votes.argmax() == degrees // 20
    assert votes[degrees // 20] > 0.98 * votes.sum()


def test_gradients_ignore_brightness_and_nearly_contrast():
    image = (smooth(64, 2)[..., :1] / 255).astype(np.float32)
    plain = gradients(image)
    np.testing.assert_allclose(gradients(image + 0.4), plain, atol=1e-4)
    np.testing.assert_allclose(gradients(image * 3), plain, atol=0.12)
    assert np.abs(gradients(image[::-1]) - plain).max() > 0.2


def test_blocks_have_at_most_unit_length_and_a_uniform_image_none():
    for image in (noise(64, 64, 1) / 255, smooth(64) / 255, edge(64) * 1e4):
        lengths = np.linalg.norm(gradients(image).reshape(7, 7, -1), axis=-1)
        assert lengths.max() <= 1 + 1e-6
    assert np.linalg.norm(gradients(noise(64, 64, 1)).reshape(7, 7, -1), axis=-1).min() > 0.99
    assert np.abs(gradients(np.full((64, 64), 0.7))).max() < 0.02


@pytest.mark.parametrize(
    ("size", "options", "shape"),
    [(32, {}, (3, 3, 4, 9)), (32, {"cell": 16}, (1, 1, 4, 9)), (37, {"cell": 6, "bins": 4}, (5, 5, 4, 4))],
)
def test_shape_of_gradients(size, options, shape):
    assert gradients(np.zeros((size, size, 3)), **options).shape == shape


def test_the_channel_with_the_strongest_gradient_counts():
    weak, strong = 0.1 * edge().T, edge()
    flat = np.full_like(strong, 0.3)
    alone = gradients(strong)
    several = gradients(np.stack([flat, strong, flat], axis=-1))
    np.testing.assert_allclose(several, alone, atol=1e-5)
    both = gradients(np.stack([weak, strong], axis=-1))[0, :2].sum(axis=(0, 1))
    assert both[0] > 3 * both[4]
    np.testing.assert_allclose(gradients(np.stack([strong] * 3, axis=-1)), alone, atol=1e-5)


def test_gradients_resemble_those_of_scikit_image():
    """Its votes go whole into bins that begin where ours have their centres, so neighbours of ours are joined."""
    for seed in range(4):
        image = smooth(96, seed)[..., 1] / 255
        ours = gradients(image, cell=8)
        theirs = hog(image, 9, (8, 8), (2, 2), block_norm="L2-Hys", feature_vector=False).reshape(11, 11, 4, 9)
        joined = (ours + np.roll(ours, -1, axis=-1)) / 2
        assert np.corrcoef(joined.ravel(), theirs.ravel())[0, 1] > 0.8
        assert np.corrcoef(joined[..., ::-1].ravel(), theirs.ravel())[0, 1] < 0.5


# ---- precision ----


def test_fixed_layers_compute_in_single_precision_whatever_the_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = [kind() for kind in FIXED_LAYERS]
    finally:
        keras.config.set_dtype_policy(before)
    images = smooth(64)[None].astype(np.float32) / 255
    for layer in made:
        found = array(layer(images))
        assert found.dtype == np.float32
        assert np.array_equal(found, array(type(layer)()(images)))
