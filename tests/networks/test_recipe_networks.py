"""The first step of the flagship recipe's real networks, at the recipe's own size: what its rehearsal leaves out."""

from __future__ import annotations

import gc
from pathlib import Path

import keras
import numpy as np
import pytest

from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.tasks import multi_label
from labelstack.params import load_params
from labelstack.params.models import ModelSection
from networks.tiny_training import built

RECIPE = load_params(Path(__file__).resolve().parents[2] / "recipes" / "imaterialist2018.yaml")
N_LABELS = 228


def first_step(params: ModelSection, *, mixed_precision: bool) -> tuple[float, float, keras.Model]:
    """Loss of one step on two images, the share of weights that it changed, and the model."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, params.image_size, params.image_size, 3), dtype=np.uint8)
    targets = (rng.random((2, N_LABELS)) < 0.03).astype(np.float32)
    prior = np.full(N_LABELS, 0.03, np.float32)
    keras.utils.clear_session()
    model = built(params, N_LABELS, prior=prior, mixed_precision=mixed_precision)
    loss = multi_label(params, N_LABELS, prior).loss
    learner = Learner(model, make_optimizer(params, mixed_precision), loss, params.ema)
    before = [weight.copy() for weight in model.get_weights()]
    value = float(learner.step(images, targets, params.learning_rate))
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    return value, float(np.mean(changed)), model


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RECIPE.models)
@pytest.mark.parametrize("mixed_precision", [False, True], ids=["float32", "mixed_float16"])
def test_the_first_step_of_a_real_network(name, mixed_precision):
    params = RECIPE.models[name].model_copy(update={"weights": "none"})
    loss, changed, model = first_step(params, mixed_precision=mixed_precision)
    assert np.isfinite(loss)
    assert loss > 0
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    if not mixed_precision:  # there a first step may be skipped, for the loss's scale to be lowered
        assert changed > 0.5
    assert model.output.shape == (None, N_LABELS)
    assert model.compute_dtype == "float32" or mixed_precision
    inside = {layer.compute_dtype for layer in model.get_layer("backbone").get_layer("body").layers}
    assert ("float16" in inside) is mixed_precision
    del model
    gc.collect()
