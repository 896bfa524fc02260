"""Networks of torchvision's and timm's: timm's answers, its files, and what is said where one does not fit."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from labelstack.networks.backbones import build_backbone, torch_resnet
from labelstack.networks.backbones.architecture import Architecture, standardized
from labelstack.networks.backbones.torch_layers import GroupedConvolution, max_pool_ceil
from labelstack.networks.inference import load_model, save_model
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.model import build_model
from labelstack.networks.tasks import multi_label
from labelstack.params.backbone_names import OWN
from labelstack.params.models import HeadSection, ModelSection
from labelstack.support.errors import InputProblems, UserError
from networks.own_networks import MAKERS, own_network, places_in, state_of, twin_body, twin_with_weights
from networks.seeded_weights import pixels, summary
from networks.timm_networks import PAIRS, TWIN_SIZES, TWINS, timm_answer, timm_network

REFERENCE = json.loads((Path(__file__).parent / "timm_reference.json").read_text())  # benchmarks/timm_reference.py
CLASSIFIERS = {"squeezed legacy": "last_linear", "dense": "classifier", "lite": "classifier"}
TOLERANCE = 1e-4  # of the spread


def assert_near(features: Any, reference: list[float]) -> None:
    """Twelve figures of features as timm's are, up to a share of the spread."""
    np.testing.assert_allclose(summary(np.asarray(features)), reference, rtol=0, atol=TOLERANCE * reference[1])


@pytest.mark.parametrize("size", TWIN_SIZES)
@pytest.mark.parametrize("key", TWINS)
def test_a_twin_answers_as_timms_does(key: str, size: int) -> None:
    assert_near(twin_with_weights(key, size)(pixels(size)), REFERENCE[f"{key} {size}"])


@pytest.mark.parametrize("key", ["basic", "squeezed", "dense"])
def test_every_tensor_matters(key: str) -> None:
    network = twin_with_weights(key, 64)
    body, ask = network.layers[-1], tf.function(network)
    image = pixels(64, 1)
    usual = ask(image).numpy()
    for name, place in places_in(body).items():
        variable = getattr(body.get_layer(place.layer), place.variable)
        before = variable.numpy()
        variable.assign(before * 1.5 + 0.1)
        assert np.abs(ask(image).numpy() - usual).max() > 1e-4 * usual.std(), name
        variable.assign(before)


@pytest.mark.slow
@pytest.mark.parametrize("key", PAIRS)
def test_a_full_network_has_timms_parameters_and_answers_as_it_does(key: str) -> None:
    pair = PAIRS[key]
    network = own_network(pair)
    assert sum(math.prod(weight.shape) for weight in network.trainable_weights) == pair.parameters
    assert_near(network(pixels(pair.size)), REFERENCE[key])


@pytest.mark.slow
@pytest.mark.parametrize("key", [*TWINS, *PAIRS])
def test_features_are_timms(key: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("timm", exc_type=ImportError)
    pair = TWINS[key] if key in TWINS else PAIRS[key]
    size = pair.size or TWIN_SIZES[1]
    expected = timm_answer(timm_network(pair), pair, size)
    ours = np.asarray((twin_with_weights(key, size) if key in TWINS else own_network(pair))(pixels(size)))
    assert np.abs(ours - expected).max() < TOLERANCE * expected.std()


@pytest.mark.parametrize("name", ["resnet34", "se_resnext50", "densenet161"])
def test_usual_size_and_smallest_image(name: str) -> None:
    assert ModelSection(backbone=name).image_size == OWN[name].usual == 224
    with pytest.raises(ValueError, match="below the minimum"):
        ModelSection(backbone=name, image_size=31)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (13, 12), (7, 9)])
def test_the_last_window_of_a_legacy_pool_hangs_over(height: int, width: int) -> None:
    values = np.random.default_rng(3).random((1, height, width, 2)).astype(np.float32)
    starts = [range(0, n - 1, 2) if n % 2 == 0 else range(0, n - 2, 2) for n in (height, width)]
    assert [len(of) for of in starts] == [math.ceil((n - 3) / 2) + 1 for n in (height, width)]  # torch.nn.MaxPool2d
    expected = [[values[0, y : y + 3, x : x + 3].max((0, 1)) for x in starts[1]] for y in starts[0]]
    image = keras.Input((height, width, 2))
    assert np.array_equal(keras.Model(image, max_pool_ceil(image, "pool"))(values)[0], expected)


@pytest.mark.parametrize(("stride", "padding"), [(1, "same"), (2, "valid")])
def test_gradients_of_groups_are_those_of_a_convolution_with_zeros_between_groups(stride: int, padding: str) -> None:
    rng = np.random.default_rng(4)
    x = tf.constant(rng.standard_normal((2, 7, 7, 6)), tf.float32)
    layer = GroupedConvolution(9, 3, stride, padding=padding, groups=3, use_bias=False)
    layer(x)
    whole = np.zeros((3, 3, 6, 9), np.float32)
    mask = np.kron(np.eye(3), np.ones((2, 3))).astype(bool)
    whole[:, :, mask] = layer.kernel.numpy().reshape(3, 3, 2, 3, 3).transpose(0, 1, 3, 2, 4).reshape(3, 3, -1)
    whole_kernel = tf.constant(whole)
    with tf.GradientTape() as tape:
        tape.watch(x)
        ours = layer(x)
        loss = tf.reduce_sum(ours**2)
    of_x, of_kernel = tape.gradient(loss, [x, layer.kernel.value])
    with tf.GradientTape() as tape:
        tape.watch([x, whole_kernel])
        theirs = tf.nn.conv2d(x, whole_kernel, stride, padding.upper())
        loss = tf.reduce_sum(theirs**2)
    of_x_too, of_whole = tape.gradient(loss, [x, whole_kernel])
    expected = of_whole.numpy()[:, :, mask].reshape(3, 3, 3, 2, 3).transpose(0, 1, 3, 2, 4).reshape(3, 3, 2, 9)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_x, of_x_too, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-4, atol=1e-4)


@cache
def _twin_entry(key: str) -> Architecture:
    load = next(iter(MAKERS[key][1].values())).load_state
    return Architecture(lambda size, weights: twin_body(key, size), standardized, published=False, load_state=load)


@pytest.fixture
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A twin as the backbone ``resnet34``."""
    key = getattr(request, "param", "basic")
    monkeypatch.setitem(torch_resnet.ARCHITECTURES, "resnet34", _twin_entry(key))
    return key


def _written(key: str, file: Path, **changes: Any) -> dict[str, Any]:
    state = state_of(twin_body(key, 32), TWINS[key], CLASSIFIERS.get(key, "fc"))
    state = {name: np.asarray(array) for name, array in {**state, **changes}.items() if array is not None}
    save_file({name: np.array(array, order="C") for name, array in state.items()}, file)
    return state


@pytest.mark.parametrize("twin", MAKERS, indirect=True)
def test_a_file_of_timms_is_what_a_network_begins_with(twin: str, tmp_path: Path) -> None:
    state = _written(twin, tmp_path / "model.safetensors")
    body = build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {}).get_layer("body")
    for name, place in places_in(body).items():
        found = getattr(body.get_layer(place.layer), place.variable).numpy()
        assert np.array_equal(found, state[name].transpose(place.axes)), name


def test_a_file_of_the_whole_network_in_one_cut_off(twin: str, tmp_path: Path) -> None:
    state = _written(twin, tmp_path / "model.safetensors")
    body = build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {"until": "layer2.0"}).get_layer("body")
    assert np.array_equal(body.get_layer("layer2.0.bn2").beta, state["layer2.0.bn2.bias"])
    assert body.output.shape == (None, 4, 4, 48)


def test_half_precision_is_widened(twin: str, tmp_path: Path) -> None:
    half = np.linspace(-2, 2, 64, dtype=np.float16)
    _written(twin, tmp_path / "model.safetensors", **{"bn1.bias": half})
    body = build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {}).get_layer("body")
    assert np.array_equal(body.get_layer("bn1").beta, half.astype(np.float32))


def test_a_file_without_classifier_and_counters_will_do(twin: str, tmp_path: Path) -> None:
    state = state_of(twin_body(twin, 32), TWINS[twin])
    without = dict.fromkeys(["fc.weight", "fc.bias", *(name for name in state if name.endswith("tracked"))])
    _written(twin, tmp_path / "model.safetensors", **without)
    build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {})


def test_what_does_not_fit_is_told_all_at_once(twin: str, tmp_path: Path) -> None:
    changes = {
        "conv1.weight": np.zeros((64, 3, 3, 3), np.float32),
        "bn1.bias": None,
        "bn1.beta": np.zeros(64, np.float32),
        "bn1.weight": np.zeros(64, np.int64),
        "layer1.0.bn1.bias": np.full(32, np.nan, np.float32),
        "fc.weight": np.zeros((7, 95), np.float32),
    }
    _written(twin, tmp_path / "model.safetensors", **changes)
    with pytest.raises(InputProblems, match=r"weights: .*model\.safetensors: 6 problems") as caught:
        build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {})
    assert set(caught.value.problems) == {
        "conv1.weight: expected float32 (64, 3, 7, 7), found float32 (64, 3, 3, 3)",
        "bn1.bias: expected a tensor of this name, found none",
        "bn1.beta: unknown tensor, expected none of this name",
        "bn1.weight: expected float32 (64,), found int64 (64,)",
        "layer1.0.bn1.bias: 32 of 32 values are not finite",
        "fc.weight: expected shape (None, 96), found (7, 95)",
    }


@pytest.mark.parametrize("twin", ["squeezed", "squeezed legacy"], indirect=True)
def test_a_file_of_the_other_stem_is_refused(twin: str, tmp_path: Path) -> None:
    other = "squeezed" if "legacy" in twin else "squeezed legacy"
    _written(other, tmp_path / "model.safetensors")
    stem = "timm" if "legacy" in twin else "legacy"
    with pytest.raises(UserError, match=f"set options.stem to {stem}, not"):
        build_backbone("resnet34", 32, str(tmp_path / "model.safetensors"), {})


def test_a_stem_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"options\.stem: must be timm or legacy, not 'cadene'"):
        build_backbone("se_resnext50", 32, "none", {"stem": "cadene"})


def test_a_backbone_without_such_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"takes no \.safetensors; docs/networks\.md has those that do"):
        build_backbone("small_cnn", 32, str(tmp_path / "a.safetensors"), {})


@pytest.mark.parametrize("twin", ["squeezed"], indirect=True)
def test_it_learns_on_a_cpu_and_is_saved(twin: str, tmp_path: Path) -> None:
    section = ModelSection(backbone="resnet34", image_size=32, head=HeadSection(units=[]), optimizer="sgd")
    task = multi_label(section, 2, None)
    model = build_model(section, task)
    learner = Learner(model, make_optimizer(section, mixed_precision=False), task.loss)
    grouped = model.get_layer("backbone").get_layer("body").get_layer("layer4.0.conv2")
    before = grouped.kernel.numpy()
    images, targets = pixels(32, 4), np.array([[0, 1], [1, 0], [1, 1], [0, 1]], np.float32)
    losses = [float(learner.step(images, targets, 0.01)) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert isinstance(grouped, GroupedConvolution)
    assert not np.array_equal(grouped.kernel, before)
    save_model(model, tmp_path / "model.keras")
    assert np.array_equal(load_model(tmp_path / "model.keras")(images), model(images))
