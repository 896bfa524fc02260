"""The six backbones of the flagship: one real train step each, predictions, both stackers and the blend."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.networks.inference import predict
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.tasks import multi_label
from labelstack.params.backbone_names import OWN
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.stackers import CNNStackerSection, XGBoostStackerSection
from labelstack.predictions import Predictions, assemble_cube
from labelstack.scoring.metrics import f_beta
from labelstack.stacking import assign_folds, blend, make_stacker, out_of_fold, search_weights
from labelstack.stacking.deciding import thresholds
from networks.tiny_training import built

FLAGSHIP = ("densenet201", "inception_v3", "inception_resnet_v2", "resnet50", "nasnet", "xception")
# Parameters without classifier, as keras.applications documents its networks (notop).
PARAMETERS = {
    "densenet201": 18_321_984,
    "inception_v3": 21_802_784,
    "inception_resnet_v2": 54_336_736,
    "resnet50": 23_587_712,
    "nasnet": 84_916_818,
    "xception": 20_861_480,
}
N_LABELS = 4


def flagship_predictions(n_images: int = 2) -> dict[str, NDArray[np.float32]]:
    """Probabilities [n_images, 4] of each flagship backbone after one train step."""
    rng = np.random.default_rng(0)
    targets = (rng.random((n_images, N_LABELS)) < 0.5).astype(np.float32)
    predictions = {}
    for name in FLAGSHIP:
        size = OWN[name].smallest
        images = rng.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8)
        params = ModelSection(backbone=name, image_size=size, head=HeadSection(units=[16, 16]), learning_rate=1e-3)
        model = built(params, N_LABELS)
        assert model.get_layer("backbone").count_params() == PARAMETERS[name]
        learner = Learner(model, make_optimizer(params, False), multi_label(params, N_LABELS).loss)
        before = [weight.copy() for weight in model.get_weights()]
        loss = float(learner.step(images, targets, params.learning_rate))
        assert np.isfinite(loss)
        assert loss > 0
        changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert np.mean(changed) > 0.5
        _, predictions[name] = predict(model, [(np.arange(n_images), images)])
        del model, learner
        keras.utils.clear_session()
        gc.collect()
    return predictions


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_flagship_backbones_train_predict_stack_and_blend():
    n_images, k = 12, 2
    predictions = flagship_predictions(n_images)
    assert list(predictions) == list(FLAGSHIP)
    for probability in predictions.values():
        assert probability.shape == (n_images, N_LABELS)
        assert np.isfinite(probability).all()

    ids = np.arange(n_images)
    cube = assemble_cube({name: Predictions(ids, p) for name, p in predictions.items()}, ids)
    assert cube.shape == (n_images, 6, N_LABELS)
    Y = np.random.default_rng(1).random((n_images, N_LABELS)) < 0.5
    folds = assign_folds(Y, k, seed=0)
    members = dict(predictions)
    for section in (CNNStackerSection(units=16, epochs=1), XGBoostStackerSection(n_estimators=2)):
        result = out_of_fold(lambda section=section: make_stacker(section), cube, Y, folds, test_cube=cube)
        assert result.oof.shape == (n_images, N_LABELS)
        members[section.kind] = result.oof
    weights = search_weights(members, Y, step=0.25)
    assert set(weights) == {*FLAGSHIP, "cnn", "xgboost"}
    assert sum(weights.values()) == pytest.approx(1)
    blended = blend(members, weights)
    limits = thresholds.choose(Y, blended)
    best = max(
        f_beta(Y, thresholds.apply(p, thresholds.choose(Y, p, "global")), average="samples") for p in members.values()
    )
    assert f_beta(Y, thresholds.apply(blended, limits), average="samples") >= best - 1e-9
