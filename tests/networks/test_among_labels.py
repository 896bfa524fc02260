"""A network of some label groups: what it says of all labels, from the start and from a file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from labelstack.networks.among_labels import among_labels, spread_of
from labelstack.networks.group_softmax import GroupSoftmax
from labelstack.networks.inference import compile_predict, finish_of, load_model, over_views, save_model, weights_digest
from labelstack.networks.model import build_model
from labelstack.networks.tasks import by_group
from labelstack.params.models import ModelSection

GROUPS = ["a", "a", "a", "b", "b", "c", "c", "c", "c"]
MINE = [3, 4, 5, 6, 7, 8]
PARAMS = ModelSection(
    backbone="small_cnn",
    image_size=16,
    loss="cross_entropy",
    options={"filters": [4]},
    head={"units": [], "dropout": 0},
)


def network() -> keras.Model:
    """Of the groups b and c."""
    keras.utils.set_random_seed(1)
    return build_model(PARAMS, by_group(PARAMS, [GROUPS[place] for place in MINE]))


def test_it_says_nothing_of_other_labels_and_keeps_the_parts_of_a_joint_network(tmp_path: Path) -> None:
    alone = network()
    whole = among_labels(alone, MINE, len(GROUPS), 2 / 3)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    found = np.asarray(whole(images))
    assert whole.output_shape == (None, 9)
    assert np.isnan(found[:, :3]).all()
    np.testing.assert_allclose(found[:, 3:], np.asarray(alone(images)) * 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:5].sum(axis=1), 1 / 3, rtol=1e-6)  # as GroupSoftmax([3, 2, 4]) has them
    assert weights_digest(whole) == weights_digest(alone)
    save_model(whole, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(images)), found)
    layer = spread_of(again)
    assert layer is not None
    np.testing.assert_allclose(layer.of_arrays(np.asarray(alone(images))), found, rtol=1e-6)
    assert spread_of(alone) is None


def test_the_mean_of_logits_is_spread_too() -> None:
    whole = among_labels(network(), MINE, len(GROUPS), 2 / 3)
    views = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 16, 3), np.uint8)
    finish = finish_of(whole, "logit")
    found = over_views(compile_predict(whole, "logit"), views, finish=finish)
    raw = keras.Model(whole.inputs, whole.get_layer("logits").output)
    mean = np.mean([np.asarray(raw(views[:, view])) for view in range(2)], axis=0)
    expected = np.asarray(GroupSoftmax([2, 4])(tf.constant(mean))) * 2 / 3
    np.testing.assert_allclose(found[:, 3:], expected, rtol=1e-5)
    assert np.isnan(found[:, :3]).all()
