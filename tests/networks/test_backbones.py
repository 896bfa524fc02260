"""Backbones: registry, preprocessing equal to the library's, options, weights from files."""

from __future__ import annotations

import importlib
from itertools import pairwise

import keras
import numpy as np
import pytest

from labelstack.networks.backbones import architecture_of, build_backbone
from labelstack.networks.backbones.architecture import IMAGENET_MEAN, IMAGENET_STD
from labelstack.networks.inference import load_model, save_model
from labelstack.params.backbone_names import OWN
from labelstack.support.errors import InputProblems, UserError
from networks.tiny_training import built, tiny

LIBRARY = {
    "densenet121": "densenet",
    "densenet201": "densenet",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "resnet50": "resnet50",
    "resnet152_v2": "resnet_v2",
    "nasnet": "nasnet",
    "xception": "xception",
    "mobilenet": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
SMALL = {"filters": [4, 8], "convolutions": 1}


@pytest.mark.parametrize("name", LIBRARY)
def test_preprocessing_is_the_librarys(name):
    library = importlib.import_module(f"keras.applications.{LIBRARY[name]}")
    expected = library.preprocess_input(PIXELS.astype(np.float32))
    ours = np.asarray(architecture_of(name).preprocessing()(PIXELS))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_efficientnet_sees_what_the_published_network_computes():
    """The library's published EfficientNet: x/255, normalization with variance = std, then once more 1/sqrt(std)."""
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    expected = (PIXELS / 255 - mean) / np.sqrt(std) / np.sqrt(std)
    ours = np.asarray(architecture_of("efficientnet_b0").preprocessing()(PIXELS))
    np.testing.assert_allclose((ours / 255 - mean) / np.sqrt(std), expected, atol=1e-5)


def test_application_backbone_is_the_library_network():
    backbone = build_backbone("mobilenet", 32, "none", {"alpha": 0.25})
    expected = backbone.get_layer("body")(keras.applications.mobilenet.preprocess_input(PIXELS.astype(np.float32)))
    features = backbone(PIXELS)
    assert features.shape == (2, 1, 1, 256)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    library = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    assert backbone.count_params() == library.count_params()


def test_efficientnet():
    backbone = build_backbone("efficientnet_b0", 32, "none", {})
    assert backbone.count_params() == 4_049_571  # the published network without classifier
    assert backbone.output.shape == (None, 1, 1, 1280)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("small_cnn", {"filters": [4, 6, 8], "convolutions": 1}, (2, 4, 4, 8)),
        ("small_cnn", {"filters": [4], "dropout": 0.2}, (2, 16, 16, 4)),
        ("small_resnet", {"filters": [4, 8], "blocks": 1}, (2, 16, 16, 8)),
        ("small_resnet", {"filters": [4, 4, 4], "blocks": 1, "dropout": 0.1}, (2, 8, 8, 4)),
    ],
)
def test_small_networks(name, options, shape):
    backbone = build_backbone(name, 32, "none", options)
    assert backbone(PIXELS).shape == shape


def test_small_networks_work_at_their_minimum_with_default_options():
    for name in ("small_cnn", "small_resnet"):
        features = build_backbone(name, OWN[name].smallest, "none", {})(np.zeros((1, 16, 16, 3), np.uint8))
        assert features.shape[-1] == 256


def _momenta(model: keras.Model) -> set[float]:
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    own = {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    return own.union(*(_momenta(layer) for layer in nested))


def test_batch_norm_momentum(tmp_path):
    assert _momenta(build_backbone("small_cnn", 16, "none", SMALL)) == {0.9}
    assert _momenta(build_backbone("mobilenet", 32, "none", {"alpha": 0.25})) == {0.99}
    model = built(
        tiny(backbone="mobilenet", image_size=32, options={"alpha": 0.25, "batch_norm_momentum": 0.8}), n_labels=2
    )
    assert _momenta(model) == {0.8}
    save_model(model, tmp_path / "model.keras")
    assert _momenta(load_model(tmp_path / "model.keras")) == {0.8}


def test_bad_options_are_named_all_at_once():
    with pytest.raises(InputProblems) as caught:
        build_backbone("small_cnn", 16, "none", {"filter": [3], "convolutions": 1.5, "batch_norm_momentum": 1})
    text = str(caught.value)
    assert "options.filter: unknown option; did you mean 'filters'?" in text
    assert "options.convolutions: must be a whole number above 0, not 1.5" in text
    assert "options.batch_norm_momentum: must be at least 0 and below 1, not 1" in text


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("small_cnn", {"filters": [2] * 5}, "at most 4 fit, not 5"),
        ("small_resnet", {"filters": [2] * 6}, "at most 5 fit, not 6"),
        ("small_cnn", {"convolutions": 17}, "1…16, not 17"),
        ("small_cnn", {"filters": 8}, "list of whole numbers"),
        ("small_cnn", {"dropout": "a lot"}, "must be a number"),
        ("mobilenet", {"alpha": -1}, "above 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError, match=message):
        build_backbone(name, 16, "none", options)


def test_weights_of_a_saved_backbone(tmp_path):
    first, second = (build_backbone("small_cnn", 16, "none", SMALL) for _ in range(2))
    x = PIXELS[:, :16, :16]
    assert not np.allclose(first(x), second(x))
    first.save_weights(tmp_path / "first.weights.h5")
    loaded = build_backbone("small_cnn", 16, str(tmp_path / "first.weights.h5"), SMALL)
    assert np.array_equal(first(x), loaded(x))


def test_weights_of_a_base_model_at_another_image_size(tmp_path):
    base = built(tiny(), n_labels=3)
    save_model(base, tmp_path / "model.keras")
    larger = build_backbone("small_cnn", 32, str(tmp_path / "model.keras"), SMALL)
    for a, b in zip(base.get_layer("backbone").get_weights(), larger.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_weights_as_the_library_publishes_them(tmp_path):
    """A legacy .h5 of the network without its classifier, which is what a hand-fetched …_notop.h5 is."""
    published = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    path = tmp_path / "mobilenet_notop.h5"
    published.save(path)
    loaded = build_backbone("mobilenet", 32, str(path), {"alpha": 0.25})
    for a, b in zip(published.get_weights(), loaded.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_weights_that_do_not_fit(tmp_path):
    build_backbone("small_cnn", 16, "none", SMALL).save_weights(tmp_path / "a.weights.h5")
    save_model(built(tiny(), n_labels=3), tmp_path / "a.keras")
    (tmp_path / "b.keras").write_bytes(b"not a zip")
    (tmp_path / "b.txt").write_text("no weights")
    wider = {"filters": [4, 9], "convolutions": 1}
    for name, message in [
        ("a.weights.h5", "does not fit this backbone"),
        ("a.keras", r"\(3, 3, 4, 9\) here, \(3, 3, 4, 8\) in the file"),
        ("b.keras", "does not fit this backbone"),
        ("b.txt", "expected a file name ending in"),
        ("absent.keras", "not found; expected none, imagenet, hf://…, or the path"),
    ]:
        with pytest.raises(UserError, match=message):
            build_backbone("small_cnn", 16, str(tmp_path / name), wider)
    deeper = {"filters": [4, 8, 8], "convolutions": 1}
    with pytest.raises(UserError, match="does not fit"):
        build_backbone("small_cnn", 16, str(tmp_path / "a.keras"), deeper)


def test_imagenet_weights_without_a_connection(monkeypatch, tmp_path):
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"mobilenet: its ImageNet weights could not be had.*set weights to its path"):
        build_backbone("mobilenet", 32, "imagenet", {"alpha": 0.25})


def test_imagenet_weights_that_do_not_exist():
    with pytest.raises(UserError, match="no ImageNet weights"):
        build_backbone("small_cnn", 16, "imagenet", {})
    with pytest.raises(UserError, match="image_size 331, not 224"):
        build_backbone("nasnet", 224, "imagenet", {})


def test_minimum_sizes_of_small_networks_are_monotone_in_stages():
    shapes = [
        build_backbone("small_cnn", 16, "none", {**SMALL, "filters": [2] * n}).output.shape[1] for n in (1, 2, 3, 4)
    ]
    assert shapes == [8, 4, 2, 1]
    assert all(a == 2 * b for a, b in pairwise(shapes))


def test_a_network_cut_off_after_a_layer():
    options = {"alpha": 0.25, "until": "conv_pw_3_relu"}
    backbone = build_backbone("mobilenet", 32, "none", options)
    body = backbone.get_layer("body")
    assert body.layers[-1].name == "conv_pw_3_relu"
    library = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    whole = keras.Model(library.input, library.get_layer("conv_pw_3_relu").output)
    assert backbone.count_params() == whole.count_params() < library.count_params()
    whole.set_weights(backbone.get_weights())
    expected = whole(keras.applications.mobilenet.preprocess_input(PIXELS.astype(np.float32)))
    np.testing.assert_allclose(backbone(PIXELS), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_a_whole_network_in_one_cut_off(tmp_path):
    published = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    published.save(tmp_path / "mobilenet_notop.h5")
    options = {"alpha": 0.25, "until": "conv_pw_3_relu"}
    loaded = build_backbone("mobilenet", 32, str(tmp_path / "mobilenet_notop.h5"), options)
    for a, b in zip(published.get_weights(), loaded.get_weights(), strict=False):
        assert np.array_equal(a, b)
    loaded.save_weights(tmp_path / "cut.weights.h5")
    again = build_backbone("mobilenet", 32, str(tmp_path / "cut.weights.h5"), options)
    assert np.array_equal(loaded(PIXELS), again(PIXELS))


def test_a_network_cut_off_is_saved_and_loaded(tmp_path):
    options = {"alpha": 0.25, "until": "conv_pw_2_relu", "batch_norm_momentum": 0.9}
    model = built(tiny(backbone="mobilenet", image_size=32, options=options), n_labels=2)
    save_model(model, tmp_path / "model.keras")
    assert np.array_equal(load_model(tmp_path / "model.keras")(PIXELS), model(PIXELS))
    assert _momenta(model) == {0.9}


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("conv_pw_3_rel", r"no layer 'conv_pw_3_rel' with a feature map; did you mean 'conv_pw_3_relu'"),
        ("zzzz", r"no layer 'zzzz' with a feature map \(the last: 'conv_pw_13_relu'\)"),
        (3, "must be a text, not 3"),
    ],
)
def test_a_cut_at_no_layer_is_refused(until, message):
    with pytest.raises(UserError, match=message):
        build_backbone("mobilenet", 32, "none", {"alpha": 0.25, "until": until})
