"""Backbones for small photo sets: what each looks at, as base models, their options."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.networks.backbones import build_backbone
from labelstack.networks.backbones.descriptor_layers import ForegroundMap, ForegroundOdds, LabColour, OrientedGradients
from labelstack.networks.inference import compile_predict, load_model, save_model
from labelstack.params.models import HeadSection
from labelstack.support.errors import InputProblems, UserError
from networks.pictures import array, noise, scene, smooth
from networks.tiny_training import built, tiny

RNG = np.random.default_rng(0)
SMALL: dict[str, dict[str, Any]] = {
    "descriptors": {"cell": 8, "map_cell": 8},
    "pixels": {"filters": [8, 6]},
    "silhouette": {"filters": [4, 6]},
    "silhouette_pixels": {"filters": [4, 6], "colours": [8, 6], "units": 5},
}


# ---- pixels: colours of the centre, wherever they are in it ----


def pooled(backbone: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return array(backbone(images)).mean(axis=(1, 2))


def test_pixels_pools_colours_without_their_places():
    backbone = build_backbone("pixels", 32, "none", {"filters": [8, 6], "centre": 0.5})
    assert backbone.output.shape == (None, 16, 16, 6)
    image = noise(1, 32, 32, 3)
    expected = pooled(backbone, image)

    permuted = image.copy()
    centre = permuted[:, 8:24, 8:24].reshape(256, 3)
    permuted[:, 8:24, 8:24] = RNG.permutation(centre).reshape(1, 16, 16, 3)
    assert (permuted != image).any()
    np.testing.assert_allclose(pooled(backbone, permuted), expected, atol=1e-5)

    outside = noise(1, 32, 32, 3, seed=1)
    outside[:, 8:24, 8:24] = image[:, 8:24, 8:24]
    assert np.array_equal(pooled(backbone, outside), expected)

    inside = image.copy()
    inside[:, 8:24, 8:24] //= 2
    assert np.abs(pooled(backbone, inside) - expected).max() > 1e-3


def test_pixels_are_shares_of_colours():
    backbone = build_backbone("pixels", 16, "none", {"filters": [4, 5]})
    body = backbone.get_layer("body")
    shares = keras.Model(body.input, body.get_layer("colour_2").output)(noise(2, 16, 16, 3) / 127.5 - 1)
    assert array(shares).min() >= 0
    np.testing.assert_allclose(array(shares).sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(("centre", "side"), [(1, 16), (0.5, 8), (0.01, 2)])
def test_any_share_of_the_side_leaves_a_centre(centre, side):
    assert build_backbone("pixels", 16, "none", {"filters": [2], "centre": centre}).output.shape[1:3] == (side, side)


def test_an_odd_side_keeps_its_middle_pixel():
    assert build_backbone("pixels", 17, "none", {"filters": [2], "centre": 0.01}).output.shape[1:3] == (1, 1)


@pytest.mark.parametrize("name", ["pixels", "silhouette_pixels"])
@pytest.mark.parametrize("centre", [0, -0.2, 1.01, 40])
def test_a_centre_out_of_range(name, centre):
    with pytest.raises(UserError, match=r"options.centre is the share of the side .* above 0 to 1, not "):
        build_backbone(name, 32, "none", {"centre": centre})


# ---- the other bodies ----


def test_descriptors_are_fixed_and_flat():
    backbone = build_backbone("descriptors", 64, "none", {})
    assert backbone.count_params() == 0
    blocks, map_blocks = 3 * 3, 3 * 3
    assert backbone.output.shape == (None, 1, 1, 36 * (blocks + map_blocks) + 8 * 8)
    image = smooth(64)[None]
    assert np.array_equal(backbone(image), backbone(image))
    assert not np.array_equal(backbone(image, training=True), backbone(image))  # dropout
    still = build_backbone("descriptors", 64, "none", {"dropout": 0})
    assert np.array_equal(still(image, training=True), still(image))
    assert np.array_equal(still(image), backbone(image))


@pytest.mark.parametrize("size", [32, 33, 50])
def test_descriptors_at_any_size(size):
    features = build_backbone("descriptors", size, "none", {"cell": 8, "map_cell": 8})(noise(2, size, size, 3))
    assert features.shape[:3] == (2, 1, 1)
    assert np.isfinite(array(features)).all()


@pytest.mark.parametrize("options", [{"cell": 17}, {"map_cell": 9}])
def test_cells_too_large_for_the_image(options):
    with pytest.raises(UserError, match="at 32 px cell may be at most 16, map_cell 8"):
        build_backbone("descriptors", 32, "none", {"map_cell": 8, **options})
    assert build_backbone("descriptors", 32, "none", {"cell": 16, "map_cell": 8}).output.shape[-1] == 36 * 2 + 16


@pytest.mark.parametrize("border", [0, -0.1, 0.5, 3])
def test_a_border_out_of_range(border):
    with pytest.raises(UserError, match=r"options.border is the share of the side .* above 0 to 0.4, not "):
        build_backbone("descriptors", 64, "none", {"border": border})
    assert build_backbone("descriptors", 32, "none", {"border": 0.4, "map_cell": 8}).output.shape[1] == 1


@pytest.mark.parametrize("odds", [True, False])
def test_silhouette_with_and_without_odds(odds):
    backbone = build_backbone("silhouette", 32, "none", {"filters": [4, 6], "odds": odds})
    assert backbone.output.shape == (None, 8, 8, 6)
    body = backbone.get_layer("body")
    assert any(isinstance(layer, ForegroundOdds) for layer in body.layers) == odds
    assert body.get_layer("block_1_conv").kernel.shape == (3, 3, 1 + odds, 4)


def test_silhouette_sees_the_shape_not_the_colours():
    backbone = build_backbone("silhouette", 64, "none", {"filters": [4, 6], "odds": False})
    red_on_white, blue_on_black = scene((250, 250, 250), (220, 30, 30)), scene((5, 5, 5), (80, 120, 250))
    larger = scene((250, 250, 250), (220, 30, 30), share=0.7)
    first, second, third = (array(backbone(image)) for image in (red_on_white, blue_on_black, larger))
    assert np.abs(first - second).max() < 0.02 * np.abs(first).max()
    assert np.abs(first - third).max() > 0.2 * np.abs(first).max()


@pytest.mark.parametrize("name", ["silhouette", "silhouette_pixels"])
def test_too_many_filters(name):
    with pytest.raises(UserError, match="6 entries of filters halve 32 px too often"):
        build_backbone(name, 32, "none", {"filters": [2] * 6})
    assert build_backbone("silhouette", 32, "none", {"filters": [2] * 5}).output.shape == (None, 1, 1, 2)


def test_silhouette_pixels_joins_shape_and_colour():
    backbone = build_backbone("silhouette_pixels", 32, "none", SMALL["silhouette_pixels"])
    assert backbone.output.shape == (None, 1, 1, 10)
    image = scene((250, 250, 250), (220, 30, 30), size=32, share=0.6)
    recoloured = scene((250, 250, 250), (20, 30, 160), size=32, share=0.6)
    first, second = (array(backbone(each))[0, 0, 0] for each in (image, recoloured))
    assert not np.allclose(first[5:], second[5:])  # the branch of colours


# ---- all four as base models ----


@pytest.fixture(params=SMALL)
def params(request):
    return tiny(
        backbone=request.param, image_size=32, options=SMALL[request.param], head=HeadSection(units=[5], dropout=0.1)
    )


def test_saved_and_loaded_in_safe_mode(params, tmp_path):
    model = built(params, n_labels=3)
    images = np.concatenate([noise(2, 32, 32, 3), scene(250, (200, 30, 30), size=32)])
    expected = compile_predict(model)(images)
    assert expected.shape == (3, 3)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert np.array_equal(compile_predict(loaded)(images), expected)
    save_model(loaded, tmp_path / "again.keras")
    assert np.array_equal(compile_predict(load_model(tmp_path / "again.keras"))(images), expected)


def test_the_layers_options_are_saved(tmp_path):
    given = {"descriptors": {"cell": 12, "map_cell": 7, "border": 0.2, "dropout": 0}, "pixels": {"centre": 0.7}}
    for name, options in given.items():
        model = built(tiny(backbone=name, image_size=32, options=options), n_labels=2)
        save_model(model, tmp_path / "model.keras")
        body = load_model(tmp_path / "model.keras").get_layer("backbone").get_layer("body")
        for layer in model.get_layer("backbone").get_layer("body").layers:
            assert body.get_layer(layer.name).get_config() == layer.get_config()
    for made in (ForegroundMap(0.1, 0.2, 3.0), ForegroundOdds(8, 0.5, 0.1, 0.02), OrientedGradients(4, 6), LabColour()):
        again = type(made).from_config(made.get_config())
        assert again.get_config() == made.get_config()
        constants = {key: value for key, value in vars(made).items() if isinstance(value, int | float)}
        assert {key: vars(again)[key] for key in constants} == constants


def test_mixed_precision_sees_the_same(params):
    plain = built(params, n_labels=3)
    mixed = built(params, n_labels=3, mixed_precision=True)
    mixed.set_weights(plain.get_weights())
    images = np.stack([smooth(32, 3), smooth(32, 4), scene((200, 190, 180), (60, 30, 30), size=32)[0]])
    for part in (lambda model: model, lambda model: model.get_layer("backbone")):
        a, b = (array(part(model)(images)).astype(np.float32) for model in (plain, mixed))
        assert np.isfinite(b).all()
        np.testing.assert_allclose(b, a, atol=0.01 * max(1, float(np.abs(a).max())))


def test_base_models_learn_where_the_thing_is(params):
    """One step of training reaches every weight: nothing between the head and the variables cuts the gradient."""
    model = built(params, n_labels=2, mixed_precision=False)
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    before = [variable.numpy() for variable in model.trainable_variables]
    images = np.concatenate([scene(250, 30, size=32), scene(40, (200, 30, 90), size=32), noise(2, 32, 32, 3)])
    loss = model.train_on_batch(images, np.array([[0, 1], [1, 0], [1, 1], [0, 0]], np.float32))
    assert np.isfinite(loss)
    unmoved = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(variable.numpy(), old)
    ]
    assert unmoved == []


# ---- options ----


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("descriptors", {"cel": 8}, "options.cel: unknown option; did you mean 'cell'?"),
        ("descriptors", {"map_cells": 8}, "options.map_cells: unknown option; did you mean 'map_cell'?"),
        ("descriptors", {"dropout": 1}, "options.dropout: must be at least 0 and below 1, not 1"),
        ("descriptors", {"cell": 8.0}, "options.cell: must be a whole number above 0, not 8.0"),
        ("descriptors", {"cell": True}, "options.cell: must be a whole number above 0, not True"),
        ("descriptors", {"border": "wide"}, "options.border: must be a number, not 'wide'"),
        ("pixels", {"center": 0.5}, "options.center: unknown option; did you mean 'centre'?"),
        ("pixels", {"filters": []}, "options.filters: must be a list of whole numbers above 0, not []"),
        ("pixels", {"filters": [8, 1.5]}, "options.filters: must be a list of whole numbers above 0, not [8, 1.5]"),
        ("pixels", {"filters": ["a"]}, "options.filters: must be a list of whole numbers above 0, not ['a']"),
        ("silhouette", {"odd": True}, "options.odd: unknown option; did you mean 'odds'?"),
        ("silhouette", {"odds": 1}, "options.odds: must be true or false, not 1"),
        ("silhouette", {"odds": "yes"}, "options.odds: must be true or false, not 'yes'"),
        ("silhouette_pixels", {"odds": True}, "options.odds: unknown option"),
        ("silhouette_pixels", {"colors": [8]}, "options.colors: unknown option; did you mean 'colours'?"),
        ("silhouette_pixels", {"units": 0}, "options.units: must be a whole number above 0, not 0"),
    ],
)
def test_bad_options_are_told(name, options, message):
    with pytest.raises(InputProblems) as caught:
        build_backbone(name, 64, "none", options)
    assert message in str(caught.value)


def test_true_and_false_survive_params():
    for odds in (True, False):
        assert tiny(backbone="silhouette", image_size=32, options={"odds": odds}).options["odds"] is odds
    assert tiny(options={"odds": 1}).options["odds"] is not True


LOAD = """
import os, sys, traceback
import keras, numpy as np, tensorflow  # once: a child has nothing of labelstack when it begins
for folder in sys.argv[1:]:
    if os.fork():
        assert os.wait()[1] == 0, folder
        continue
    try:
        from labelstack.networks.inference import compile_predict, load_model
        predict = compile_predict(load_model(f"{folder}/model.keras"))
        np.save(f"{folder}/out.npy", predict(np.load(f"{folder}/images.npy")))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""


def test_saved_networks_are_loaded_by_processes_that_built_none(tmp_path):
    expected = {}
    for name in SMALL:
        model = built(tiny(backbone=name, image_size=32, options=SMALL[name]), n_labels=2)
        images = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name / "model.keras")
        np.save(tmp_path / name / "images.npy", images)
        expected[name] = compile_predict(model)(images)
    folders = [str(tmp_path / name) for name in SMALL]
    done = subprocess.run([sys.executable, "-c", LOAD, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in SMALL:
        np.testing.assert_allclose(np.load(tmp_path / name / "out.npy"), expected[name], atol=1e-6)
