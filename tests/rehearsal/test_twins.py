"""Small twins: one for every backbone, cut from the real network, and small."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from labelstack.networks.backbones import build_backbone
from labelstack.params.backbone_names import OWN
from labelstack.rehearsal.twins import small_options, small_size

REHEARSED = {"densenet201", "inception_v3", "inception_resnet_v2", "resnet50", "nasnet", "xception"}


@pytest.mark.parametrize(
    "name",
    # those of recipes are built by the recipes' own rehearsals too
    [pytest.param(name, marks=[pytest.mark.slow] if name in REHEARSED else []) for name in OWN],
)
def test_a_twin_is_small_and_gives_a_feature_map(name):
    keras.utils.clear_session()  # as training does: names of layers are counted anew
    size = small_size(name, 299, {})
    backbone = build_backbone(name, size, "none", small_options(name, {}))
    assert backbone.count_params() < 1_000_000
    features = backbone(np.zeros((2, size, size, 3), np.uint8))
    assert len(features.shape) == 4
    assert np.isfinite(features).all()


def test_options_of_the_recipe_stay_beside_those_of_the_twin():
    options = {"batch_norm_momentum": 0.9, "alpha": 1.0}
    assert small_options("mobilenet", options) == {"batch_norm_momentum": 0.9, **OWN["mobilenet"].twin}
    assert options["alpha"] == 1.0


def test_a_twin_is_never_larger_than_the_recipes_network():
    assert small_size("densenet201", 299, {}) == OWN["densenet201"].smallest
    assert small_size("small_cnn", 16, {}) == 16
    assert small_size("descriptors", 128, {"cell": 32}) == 64  # at least two cells a side
    assert small_size("descriptors", 48, {"map_cell": 16}) == 48
