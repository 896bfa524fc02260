"""Batched prediction with test-time augmentation; base models on disk."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import special

from labelstack.networks import backbones, nearest_neighbours  # noqa: F401 - what saved models hold decides predictions
from labelstack.networks.among_labels import AmongLabels, spread_of
from labelstack.networks.group_softmax import GroupSoftmax
from labelstack.params.backbone_names import BACKBONES, OWN, backbone_of
from labelstack.params.prediction_views import Combine
from labelstack.support.archive import make_canonical
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import replacing

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
Transform = Callable[[Images], Images]
Forward = Callable[[Images], Floats]
Finish = Callable[[NDArray[np.float64]], Floats] | None


def compile_predict(model: keras.Model, combine: Combine = "probability") -> Forward:
    """A function uint8 [b, S, S, 3] → float32 [b, n_labels], traced once for every batch size.

    It gives what ``combine`` takes the mean of: probabilities, or logits.
    """
    if combine == "logit":
        model = keras.Model(model.inputs, model.get_layer("logits").output)
    signature = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.uint8)
    forward = tf.function(lambda x: model(x, training=False), input_signature=[signature], autograph=False)

    def run(images: Images) -> Floats:
        return np.asarray(forward(tf.constant(images)), dtype=np.float32)

    return run


def predict(
    model: keras.Model,
    batches: Iterable[tuple[NDArray[np.int64], Images]],
    transforms: Sequence[Transform] = (),
    *,
    total: int | None = None,
    forward: Forward | None = None,
    combine: Combine = "probability",
    most: int | None = None,
) -> tuple[NDArray[np.int64], Floats]:
    """What a network says of images, the mean over test-time views.

    Parameters
    ----------
    model : keras.Model
        From ``build_model`` or ``load_model``.
    batches : iterable of (int64 [b], uint8 [b, S, S, 3]), or of images in v views each (uint8 [b, v, S, S, 3])
    transforms : sequence of callables on uint8 [b, S, S, 3]
        Empty means the image as it is.
    total : int, optional
        Number of images, for the progress bar.
    forward : callable, optional
        The model's ``compile_predict`` with this ``combine``, where it is there already: tracing a big network takes
        seconds.
    combine : ``probability`` or ``logit``
        What the mean is taken of; that of logits becomes probabilities as the network's own do.
    most : int, optional
        Of views [b, v, …] so many are passed at once.

    Returns
    -------
    image_id : int64 [n]
    probability : float32 [n, n_labels]
    """
    run, finish = forward or compile_predict(model, combine), finish_of(model, combine)
    ids: list[NDArray[np.int64]] = []
    rows: list[Floats] = []
    with bar(total=total, desc="predict", unit="image") as progress:
        for image_id, images in batches:
            rows.append(over_views(run, images, transforms, finish=finish, most=most))
            ids.append(np.asarray(image_id, dtype=np.int64))
            progress.update(len(images))
    if not ids:
        return np.zeros(0, np.int64), np.zeros((0, model.outputs[0].shape[-1]), np.float32)
    return np.concatenate(ids), np.concatenate(rows)


def over_views(
    run: Forward,
    images: Images,
    transforms: Sequence[Transform] = (),
    *,
    finish: Finish = None,
    most: int | None = None,
) -> Floats:
    """The mean over views of a batch, float32 [b, n_labels]; arguments as of ``predict``, ``finish`` of ``finish_of``.

    A transform is a pass of the whole batch, as it ever was. Images that come in views are passed one after another
    with all their views, ``most`` views at once.
    """
    if images.ndim == 5:
        rows = images.reshape(-1, *images.shape[2:])
        step = most or len(rows)
        answers = np.concatenate([run(rows[start : start + step]) for start in range(0, len(rows), step)])
        answers = answers.reshape(*images.shape[:2], -1).swapaxes(0, 1)
    else:
        views = [transform(images) for transform in transforms] or [images]
        answers = np.stack([run(view) for view in views])
    if finish is None:
        return np.asarray(np.mean(answers, axis=0, dtype=np.float32))
    return finish(np.asarray(np.mean(answers, axis=0, dtype=np.float64)))


def finish_of(model: keras.Model, combine: Combine) -> Finish:
    """What makes probabilities of a mean: nothing where it is one of probabilities, else the network's last step.

    It takes float64 [b, n_labels], and neither overflows nor divides by 0, whatever the logits.
    """
    if combine == "probability":
        return None
    last, spread = model.get_layer("probability").activation, spread_of(model)
    if isinstance(last, GroupSoftmax):
        return partial(_group_answers, last, spread)
    name = keras.activations.serialize(last)
    activation = {"sigmoid": special.expit, "softmax": partial(special.softmax, axis=-1)}[name]
    return lambda mean: np.asarray(activation(mean), np.float32)


def _group_answers(last: GroupSoftmax, spread: AmongLabels | None, mean: NDArray[np.float64]) -> Floats:
    answers = last.of_arrays(mean)
    return np.asarray(answers if spread is None else spread.of_arrays(answers), np.float32)


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
