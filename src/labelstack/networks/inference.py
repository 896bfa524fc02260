"""Batched prediction with test-time augmentation; base models on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks import backbones  # noqa: F401 - what all saved models may hold decides predictions
from labelstack.params.backbone_names import MODULES
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
        dated = Path(folder) / "model.keras"
        model.save(dated)
        _made_reproducible(dated, final)


def load_model(path: str | Path) -> keras.Model:
    """Read a ``.keras`` file in safe mode; raise ``UserError`` when it is absent, damaged or unsafe."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; expected a base model saved as .keras")
    for file in set(MODULES.values()):  # Keras finds layers of ours by name once their files are imported
        import_module(file)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise UserError(f"{path}: cannot be loaded as a base model ({reason})") from None


def weights_digest(model: keras.Model) -> str:
    """SHA-256 (hex) over shape, dtype and bytes of every weight in order; optimizer and names do not count."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        weight = np.ascontiguousarray(weight)
        digest.update(f"{weight.dtype.str}{weight.shape}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _made_reproducible(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            dateless = zipfile.ZipInfo(entry.filename, (1980, 1, 1, 0, 0, 0))
            if entry.filename == "metadata.json":
                new.writestr(dateless, json.dumps(json.loads(old.read(entry)) | {"date_saved": ""}))
            elif entry.filename == "config.json":
                new.writestr(dateless, json.dumps(_renumbered(json.loads(old.read(entry)), {})))
            else:
                dateless.file_size = entry.file_size  # known beforehand, so files over 2 GiB get the 64-bit form
                with old.open(entry) as content, new.open(dateless, "w") as copy:
                    shutil.copyfileobj(content, copy, 1 << 20)


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """The same configuration with shared objects numbered from 1; Keras uses their memory addresses."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(value, len(numbers) + 1) if key == "shared_object_id" else _renumbered(value, numbers)
        for key, value in config.items()
    }
