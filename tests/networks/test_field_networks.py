"""Networks of competition solutions: timm's, PyTorch's and MXNet's answers, tensors by name, training, saving."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.backbones import architecture_of, cbam_resnet
from labelstack.networks.inference import load_model, save_model
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.tasks import multi_label
from labelstack.params.models import ModelSection
from labelstack.support.errors import InputProblems
from networks.field_networks import CLASSIFIERS, answer, body_of, network_of, state_for
from networks.field_weights import SIZES, TWIN_SIZES, TWINS
from networks.seeded_weights import pixels, summary

REFERENCE = json.loads((Path(__file__).parent / "field_reference.json").read_text())  # benchmarks/field_reference.py
# Without classifier; with one of 1000 classes they are those of the published networks.
PARAMETERS = {
    "inception_v4": 41_142_816,
    "pnasnet5_large": 81_736_668,
    "cbam_resnet50": 26_040_624,
    "gluon_resnet152_v2": 58_136_256,
}
# PNASNet has so many layers that what is done with each takes its time.
MOST = [pytest.param(name, marks=[pytest.mark.slow] if name == "pnasnet5_large" else []) for name in SIZES]
CHANNELS = {"inception_v4": 1536, "pnasnet5_large": 4320, "cbam_resnet50": 2048, "gluon_resnet152_v2": 2048}


@cache
def twin(name: str, size: int) -> keras.Model:
    """Narrow, filled with drawn weights; whoever changes them puts them back."""
    return body_of(name, size)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("which", [0, 1], ids=["divided", "undivided"])
def test_a_narrow_twin_answers_as_the_reference_does(name: str, which: int) -> None:
    size = TWIN_SIZES[name][which]
    expected = REFERENCE[f"{name}_twin_{size}"]
    np.testing.assert_allclose(summary(answer(name, twin(name, size))), expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SIZES)
def test_the_whole_network_answers_as_the_reference_does(name: str) -> None:
    keras.utils.clear_session()
    body = body_of(name, SIZES[name], {})
    assert sum(math.prod(weight.shape) for weight in body.trainable_weights) == PARAMETERS[name]
    assert body.output.shape[-1] == CHANNELS[name]
    np.testing.assert_allclose(summary(answer(name, body)), REFERENCE[name], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SIZES if name != "gluon_resnet152_v2"])
def test_a_narrow_twin_agrees_with_timm_or_pytorch_everywhere(name: str) -> None:
    pytest.importorskip("torch")
    if name != "cbam_resnet50" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    spec = spec_from_file_location("reference", Path(__file__).parents[2] / "benchmarks/field_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for size in TWIN_SIZES[name]:
        expected = module.torch_answer(name, TWINS[name], size)
        assert np.abs(answer(name, twin(name, size)) - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize("name", MOST)
def test_each_tensor_moves_the_answer(name: str) -> None:
    body = twin(name, TWIN_SIZES[name][1])
    run = tf.function(lambda images: body(images), autograph=False)
    image = tf.constant(architecture_of(name).preprocessing()(pixels(TWIN_SIZES[name][1])))
    rng, before = np.random.default_rng(0), run(image).numpy()
    idle = []
    for variable in body.weights:
        value = variable.numpy()
        variable.assign(value * rng.uniform(1.5, 3, value.shape) + 0.1)
        if np.abs(run(image).numpy() - before).max() < 1e-4 * before.std():
            idle.append(variable.path)
        variable.assign(value)
    assert idle == []
    assert np.array_equal(run(image).numpy(), before)


@pytest.mark.parametrize("name", SIZES)
def test_tensors_that_do_not_fit_are_named_all_at_once_and_none_is_put_in(name: str) -> None:
    body, load_state = twin(name, TWIN_SIZES[name][0]), architecture_of(name).load_state
    assert load_state is not None
    before = body.get_weights()
    state, classifier = state_for(name, body), CLASSIFIERS[name]
    kernels = [tensor for tensor, value in state.items() if value.ndim == 4]
    state[kernels[3] + "x"] = state.pop(kernels[3])
    state[kernels[5]] = state[kernels[5]][:, :, :, :, None]
    state[f"{classifier}.bias"] = state[f"{classifier}.bias"][None]
    with pytest.raises(InputProblems) as caught:
        load_state(body, state, "a.safetensors")
    problems = list(caught.value.problems)
    assert len(problems) == 4
    assert f"{kernels[3]}x: unknown tensor, expected none of this name" in problems
    assert f"{kernels[3]}: expected a tensor of this name, found none" in problems
    assert any(problem.startswith(f"{classifier}.bias: expected shape (") for problem in problems)
    assert any(problem.startswith(f"{kernels[5]}: expected float32 ") for problem in problems)
    assert all(np.array_equal(a, b) for a, b in zip(before, body.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["inception_v4", "pnasnet5_large", "cbam_resnet50"])
def test_files_without_counters_and_with_a_class_of_background(name: str) -> None:
    body, load_state = twin(name, TWIN_SIZES[name][0]), architecture_of(name).load_state
    assert load_state is not None
    state, classifier = state_for(name, body), CLASSIFIERS[name]
    old = {tensor: value for tensor, value in state.items() if not tensor.endswith("num_batches_tracked")}
    load_state(body, old, "old")
    assert len(old) < len(state)
    weight = np.zeros((1001, body.output.shape[-1]), np.float32)
    more = {f"{classifier}.weight": weight, f"{classifier}.bias": weight[:, 0]}
    load_state(body, old | more, "more")


@pytest.mark.parametrize("name", SIZES)
def test_steps_of_training_change_every_weight(name: str) -> None:
    size = TWIN_SIZES[name][1]
    body = network_of(name, size)
    images = tf.constant(architecture_of(name).preprocessing()(pixels(size)))
    optimizer, before = keras.optimizers.SGD(0.1), body.get_weights()
    for _ in range(2):  # the scale of CBAM's spatial gate begins at 0: what lies before it learns from the second on
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(body(images, training=True)))
        gradients = tape.gradient(loss, [weight.value for weight in body.trainable_weights])
        assert np.isfinite(loss)
        optimizer.apply(gradients, body.trainable_weights)
    assert [w.path for w, old in zip(body.weights, before, strict=True) if np.array_equal(w.numpy(), old)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_training_takes_the_network(name: str) -> None:
    size = TWIN_SIZES[name][1]
    image = keras.Input((size, size, 3), dtype="uint8")
    features = network_of(name, size)(architecture_of(name).preprocessing()(image))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(image, keras.layers.Activation("sigmoid", name="probability")(logits))
    params = ModelSection(backbone="small_cnn", learning_rate=1e-3)
    learner = Learner(model, make_optimizer(params, False), multi_label(params, 2).loss)
    targets = np.array([[0, 1], [1, 0]], np.float32)
    losses = [float(learner.step(pixels(size), targets, 1e-3)) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", MOST)
def test_a_saved_twin_answers_with_the_same_bits(name: str, tmp_path: Path) -> None:
    body = twin(name, TWIN_SIZES[name][0])
    save_model(body, tmp_path / "model.keras")
    assert np.array_equal(answer(name, load_model(tmp_path / "model.keras")), answer(name, body))


def test_gates_of_attention_are_those_of_the_paper() -> None:
    """In NumPy: times σ(MLP(mean) + MLP(max)) of channels, then times σ(BN(7 × 7 over [max, mean])) of places."""
    name, size = "cbam_resnet50", 37
    body = body_of(name, size)
    gate = "layer1.1.cbam"
    parts = ["layer1.1.bn3", f"{gate}.ChannelGate", f"{gate}.SpatialGate"]
    probe = keras.Model(body.input, [body.get_layer(part).output for part in parts])
    before, scaled, gated = (np.asarray(part, np.float64) for part in probe(pixels(size) / np.float32(64) - 2))
    state = state_for(name, body)
    channels = _mlp(before.mean((1, 2)), state, gate) + _mlp(before.max((1, 2)), state, gate)
    np.testing.assert_allclose(scaled, before * _sigmoid(channels)[:, None, None, :], rtol=1e-4, atol=1e-6)
    kernel = state[f"{gate}.SpatialGate.spatial.conv.weight"][0].astype(np.float64)
    seen = np.pad(np.stack([scaled.max(-1), scaled.mean(-1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(seen, (7, 7), (2, 3))
    gamma, beta, mean, variance = (
        state[f"{gate}.SpatialGate.spatial.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    places = (np.einsum("bcyxij,cij->byx", windows, kernel) - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(gated, scaled * _sigmoid(places)[..., None], rtol=1e-4, atol=1e-6)


def _mlp(values: NDArray[np.float64], state: dict[str, NDArray[Any]], gate: str) -> NDArray[np.float64]:
    weight, bias = (
        [state[f"{gate}.ChannelGate.mlp.{layer}.{part}"] for layer in (1, 3)] for part in ("weight", "bias")
    )
    hidden = np.maximum(values @ weight[0].T + bias[0], 0)
    result: NDArray[np.float64] = hidden @ weight[1].T + bias[1]
    return result


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-values))
    return result


def test_names_of_a_network_that_lay_on_several_gpus() -> None:
    body = network_of("cbam_resnet50", 32)
    state = state_for("cbam_resnet50", body)
    cbam_resnet.load_state(body, {f"module.{name}": tensor for name, tensor in state.items()}, "a.safetensors")
    kernel = state["layer3.0.conv2.weight"]
    assert body.get_layer("layer3.0.conv2").kernel.numpy()[1, 2, 5, 7] == kernel[7, 5, 1, 2]
    dense = state["layer2.0.cbam.ChannelGate.mlp.1.weight"]
    assert np.array_equal(body.get_layer("layer2.0.cbam.ChannelGate.mlp.1").kernel, dense.T)
