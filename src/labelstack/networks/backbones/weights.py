"""Weights for a backbone from a file: a saved backbone, a published one, or one of our own base models."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from labelstack.networks.backbones.safetensors_file import read_safetensors
from labelstack.support.errors import UserError
from labelstack.support.hub import hub_file

LoadState = Callable[[keras.Model, Mapping[str, NDArray[Any]], str], None]
_KINDS = ".weights.h5, .h5, .keras or .safetensors"


def load_backbone_weights(backbone: keras.Model, weights: str | Path, load_state: LoadState | None = None) -> None:
    """Put the weights of a file into a backbone built by ``build_backbone``.

    Parameters
    ----------
    backbone : keras.Model
    weights : path, or ``hf://`` and what ``support.hub`` takes
        ``.weights.h5`` written by ``backbone.save_weights``; another ``.h5`` as published by keras.applications
        (``…_notop.h5``); ``.safetensors``, named as PyTorch names a published network's tensors; or ``.keras``, a base
        model of ours, whose layer ``backbone`` must be the same architecture (its image size may differ).
    load_state : callable, optional
        Of the architecture: what puts tensors into its body by name. None: it takes no ``.safetensors``.

    Raises
    ------
    UserError
        The file is absent, cannot be fetched, is of another kind, or holds weights of another architecture.
    """
    hosted = hub_file(str(weights))
    path = hosted.path() if hosted else Path(weights)
    if not path.is_file():
        raise UserError(f"weights: {path}: not found; expected none, imagenet, hf://…, or the path of a {_KINDS}")
    try:
        if path.suffix == ".safetensors":
            _from_tensors(backbone, path, str(weights), load_state)
        elif path.suffix == ".keras":
            _from_base_model(backbone, path)
        elif path.name.endswith(".weights.h5"):
            backbone.load_weights(path)
        elif path.suffix == ".h5":
            backbone.get_layer("body").load_weights(path)
        else:
            raise UserError(f"weights: {path}: expected a file name ending in {_KINDS}")
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise UserError(f"weights: {path}: does not fit this backbone with these options ({reason})") from None


def is_published_file(weights: str) -> bool:
    """Whether a name of weights says a published file, which holds a whole network, however early it is cut off."""
    whole = weights.endswith((".h5", ".safetensors")) and not weights.endswith(".weights.h5")
    return whole or hub_file(weights) is not None


def _from_tensors(backbone: keras.Model, path: Path, weights: str, load_state: LoadState | None) -> None:
    if load_state is None:
        raise UserError(
            f"weights: {weights}: this backbone takes no .safetensors; docs/networks.md has those that do. Set weights "
            "to none, to imagenet if it has such, or to the path of a .weights.h5, .h5 or .keras"
        )
    load_state(backbone.get_layer("body"), read_safetensors(path), f"weights: {weights}")


def _from_base_model(backbone: keras.Model, path: Path) -> None:
    saved = keras.saving.load_model(path, compile=False, safe_mode=True).get_layer("backbone").get_weights()
    expected = [tuple(weight.shape) for weight in backbone.weights]
    found = [weight.shape for weight in saved]
    if expected != found:
        pairs = [f"{a} here, {b} in the file" for a, b in zip(expected, found, strict=False) if a != b]
        raise ValueError(pairs[0] if pairs else f"{len(expected)} weights here, {len(found)} in the file")
    backbone.set_weights(saved)
