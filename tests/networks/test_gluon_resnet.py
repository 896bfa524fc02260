"""Gluon's ResNet v2: both ways in which MXNet names its parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.networks.backbones import gluon_resnet
from labelstack.support.errors import InputProblems
from networks.field_networks import network_of, state_for

NAME = "gluon_resnet152_v2"
# Of the narrow twin, as MXNet itself pairs them: collect_params() with save_parameters().
PAIRS: dict[str, str] = json.loads((Path(__file__).parent / "gluon_names.json").read_text())


@pytest.fixture(scope="module")
def body() -> keras.Model:
    return network_of(NAME, 32)


@pytest.fixture(scope="module")
def state(body: keras.Model) -> dict[str, NDArray[Any]]:
    return state_for(NAME, body)


def counted(state: dict[str, NDArray[Any]], prefix: str = "resnetv20") -> dict[str, NDArray[Any]]:
    return {f"{prefix}_{PAIRS[name]}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["resnetv20", "resnetv217"])
def test_counted_names_mean_what_structural_ones_mean(
    body: keras.Model, state: dict[str, NDArray[Any]], prefix: str
) -> None:
    assert set(state) == set(PAIRS)
    gluon_resnet.load_state(body, state, "structural")
    expected = body.get_weights()
    body.set_weights([weight + 1 for weight in expected])
    gluon_resnet.load_state(body, counted(state, prefix), "counted")
    assert all(np.array_equal(a, b) for a, b in zip(expected, body.get_weights(), strict=True))


def test_a_shifted_input_is_refused(body: keras.Model, state: dict[str, NDArray[Any]]) -> None:
    shifted = state | {"features.0.beta": np.array([0, 0, 0.5], np.float32)}
    with pytest.raises(InputProblems, match=r"a\.safetensors: 1 problem\n.*features\.0\.beta: expected zeros"):
        gluon_resnet.load_state(body, shifted, "a.safetensors")
    with pytest.raises(InputProblems, match="resnetv20_batchnorm0_beta: expected zeros"):
        gluon_resnet.load_state(body, counted(shifted), "a.safetensors")
    any_scale = state | {"features.0.gamma": np.full(3, 7, np.float32)}
    gluon_resnet.load_state(body, any_scale, "as MXNet, which does not look at it")


def test_a_name_with_another_prefix_is_unknown(body: keras.Model, state: dict[str, NDArray[Any]]) -> None:
    tensors = counted(state)
    tensors["alexnet0_stage4_conv3_weight"] = tensors.pop("resnetv20_stage4_conv3_weight")
    with pytest.raises(InputProblems) as caught:
        gluon_resnet.load_state(body, tensors, "a.safetensors")
    assert set(caught.value.problems) == {
        "alexnet0_stage4_conv3_weight: unknown tensor, expected none of this name",
        "resnetv20_stage4_conv3_weight: expected a tensor of this name, found none",
    }


def test_no_tensors_at_all(body: keras.Model) -> None:
    with pytest.raises(InputProblems, match="resnetv20_stage1_conv0_weight: expected a tensor of this name"):
        gluon_resnet.load_state(body, {}, "empty.safetensors")
