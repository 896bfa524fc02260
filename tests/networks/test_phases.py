"""Phases train the groups they name, features of a frozen backbone are as good as images, and both outlive a kill."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.networks import features
from labelstack.networks.checkpoint import CheckpointFolder
from labelstack.networks.depth import layer_groups
from labelstack.networks.heads import head_layers
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.training import TrainingSection
from labelstack.support.errors import UserError
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import ArrayBatches, built, draw, tiny

HEAD = {"epochs": 2, "train": "head"}
FROZEN = {"batch_norm": "frozen"}


class Noisy(ArrayBatches):
    """Other pixels each epoch, as augmentation makes them; every pass is counted."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.passes: list[int] = []

    def epoch(self, e, again=None):
        self.passes.append(e)
        noise = np.random.default_rng(e).integers(0, 40, self.images.shape).astype(np.uint8)
        whole, self.images = self.images, self.images // 2 + noise
        try:
            yield from super().epoch(e, again)
        finally:
            self.images = whole


def moved(params: ModelSection, batches, training, work: Path) -> set[str]:
    """Names of weights that training changes."""
    before = run(params.model_copy(update={"epochs": 0}), training, batches, None, work / "none").model
    after = run(params, training, batches, None, work / "some").model
    pairs = zip(before.weights, before.get_weights(), after.get_weights(), strict=True)
    return {weight.path.split("/", 1)[-1] for weight, a, b in pairs if not np.array_equal(a, b)}


def names(weights) -> set[str]:
    return {weight.path.split("/", 1)[-1] for weight in weights}


@pytest.mark.parametrize(
    ("train", "batch_norm", "groups", "kinds"),
    [
        ("head", "frozen", 0, ()),
        ("head", "moving", 0, ("moving",)),
        ("last_2", "frozen", 1, ("kernel", "gamma", "beta")),
        ("last_2", "fixed", 1, ("kernel",)),
        ("all", "fixed", 2, ("kernel",)),
    ],
)
def test_a_phase_moves_what_it_names(train, batch_norm, groups, kinds, batches, training, tmp_path):
    options = {"filters": [4, 8, 8], "convolutions": 1}
    phases = [{"epochs": 1, "train": train}]
    params = tiny(options=options, phases=phases, batch_norm=batch_norm, epochs=1)
    model = built(params)
    own = layer_groups(model.get_layer("backbone"))
    assert len(own) == 2
    learning = [layer for group in own[len(own) - groups :] for layer in group]
    expected = names(v for layer in learning for v in layer.weights if v.name in kinds)
    if batch_norm == "moving":
        expected |= names(v for g in own for layer in g for v in layer.weights if v.name.startswith("moving"))
    expected |= names(v for layer in head_layers(model) for v in layer.weights)
    assert moved(params, batches, training, tmp_path) == expected


def test_a_frozen_backbone_runs_as_it_predicts(batches, training, tmp_path):
    """Dropout in it too: with none in the head, an epoch of rate 0 leaves the loss of the network that predicts."""
    params = tiny(
        options={"filters": [4, 8], "convolutions": 1, "dropout": 0.5},
        head=HeadSection(units=[], dropout=0),
        phases=[{"epochs": 1, "train": "head", "learning_rate": 1e-9}],
        epochs=1,
        **FROZEN,
    )
    result = run(params, training, batches, draw(28), tmp_path)
    assert result.history["loss"][0] == pytest.approx(result.history["holdout_loss"][0], abs=1e-5)


def test_the_history_has_phases_with_their_own_rates(batches, training, tmp_path):
    schedule = {"kind": "cosine", "minimum": 0}
    phases = [HEAD | {"learning_rate": 0.02}, {"epochs": 2, "train": "all", "schedule": schedule}]
    params = tiny(phases=phases, epochs=4, schedule={"kind": "constant", "warmup_epochs": 1})
    history = run(params, training, batches, None, tmp_path).history
    assert history["phase"].tolist() == [1, 1, 2, 2]
    steps = batches.steps_per_epoch
    assert history["learning_rate"].tolist() == pytest.approx([0.02 / steps, 0.02, 0.01, 0.005])


def test_patience_counts_from_the_last_phase_and_the_best_epoch_is_that_of_all(batches, holdout, tmp_path):
    phases = [{"epochs": 5, "train": "head", "learning_rate": 1e-9}, {"epochs": 9, "train": "all"}]
    phases[1]["learning_rate"] = 1e-9  # nothing changes: the first epoch stays the best
    params = tiny(phases=phases, epochs=14, **FROZEN)
    result = run(params, TrainingSection(patience=3), batches, holdout, tmp_path)
    assert len(result.history) == 5 + 3
    assert result.best_epoch == 1


def test_more_groups_than_there_are_is_refused(batches, training, tmp_path):
    params = tiny(phases=[{"epochs": 1, "train": "last_2"}], epochs=1)
    unchecked = params.phases[0].model_copy(update={"train": "last_3"})  # params.yaml's would be refused before
    params = params.model_copy(update={"phases": (unchecked,)})
    with pytest.raises(UserError, match=r"last_3 asks for 3 groups of layers, and this network has 2, .*last_2"):
        run(params, training, batches, None, tmp_path)


def kept(variants: int, **changes: Any) -> ModelSection:
    phases = [{"epochs": 4, "train": "head"}, {"epochs": 1, "train": "all", "learning_rate": 1e-3}]
    settings = {"phases": phases, "features": {"variants": variants}, "epochs": 5, **FROZEN, **changes}
    return tiny(**settings)


@pytest.mark.parametrize(
    "changes",
    [{"ema": 0.9}, {"hard_examples": 0.25, "optimizer": "adamw", "weight_decay": 0.01}],
    ids=["ema", "hard+adamw"],
)
def test_kept_features_teach_as_images_do(changes, holdout, training, tmp_path):
    """Four variants for four epochs: each epoch's own augmentation."""
    once, each = Noisy(*draw(28)), Noisy(*draw(28))
    images = run(kept(0, **changes), training, each, holdout, tmp_path / "images")
    found = run(kept(4, **changes), training, once, holdout, tmp_path / "features")
    for a, b in zip(images.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for column in ("loss", "holdout_loss", "learning_rate"):
        np.testing.assert_allclose(images.history[column], found.history[column], rtol=1e-4)
    assert once.passes == [0, 1, 2, 3, 4]  # the last as images: all of the network learns
    assert not (tmp_path / "features" / "features").exists()


def test_variants_come_in_turn_and_without_augmentation_there_is_one(training, tmp_path):
    for variants, augment, passes in ((2, True, [0, 1, 4]), (3, False, [0, 4])):
        batches = Noisy(*draw(28))
        run(kept(variants, augment=augment), training, batches, None, tmp_path / f"{variants}")
        assert batches.passes == passes


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [2, 4, 5])
def test_a_training_in_phases_outlives_a_kill(after, holdout, training, tmp_path):
    """Within a phase of kept features, between two phases, and in a phase behind."""
    params = kept(2, phases=[HEAD, HEAD, {"epochs": 3, "train": "last_2"}], epochs=7, ema=0.8, hard_examples=0.2)
    batches = Noisy(*draw(28))
    whole = run(params, training, batches, holdout, tmp_path / "whole")
    assert_same(whole, interrupted_then_resumed(params, training, batches, holdout, tmp_path / "broken", after))


def test_features_go_on_behind_the_last_whole_chunk(training, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(features, "_CHUNK", 8)
    whole = run(kept(1), training, ArrayBatches(*draw(28)), None, tmp_path / "whole")
    work, counted = tmp_path / "broken", []
    compiled = features.compile_predict

    def counting(model, stop=99):
        forward = compiled(model)

        def run_(images):
            if len(counted) == stop:
                raise Killed
            counted.append(len(images))
            return forward(images)

        return run_

    monkeypatch.setattr(features, "compile_predict", lambda model: counting(model, stop=2))
    with pytest.raises(Killed):
        run(kept(1), training, ArrayBatches(*draw(28)), None, work)
    (note,) = work.glob("features/*/variant-000.json")
    assert json.loads(note.read_text())["rows"] == 16
    monkeypatch.setattr(features, "compile_predict", counting)
    caplog.set_level(logging.INFO)
    assert_same(whole, run(kept(1), training, ArrayBatches(*draw(28)), None, work))
    assert counted == [8, 8, 8, 4]
    assert "going on after 16 images" in caplog.text


@pytest.mark.parametrize("stop", [2, 99])
def test_damaged_features_are_made_anew(tmp_path, monkeypatch, caplog, stop):
    """A bit flipped in what a killed pass had done, and in a whole file."""
    import keras

    monkeypatch.setattr(features, "_CHUNK", 8)
    compiled, params, data = features.compile_predict, kept(1), draw(28)

    def opened(work: Path, most: int) -> features.KeptFeatures:
        keras.utils.set_random_seed(1)
        calls: list[int] = []

        def counting(model):
            forward = compiled(model)

            def run_(images):
                calls.append(len(images))
                if len(calls) > most:
                    raise Killed
                return forward(images)

            return run_

        with monkeypatch.context() as patch:
            patch.setattr(features, "compile_predict", counting)
            return features.KeptFeatures(params, built(params), ArrayBatches(*data), work, "same")

    def rows(found: features.KeptFeatures):
        return np.concatenate([images for images, _ in found.epoch(0)])

    whole = rows(opened(tmp_path / "whole", 99))
    if stop == 99:
        rows(opened(tmp_path / "broken", stop))
    else:
        with pytest.raises(Killed):
            rows(opened(tmp_path / "broken", stop))
    (file,) = tmp_path.glob("broken/features/*/variant-000." + ("npy" if stop == 99 else "part"))
    found = np.load(file, mmap_mode="r+")
    row = ArrayBatches(*data).order(0)[3]
    found[row, 0] += 1
    found.flush()
    del found
    np.testing.assert_array_equal(rows(opened(tmp_path / "broken", 99)), whole)
    assert ("damaged, begun anew" if stop == 2 else "its bytes are not those that were written") in caplog.text


def test_features_of_other_images_or_weights_are_made_anew(training, tmp_path):
    def key(seed: int, **changes: Any) -> str:
        params, batches = kept(1, **changes), ArrayBatches(*draw(28, seed))
        return features.KeptFeatures(params, built(params), batches, tmp_path, "same").folder.name

    import keras

    keras.utils.set_random_seed(1)
    first = key(0)
    keras.utils.set_random_seed(1)
    assert key(0) == first
    keras.utils.set_random_seed(1)
    assert key(1) != first
    keras.utils.set_random_seed(2)
    assert key(0) != first


def test_features_that_would_not_fit_are_refused(batches, training, tmp_path):
    params = kept(4, features={"variants": 4, "max_gib": 1e-7})
    with pytest.raises(UserError, match=r"features: 4 x 28 images of 8 numbers take 0.0 GiB.*features.max_gib"):
        run(params, training, batches, None, tmp_path)


def test_a_head_without_units_on_features_is_a_regression(training, tmp_path):
    """Full batches of plain descent: the loss falls to what scikit-learn finds on the same features."""
    from sklearn.linear_model import LogisticRegression

    images, targets = draw(40)
    params = tiny(
        head=HeadSection(units=[], dropout=0), batch_size=40, optimizer="adam", learning_rate=0.3, epochs=400,
        phases=[{"epochs": 400, "train": "head"}], features={"variants": 1}, augment=False, **FROZEN,
    )  # fmt: skip
    result = run(params, training, ArrayBatches(images, targets, 40), None, tmp_path)
    from labelstack.networks.heads import pooled_model
    from labelstack.networks.inference import compile_predict

    X = compile_predict(pooled_model(result.model))(images)
    P = compile_predict(result.model)(images)
    best = [LogisticRegression(C=np.inf, max_iter=5000).fit(X, y).predict_proba(X)[:, 1] for y in targets.T]

    def loss(p):
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).mean()

    assert loss(np.stack(best, 1)) <= loss(P) + 1e-6
    assert loss(P) < loss(np.stack(best, 1)) + 0.05


def test_checkpoints_from_before_these_options_are_resumed(batches, training, tmp_path, monkeypatch):
    """Their fingerprint is of params without the keys."""
    seen = {}
    monkeypatch.setattr(CheckpointFolder, "__init__", _noting(seen, CheckpointFolder.__init__))
    monkeypatch.setattr("labelstack.networks.training.digest", lambda content: seen.setdefault("content", content))
    run(tiny(epochs=1), training, batches, None, tmp_path)
    assert not {"phases", "features", "batch_norm"} & set(seen["content"]["params"])
    assert seen["content"]["params"]["epochs"] == 1


def _noting(seen, before):
    def init(self, folder, fingerprint):
        before(self, folder, "x")

    return init
