"""Weights for a backbone from a file: a saved backbone, a published .h5, or one of our own base models."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

from labelstack.support.errors import UserError


def load_backbone_weights(backbone: keras.Model, path: str | Path) -> None:
    """Put the weights of a file into a backbone built by ``build_backbone``.

    Parameters
    ----------
    backbone : keras.Model
    path : path
        ``.weights.h5`` written by ``backbone.save_weights``; another ``.h5`` as published by keras.applications
        (``…_notop.h5``); or ``.keras``, a base model of ours, whose layer ``backbone`` must be the same architecture
        (its image size may differ).

    Raises
    ------
    UserError
        The file is absent, of another kind, or holds weights of another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"weights: {path}: not found; expected none, imagenet, or the path of a .weights.h5, .h5 or .keras"
        )
    try:
        if path.suffix == ".keras":
            _from_base_model(backbone, path)
        elif path.name.endswith(".weights.h5"):
            backbone.load_weights(path)
        elif path.suffix == ".h5":
            backbone.get_layer("body").load_weights(path)
        else:
            raise UserError(f"weights: {path}: expected a file name ending in .weights.h5, .h5 or .keras")
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise UserError(f"weights: {path}: does not fit this backbone with these options ({reason})") from None


def is_published_file(weights: str) -> bool:
    """Whether a name of weights says a file as keras.applications publishes it: a whole network's, ``.h5``."""
    return weights.endswith(".h5") and not weights.endswith(".weights.h5")


def _from_base_model(backbone: keras.Model, path: Path) -> None:
    saved = keras.saving.load_model(path, compile=False, safe_mode=True).get_layer("backbone").get_weights()
    expected = [tuple(weight.shape) for weight in backbone.weights]
    found = [weight.shape for weight in saved]
    if expected != found:
        pairs = [f"{a} here, {b} in the file" for a, b in zip(expected, found, strict=False) if a != b]
        raise ValueError(pairs[0] if pairs else f"{len(expected)} weights here, {len(found)} in the file")
    backbone.set_weights(saved)
