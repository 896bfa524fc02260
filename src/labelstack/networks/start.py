"""A network that begins with what another one has learnt."""

from __future__ import annotations

from pathlib import Path

import keras

from labelstack.networks.inference import load_model
from labelstack.support.errors import UserError


def begin_with(model: keras.Model, path: Path) -> None:
    """Give a network all weights of the one in a file, head included.

    Raises
    ------
    UserError
        When the file is absent or damaged, or its weights do not fit one by one.
    """
    first = load_model(path).get_weights()
    wanted = [tuple(weight.shape) for weight in model.weights]
    if [weight.shape for weight in first] != wanted:
        apart = [(a.shape, b) for a, b in zip(first, wanted, strict=False) if a.shape != b]
        counts = f"{len(first)} tensors in place of {len(wanted)}"
        told = f"the first that differs is {apart[0][0]} and is to be {apart[0][1]}" if apart else counts
        raise UserError(f"{path}: its weights do not fit a network of this image_size and head ({told})")
    model.set_weights(first)
