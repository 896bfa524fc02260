"""The base model: head, prior bias, precision, safe saving, prediction."""

from __future__ import annotations

import zipfile

import keras
import numpy as np
import pytest

from labelstack.networks.backbones import architecture_of
from labelstack.networks.determinism import make_deterministic
from labelstack.networks.inference import compile_predict, load_model, predict, save_model, weights_digest
from labelstack.params.models import HeadSection
from labelstack.support.errors import UserError
from labelstack.support.storage import sha256
from networks.tiny_training import N_LABELS, built, draw, tiny

IMAGES, _ = draw(10)


def test_flagship_head_layer_for_layer():
    model = built(tiny(head=HeadSection()), n_labels=228)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        "InputLayer",
        "Functional",
        "GlobalMaxPooling2D",
        "Dense",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
        "Activation",
    ]
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [2048, 2048, 228]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]
    assert model.inputs[0].dtype == "uint8"
    head = 8 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 228 + 228
    assert model.count_params() == head + model.get_layer("backbone").count_params()


@pytest.mark.parametrize(("pooling", "width"), [("max", 8), ("average", 8), ("flatten", 4 * 4 * 8)])
def test_pooling_without_hidden_units(pooling, width):
    model = built(tiny(head=HeadSection(pooling=pooling, units=[], dropout=0.2)), n_labels=N_LABELS)
    assert model.get_layer("logits").kernel.shape == (width, N_LABELS)
    assert model.get_layer("dropout_1").rate == 0.2
    without = built(tiny(head=HeadSection(pooling=pooling, units=[4], dropout=0)), n_labels=N_LABELS)
    assert not [layer for layer in without.layers if isinstance(layer, keras.layers.Dropout)]


def test_prior_becomes_the_first_prediction():
    prior = np.array([0.0, 0.2, 1.0])
    model = built(tiny(), n_labels=N_LABELS, prior=prior)
    model.get_layer("logits").kernel.assign(np.zeros(model.get_layer("logits").kernel.shape))
    probability = compile_predict(model)(IMAGES)
    np.testing.assert_allclose(probability, np.tile([1e-4, 0.2, 1 - 1e-4], (10, 1)), rtol=1e-4)


def test_mixed_precision_keeps_edges_in_float32_and_the_global_policy():
    model = built(tiny(), n_labels=N_LABELS, mixed_precision=True)
    assert keras.config.dtype_policy().name == "float32"
    body = model.get_layer("backbone").get_layer("body")
    convolution = next(layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
    assert (convolution.compute_dtype, convolution.variable_dtype) == ("float16", "float32")
    assert model.get_layer("backbone").get_layer("preprocessing").compute_dtype == "float32"
    assert model.output.dtype == "float32"
    assert compile_predict(model)(IMAGES).dtype == np.float32


@pytest.mark.parametrize("backbone", ["small_cnn", "small_resnet"])
@pytest.mark.parametrize("mixed", [False, True])
def test_saved_in_safe_mode_and_loaded_equal(backbone, mixed, tmp_path):
    params = tiny(backbone=backbone, options={"filters": [4, 8]})
    model = built(params, n_labels=N_LABELS, mixed_precision=mixed)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert weights_digest(loaded) == weights_digest(model)
    assert np.array_equal(compile_predict(loaded)(IMAGES), compile_predict(model)(IMAGES))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    with zipfile.ZipFile(tmp_path / "model.keras") as content:
        assert content.testzip() is None


def test_own_preprocessing_layer_survives_saving(tmp_path):
    image = keras.Input((16, 16, 3), dtype="uint8")
    model = keras.Model(image, architecture_of("resnet50").preprocessing()(image))
    save_model(model, tmp_path / "model.keras")
    assert np.array_equal(compile_predict(load_model(tmp_path / "model.keras"))(IMAGES), compile_predict(model)(IMAGES))


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        make_deterministic(3)
        save_model(built(tiny(), n_labels=N_LABELS), tmp_path / f"{name}.keras")
    assert sha256(tmp_path / "a.keras") == sha256(tmp_path / "b.keras")


def test_digest_tells_weights_apart():
    make_deterministic(3)
    one = built(tiny(), n_labels=N_LABELS)
    make_deterministic(4)
    other = built(tiny(), n_labels=N_LABELS)
    assert weights_digest(one) != weights_digest(other)
    before = weights_digest(one)
    one.get_layer("logits").bias.assign([1e-7, 0, 0])
    assert weights_digest(one) != before


def test_files_that_are_not_models(tmp_path):
    with pytest.raises(UserError, match="not found"):
        load_model(tmp_path / "absent.keras")
    (tmp_path / "damaged.keras").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path / "damaged.keras")
    unsafe = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    unsafe.save(tmp_path / "unsafe.keras")
    with pytest.raises(UserError, match=r"cannot be loaded.*[Ll]ambda"):
        load_model(tmp_path / "unsafe.keras")
    with pytest.raises(ValueError, match=r"ends in \.keras"):
        save_model(unsafe, tmp_path / "model.h5")


def test_predict_averages_transforms_and_keeps_ids():
    model = built(tiny(), n_labels=N_LABELS)
    parts = [(np.array([5, 3, 9, 1]), IMAGES[:4]), (np.array([8, 2, 4, 6]), IMAGES[4:8]), (np.array([7]), IMAGES[8:9])]
    flip = lambda images: images[:, :, ::-1]  # noqa: E731
    ids, probability = predict(model, parts, [lambda images: images, flip], total=9)
    assert ids.tolist() == [5, 3, 9, 1, 8, 2, 4, 6, 7]
    assert probability.dtype == np.float32
    plain = np.asarray(model(IMAGES[:9], training=False))
    mirrored = np.asarray(model(np.ascontiguousarray(flip(IMAGES[:9])), training=False))
    np.testing.assert_allclose(probability, (plain + mirrored) / 2, atol=1e-6)
    _, untouched = predict(model, parts)
    np.testing.assert_allclose(untouched, plain, atol=1e-6)


def test_predict_of_nothing():
    ids, probability = predict(built(tiny(), n_labels=N_LABELS), [])
    assert ids.shape == (0,)
    assert probability.shape == (0, N_LABELS)
