"""Everything that is off by default, at once, from shards: killed and resumed it ends with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from images.server import jpeg
from labelstack.images.loader import TrainingBatches
from labelstack.images.shards.fill import download_split
from labelstack.params.augment import AugmentSection
from labelstack.params.images import ImagesSection
from labelstack.params.training import TrainingSection
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import N_LABELS, SIZE, tiny

F2 = {"kind": "f_beta", "beta": 2}
MIX = {"kind": "mix", "of": [{"loss": "forgiving"}, {"loss": {"kind": "focal", "gamma": 1}}]}
MODEL: dict[str, Any] = {
    "mixup": 0.4,
    "cutmix": 1.0,
    "mixup_per": "batch",
    "hard_examples": 0.2,
    "label_smoothing": 0.05,
    "ema": 0.9,
    "loss": {"kind": "phases", "of": [{"loss": MIX, "epochs": 2}, {"loss": F2}]},
}
POLICY = AugmentSection(
    resized_crop={"area": (0.5, 1)}, one_of=[{"of": {"clahe": {}, "motion_blur": {}}}], erase={"chance": 0.5}
)


def test_resumed_equals_uninterrupted(training: TrainingSection, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    for image_id in range(1, 31):
        (root / f"{image_id}.jpg").write_bytes(jpeg(image_id))
    manifest = pd.DataFrame({"image_id": np.arange(1, 31), "url": [[f"file:{i}.jpg"] for i in range(1, 31)]})
    download_split(manifest, tmp_path / "shards", ImagesSection(shard_rows=10, store_size=32), root)
    targets = (np.random.default_rng(0).random((30, N_LABELS)) < 0.4).astype(np.float32)

    def batches(workers: int) -> TrainingBatches:
        return TrainingBatches(
            tmp_path / "shards", np.arange(1, 31), targets, size=SIZE, batch_size=8, seed=3, augment=POLICY,
            workers=workers, shuffle_shards=2,
        )  # fmt: skip

    with batches(0) as here, batches(1) as elsewhere:
        whole = run(tiny(**MODEL), training, here, None, tmp_path / "whole")
        broken = interrupted_then_resumed(tiny(**MODEL), training, elsewhere, None, tmp_path / "broken", after=2)
    assert_same(whole, broken)
    assert np.isfinite(whole.history["loss"]).all()
