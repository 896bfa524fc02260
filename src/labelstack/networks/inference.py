"""Batched prediction with test-time augmentation; base models on disk."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks import backbones  # noqa: F401 - what all saved models may hold decides predictions
from labelstack.params.backbone_names import BACKBONES, OWN, backbone_of
from labelstack.support.archive import make_canonical
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import replacing

Images = NDArray[np.uint8]
Transform = Callable[[Images], Images]


def compile_predict(model: keras.Model) -> Callable[[Images], NDArray[np.float32]]:
    """A function uint8 [b, S, S, 3] → float32 [b, n_labels], traced once for every batch size."""
    signature = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.uint8)
    forward = tf.function(lambda x: model(x, training=False), input_signature=[signature], autograph=False)

    def run(images: Images) -> NDArray[np.float32]:
        return np.asarray(forward(tf.constant(images)), dtype=np.float32)

    return run


def predict(
    model: keras.Model,
    batches: Iterable[tuple[NDArray[np.int64], Images]],
    transforms: Sequence[Transform] = (),
    *,
    total: int | None = None,
    forward: Callable[[Images], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Mean probability over test-time transforms.

    Parameters
    ----------
    model : keras.Model
        From ``build_model`` or ``load_model``.
    batches : iterable of (int64 [b], uint8 [b, S, S, 3])
    transforms : sequence of callables on uint8 [b, S, S, 3]
        Empty means the image as it is.
    total : int, optional
        Number of images, for the progress bar.
    forward : callable, optional
        The model's ``compile_predict``, where it is there already: tracing a big network takes seconds.

    Returns
    -------
    image_id : int64 [n]
    probability : float32 [n, n_labels]
    """
    run = forward or compile_predict(model)
    ids: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.float32]] = []
    with bar(total=total, desc="predict", unit="image") as progress:
        for image_id, images in batches:
            views = [transform(images) for transform in transforms] or [images]
            rows.append(np.mean([run(view) for view in views], axis=0, dtype=np.float32))
            ids.append(np.asarray(image_id, dtype=np.int64))
            progress.update(len(images))
    if not ids:
        return np.zeros(0, np.int64), np.zeros((0, model.outputs[0].shape[-1]), np.float32)
    return np.concatenate(ids), np.concatenate(rows)


def save_model(model: keras.Model, path: str | Path) -> None:
    """Write a ``.keras`` file, whole or not at all; equal models give equal bytes (no dates, no memory addresses)."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"{path}: a base model's file name ends in .keras")
    with replacing(path) as final, tempfile.TemporaryDirectory(dir=final.parent, prefix=".saving.") as folder:
        whole = Path(folder) / "model.keras"
        model.save(whole)
        make_canonical(whole)
        whole.replace(final)


def load_model(path: str | Path) -> keras.Model:
    """Read a ``.keras`` file in safe mode; raise ``UserError`` when it is absent, damaged or unsafe.

    Layers of our backbones and of installed plug-ins are known.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a base model saved as .keras")
    lacking = _layers_imported()
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise UserError(f"{path}: cannot be loaded as a base model ({'; '.join([reason, *lacking])})") from None


def _layers_imported() -> list[str]:
    """Import the modules of all backbones, by which Keras knows their layers; what is wrong with those of plug-ins."""
    problems = []
    for name in BACKBONES.names():
        try:
            import_module(backbone_of(name).module)
        except Exception as error:  # whatever the code of a stranger raises
            if name in OWN:
                raise
            problems.append(f"backbone {name}: {error}")
    return problems


def weights_digest(model: keras.Model) -> str:
    """SHA-256 (hex) over shape, dtype and bytes of every weight in order; optimizer and names do not count."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        weight = np.ascontiguousarray(weight)
        digest.update(f"{weight.dtype.str}{weight.shape}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()
