"""The estimator: learns squares, goes on after a kill with the same weights, its phases, its rates, what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import labelstack.networks  # noqa: F401 - quiets TensorFlow before it is imported
from labelstack.networks.inference import load_model, weights_digest
from labelstack.params.augment import AugmentSection
from labelstack.params.segmenters import PixelLossSection, SegmenterSection
from labelstack.segmentation.confusion import class_counts, confusion_matrix, pixel_scores
from labelstack.segmentation.segmenter import Segmenter
from labelstack.segmentation.unet import build_unet
from labelstack.segmentation.unet_training import trained_way
from labelstack.support.errors import InputProblems, UserError
from segmentation.squares import BACKGROUND, drawn, phase, small

TWO_SIZES = (
    phase(epochs=2, cycles=2, train="decoder"),
    phase(epochs=2, image_size=(48, 32), batch_size=3, learning_rate=0.003),
)
PHOTOS = drawn(6)


class Killed(Exception):
    """Stands for the end of the process."""


def fitted(work: Path | None, killed_after: int | None = None, **changes) -> Segmenter:
    def kill(epoch: int, record: dict[str, float], model: object) -> None:
        if epoch == killed_after:
            raise Killed

    return Segmenter(small(*TWO_SIZES, **changes), seed=4, work=work).fit(*PHOTOS, drawn(2, seed=9), on_epoch=kill)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return fitted(tmp_path_factory.mktemp("unbroken"))


def test_coloured_squares_are_learnt_in_photos_of_any_size() -> None:
    segmenter = Segmenter(small(phase(epochs=12, learning_rate=0.02)), seed=1).fit(*drawn(24))
    assert segmenter.history_.loss.iloc[-1] < 0.5 * segmenter.history_.loss.iloc[0]
    images, maps = drawn(8, seed=5, side=61)
    given = list(segmenter.predict(iter(images)))
    assert [map_.shape for map_ in given] == [map_.shape for map_ in maps]
    matrix = sum(confusion_matrix(truth, map_, 3) for truth, map_ in zip(maps, given, strict=True))
    scores = pixel_scores(class_counts(matrix), BACKGROUND)
    assert scores["pixel_accuracy"] > 0.9
    assert scores["mean_iou"] > 0.75


@pytest.mark.parametrize("after", [2, 3])
def test_a_training_goes_on_with_the_same_weights(after: int, unbroken: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fitted(tmp_path, killed_after=after)
    resumed = fitted(tmp_path)
    assert weights_digest(resumed.model_) == weights_digest(unbroken.model_)
    assert resumed.history_.drop(columns="seconds").equals(unbroken.history_.drop(columns="seconds"))
    for number in (1, 2):
        name = f"phase-{number}.keras"
        assert (tmp_path / name).read_bytes() == (Path(unbroken.work) / name).read_bytes()


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_weights(unbroken: Segmenter, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from segmentation import test_segmenter as t\n"
        "def kill(epoch, record, model):\n"
        "    if epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.Segmenter(t.small(*t.TWO_SIZES), seed=4, work=sys.argv[1]).fit(*t.PHOTOS, t.drawn(2, seed=9), on_epoch=kill)"
    )
    tests = str(Path(__file__).resolve().parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": tests}, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert weights_digest(fitted(tmp_path).model_) == weights_digest(unbroken.model_)


def test_history_has_scores_of_held_out_photos_and_rates_of_each_cycle(unbroken: Segmenter) -> None:
    history = unbroken.history_
    assert history.epoch.tolist() == [1, 2, 3, 4]
    assert history.phase.tolist() == [1, 1, 2, 2]
    # two cycles of one epoch each, then one of two: at its half a share (0.5 − 0.25) / 0.75 of the fall is done
    half = (1 / 250_000) + (1 - 1 / 250_000) * 0.5 * (1 + np.cos(np.pi / 3))
    assert history.learning_rate.tolist() == pytest.approx([0.01 / 25, 0.01 / 25, 0.003 / 25, 0.003 * half])
    assert history.filter(like="holdout_").apply(lambda scores: scores.between(0, 1)).all(axis=None)


def test_the_next_phase_begins_with_the_last_ones_weights_and_another_size(unbroken: Segmenter) -> None:
    first = load_model(Path(unbroken.work) / "phase-1.keras")
    last = load_model(Path(unbroken.work) / "phase-2.keras")
    assert weights_digest(last) == weights_digest(unbroken.model_) != weights_digest(first)
    assert unbroken.size_ == (48, 32)


def test_a_frozen_encoder_learns_its_normalization_alone() -> None:
    section = small(*TWO_SIZES)
    segmenter = Segmenter(section.model_copy(update={"phases": TWO_SIZES[:1]}), seed=4).fit(*PHOTOS)
    from labelstack.networks.determinism import make_deterministic

    make_deterministic(4)
    before = build_unet(section).model.get_layer("encoder")
    after = segmenter.model_.get_layer("encoder")
    changed = {
        v.path.split("/")[-1] for v, w in zip(after.weights, before.weights, strict=True) if not np.array_equal(v, w)
    }
    assert changed == {"gamma", "beta", "moving_mean", "moving_variance"}


def test_groups_learn_at_their_own_rates() -> None:
    unet = build_unet(SegmenterSection(decoder={"filters": (8, 8, 8, 8), "middle": False}, classes=3))
    one = phase(group_rates=(0.01, 0.1, 1))
    way = trained_way(unet, one)
    by_name = {v.path: factor for v, factor in zip(way.trained, way.factors, strict=True)}
    assert {by_name[n] for n in by_name if n.startswith(("conv1", "layer1", "layer2"))} == {0.01}
    assert {by_name[n] for n in by_name if n.startswith(("layer3", "layer4"))} == {0.1}
    assert {by_name[n] for n in by_name if n.startswith(("block_", "classes", "last_", "bottom_"))} == {1}
    frozen = trained_way(unet, one.model_copy(update={"train": "decoder"}))
    norms = [v for v in frozen.trained if v.path.startswith(("bn1", "layer"))]
    assert {v.path.split("/")[-1] for v in norms} == {"gamma", "beta"}
    nothing = trained_way(unet, one.model_copy(update={"train": "decoder", "batch_norm": "frozen"}))
    assert len(nothing.trained) == len(frozen.trained) - len(norms)


def test_what_is_saved_answers_the_same(unbroken: Segmenter, tmp_path: Path) -> None:
    unbroken.save(tmp_path / "segmenter")
    loaded = Segmenter.load(tmp_path / "segmenter")
    images, _ = drawn(3, seed=8)
    for one, other in zip(unbroken.predict(images), loaded.predict(images), strict=True):
        assert np.array_equal(one, other)
    shares = list(loaded.predict_proba(images))
    assert shares[0].shape == (48, 32, 3)
    assert np.allclose(shares[0].sum(-1), 1, atol=1e-5)
    mirrored = [image[:, ::-1] for image in images]
    for one, other in zip(
        loaded.predict_proba(images, flip=True), loaded.predict_proba(mirrored, flip=True), strict=True
    ):
        assert np.allclose(one, other[:, ::-1], atol=1e-5)
    with pytest.raises(UserError, match="not found"):
        Segmenter.load(tmp_path / "absent")


def test_the_best_epoch_is_kept_when_it_is_asked_for() -> None:
    kept: list[str] = []
    section = small(phase(epochs=3), keep="best", monitor="pixel_accuracy")
    segmenter = Segmenter(section, seed=4).fit(
        *PHOTOS, drawn(2, seed=9), on_epoch=lambda epoch, record, model: kept.append(weights_digest(model))
    )
    best = int(segmenter.history_.holdout_pixel_accuracy.to_numpy().argmax())
    assert weights_digest(segmenter.model_) == kept[best]


def test_photos_that_do_not_fit_are_told_all_at_once() -> None:
    images, maps = drawn(4)
    maps[0] = maps[0][1:]
    maps[1] = np.full_like(maps[1], 7)
    images[2] = images[2].astype(np.float32)
    with pytest.raises(InputProblems) as told:
        Segmenter(small()).fit(images, maps)
    assert told.value.problems == [
        "photo 0: its class map must have its sides [40, 48], not [39, 48]",
        "photo 1: classes are 0 … 2, and the map has 7",
        "photo 2: must be uint8 [h, w, 3], not float32 [40, 48, 3]",
    ]
    with pytest.raises(InputProblems, match="4 photos and 3 class maps"):
        Segmenter(small()).fit(images, maps[:3])
    with pytest.raises(UserError, match="has learnt nothing"):
        next(Segmenter(small()).predict(images))
    with pytest.raises(UserError, match="keep: best goes by held-out photos"):
        Segmenter(small(keep="best")).fit(*PHOTOS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": 3, "background": 3}, "background: there are classes 0 … 2"),
        ({"loss": PixelLossSection(class_weights=(1.0, 2.0))}, "2 weights for 3 classes"),
        ({"loss": PixelLossSection(ignored=1)}, r"loss\.ignored: 1 is a class; take one of 3 … 65535"),
        ({"faithful": True}, "faithful says all of it"),
        ({"momentum": (0.8, 0.9)}, r"must be \[high, low\]"),
        ({"augment": AugmentSection(rect_crop={})}, "rect_crop: cut stored images by their own size"),
        ({"phases": ({"epochs": 3, "cycles": 2},)}, "3 are not divisible into 2 cycles"),
    ],
)
def test_a_section_whose_keys_do_not_fit_is_refused(changes, told) -> None:
    with pytest.raises(ValidationError, match=told):
        small(**changes)
