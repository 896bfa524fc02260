"""Each published network whole: phases, rates by depth, a kill, four views, and the way to disk and back."""

from __future__ import annotations

import gc
from pathlib import Path

import keras
import numpy as np
import pytest

from labelstack.networks.inference import compile_predict, load_model, predict, save_model
from labelstack.params.backbone_names import OWN
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.training import TrainingSection
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import N_LABELS, ArrayBatches

FLAGSHIP = ("densenet201", "inception_v3", "inception_resnet_v2", "resnet50", "nasnet", "xception")
FIELD = (
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet34", "resnet50_v1", "resnet152_v1",
    "se_resnext50", "se_resnext101", "densenet161", "inception_v4", "pnasnet5_large", "cbam_resnet50",
    "gluon_resnet152_v2",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*FLAGSHIP, *FIELD])
def test_a_step_in_phases_survives_a_kill_and_the_network_is_shown_four_views(name: str, tmp_path: Path) -> None:
    size = max(OWN[name].smallest, 64)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    targets = np.eye(4, N_LABELS, dtype=np.float32)
    params = ModelSection(
        backbone=name,
        image_size=size,
        head=HeadSection(pooling="average", units=[8], dropout=0.2),
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-3,
        group_rates=0.5,
        clip_norm=10.0,
        phases=[{"epochs": 1, "train": "head", "batch_norm": "frozen"}, {"epochs": 1, "train": "all"}],
    )
    training, batches = TrainingSection(patience=None), ArrayBatches(images, targets, 4)
    whole = run(params, training, batches, None, tmp_path / "whole")
    resumed = interrupted_then_resumed(params, training, batches, None, tmp_path / "killed", after=1)
    assert_same(whole, resumed)
    assert np.isfinite(whole.history["loss"]).all()
    del resumed

    views = np.stack([images, images[:, :, ::-1], images[:, ::-1], 255 - images], axis=1)
    ids, shown = predict(whole.model, [(np.arange(4), views)])
    forward = compile_predict(whole.model)
    alone = np.mean([forward(np.ascontiguousarray(views[:, view])) for view in range(4)], axis=0)
    np.testing.assert_allclose(shown, alone, atol=1e-5)
    assert ids.tolist() == [0, 1, 2, 3]

    save_model(whole.model, tmp_path / "saved.keras")
    loaded = load_model(tmp_path / "saved.keras")
    assert all(np.array_equal(a, b) for a, b in zip(whole.model.get_weights(), loaded.get_weights(), strict=True))
    np.testing.assert_array_equal(compile_predict(loaded)(images), forward(images))
    del whole, loaded, forward
    keras.utils.clear_session()
    gc.collect()
