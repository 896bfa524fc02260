"""A mask as a fourth channel: nothing changes until it is learnt, and then it decides what colours cannot."""

from __future__ import annotations

from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import ValidationError

from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.images.region_crops import CropShards, CropStyle, crops
from labelstack.masks.run_lengths import encode
from labelstack.networks.backbones import build_backbone
from labelstack.networks.backbones.mask_channel import with_mask_channel
from labelstack.networks.depth import layer_groups
from labelstack.networks.inference import compile_predict, load_model, save_model
from labelstack.networks.training import train
from labelstack.params.augment import AugmentSection
from labelstack.params.backbone_names import OWN
from labelstack.params.models import ModelSection
from labelstack.params.training import TrainingSection
from networks.tiny_training import ArrayBatches, built, tiny

QUICK = ("small_cnn", "small_resnet", "pixels", "mobilenet", "efficientnet_b0")
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in OWN if name not in QUICK and not OWN[name].colours_only]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*QUICK, *LARGE])
def test_a_network_answers_as_without_the_mask_and_can_learn_from_it(name: str) -> None:
    rng, size = np.random.default_rng(0), max(32, OWN[name].smallest)
    backbone = build_backbone(name, size, "none", OWN[name].twin)
    for weight in backbone.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    images = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    masks = rng.integers(0, 2, (2, size, size, 1)).astype(np.uint8) * np.uint8(255)
    wider = with_mask_channel(name, backbone)
    given = np.concatenate([images, masks], axis=3)
    expected = backbone(images, training=False).numpy()
    np.testing.assert_allclose(wider(given, training=False).numpy(), expected, atol=1e-5 * np.abs(expected).max())
    assert [len(group) for group in layer_groups(wider)] == [len(group) for group in layer_groups(backbone)]

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(wider(given, training=False) ** 2)
    grown = [
        (new, gradient)
        for old, new, gradient in zip(
            backbone.trainable_weights,
            wider.trainable_weights,
            tape.gradient(loss, [one.value for one in wider.trainable_weights]),
            strict=True,
        )
        if len(new.shape) == 4 and tuple(old.shape) != tuple(new.shape)
    ]
    assert grown
    for kernel, gradient in grown:
        assert not kernel.numpy()[:, :, 3].any()
        assert np.abs(gradient.numpy()[:, :, 3]).max() > 0
    keras.utils.clear_session()


def test_weights_to_begin_with_are_those_of_three_channels(tmp_path: Path) -> None:
    options = {"filters": [4, 8], "convolutions": 1}
    plain = build_backbone("small_cnn", 16, "none", options)
    plain.save_weights(tmp_path / "a.weights.h5")
    wider = build_backbone("small_cnn", 16, str(tmp_path / "a.weights.h5"), options, 4)
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 4)).astype(np.uint8)
    np.testing.assert_allclose(wider(images).numpy(), plain(images[..., :3]).numpy(), atol=1e-6)


def test_a_saved_network_with_a_mask_is_read_again(tmp_path: Path) -> None:
    model = built(tiny(mask="channel"))
    images = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 4)).astype(np.uint8)
    save_model(model, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert again.input_shape == (None, 16, 16, 4)
    assert np.array_equal(compile_predict(again)(images), compile_predict(model)(images))


def test_backbones_of_colours_and_frozen_ones_are_refused() -> None:
    for name in ("descriptors", "silhouette", "silhouette_pixels"):
        with pytest.raises(ValidationError, match=f"{name} measures colours and takes no fourth channel"):
            ModelSection(backbone=name, image_size=64, mask="channel")
    with pytest.raises(ValidationError, match="which no phase trains"):
        tiny(mask="channel", phases=[{"epochs": 4, "train": "head"}])
    tiny(mask="channel", phases=[{"epochs": 1, "train": "head"}, {"epochs": 3, "train": "all"}])


def two_shapes(n: int, seed: int) -> tuple[list[tuple[bytes, NDArray[np.bool_]]], NDArray[np.float32]]:
    """Photos of a disc that overlaps a square, with the mask of one of them: labels say which."""
    rng, found, labels = np.random.default_rng(seed), [], []
    for _ in range(n):
        disc, square = np.zeros((2, 32, 32), np.uint8)
        at = rng.integers(10, 22, 2)
        cv2.circle(disc, (int(at[0]), int(at[1])), 8, 1, -1)
        corner = rng.integers(4, 14, 2)
        square[corner[1] : corner[1] + 13, corner[0] : corner[0] + 13] = 1
        photo = np.full((32, 32, 3), 60, np.uint8)
        photo[square > 0] = (200, 180, 40)
        photo[disc > 0] = (40, 120, 220)
        which = int(rng.integers(2))
        written, data = cv2.imencode(".png", photo)
        assert written
        found.append((bytes(data), (disc, square)[which] > 0))
        labels.append([which, 1 - which])
    return found, np.array(labels, np.float32)


def stored(folder: Path, photos: list[tuple[bytes, NDArray[np.bool_]]]) -> Path:
    """The whole photo of each as a region's crop, with its mask."""
    writer = CropShards(folder, 64)
    for number, (photo, inside) in enumerate(photos):
        writer.add([number], crops(photo, encode(inside[None]), CropStyle(10, False, 95, True)))
    writer.close()
    return folder


@pytest.mark.timeout(300)
def test_only_a_network_that_is_given_the_mask_learns_what_it_alone_decides(tmp_path: Path) -> None:
    (photos, Y), (others, Y_test) = two_shapes(192, 1), two_shapes(96, 2)
    shards, test = stored(tmp_path / "train", photos), stored(tmp_path / "test", others)
    right = {}
    for mask in ("none", "channel", "grey"):
        params = tiny(
            image_size=32, mask=mask, epochs=10, batch_size=16, learning_rate=0.003,
            options={"filters": [8, 16], "convolutions": 1}, head={"units": [16], "dropout": 0},
        )  # fmt: skip
        with TrainingBatches(
            shards, np.arange(len(Y)), Y, size=32, batch_size=16, seed=0, workers=0, view=params.region_view,
            augment=AugmentSection.model_validate({"flip": 0.5, "rotate": [-10, 10], "chance": 0.5}),
        ) as batches:  # fmt: skip
            trained = train(
                params, TrainingSection(patience=None), batches, None, n_labels=2, prior=Y.mean(0), seed=0,
                work=tmp_path / mask,
            )  # fmt: skip
        ((_, images),) = evaluation_batches(test, None, 32, 96, view=params.region_view)
        answers = compile_predict(trained.model)(images)
        right[mask] = float((answers.argmax(1) == Y_test.argmax(1)).mean())
    assert right["channel"] > 0.9
    assert right["grey"] > 0.9
    assert 0.3 < right["none"] < 0.7


def test_training_with_a_mask_goes_on_after_a_kill(tmp_path: Path) -> None:
    from networks.test_training import assert_same, interrupted_then_resumed, run

    images = np.random.default_rng(3).integers(0, 256, (16, 16, 16, 4)).astype(np.uint8)
    batches = ArrayBatches(images, np.eye(16, 3, dtype=np.float32))
    params, training = tiny(mask="channel", epochs=2), TrainingSection(patience=None)
    whole = run(params, training, batches, None, tmp_path / "whole")
    assert_same(whole, interrupted_then_resumed(params, training, batches, None, tmp_path / "killed", after=1))
