"""The ensemble as one thing: images in, labels out."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.errors import UserError
from labelstack.predictions import Predictions, assemble_cube
from labelstack.progress import bar
from labelstack.tracking.ensemble_folder import Spec, View, read_spec

if TYPE_CHECKING:
    import pandas as pd

MAX_IMAGE_BYTES = 100_000_000
Images = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rooms:
    """The functions that an ensemble calls, so that its own logic needs none of them imported.

    Attributes
    ----------
    decode : image file's bytes, view → uint8 [size, size, 3]; raises on what is no image
    models : by name, uint8 [n, size, size, 3] → float32 [n, n_labels], test-time augmentation included
    stackers : by name, cube float32 [n, n_models, n_labels] → float32 [n, n_labels]
    blend : predictions by member, weights by member → float32 [n, n_labels]
    decide : float32 [n, n_labels] → bool [n, n_labels]
    """

    decode: Callable[[bytes, View], Images]
    models: Mapping[str, Callable[[Images], Floats]]
    stackers: Mapping[str, Callable[[Floats], Floats]]
    blend: Callable[[Mapping[str, Floats], Mapping[str, float]], Floats]
    decide: Callable[[Floats], NDArray[np.bool_]]


class Ensemble:
    """Base models, stackers, blend and thresholds, from image to labels."""

    def __init__(self, spec: Spec, rooms: Rooms) -> None:
        self.spec = spec
        self.rooms = rooms

    @classmethod
    def load(cls, folder: str | Path) -> Ensemble:
        """Load the models that the blend needs from a folder that ``assemble_folder`` made."""
        folder = Path(folder)
        spec = read_spec(folder)
        return cls(spec, _real_rooms(folder, spec))

    def predict(self, images: Iterable[Any], *, all_probabilities: bool = False) -> pd.DataFrame:
        """Labels of images.

        Parameters
        ----------
        images : iterable of str or bytes
            A path, base64 of an image file (a ``data:`` URL too), or the bytes of an image file.
        all_probabilities : bool
            Add the column ``probabilities``: of every label, in the order of ``spec.label_id``.

        Returns
        -------
        DataFrame
            A row for each image: ``label_id`` (list of int), ``labels`` (names), ``probability`` (of those labels),
            ``error`` (None, or why this image has no labels).
        """
        import pandas as pd

        todo, rows = list(images), []
        size = self.spec.settings.batch_size
        with bar(total=len(todo), desc="predict", unit="image") as progress:
            for start in range(0, len(todo), size):
                batch = todo[start : start + size]
                rows += self._rows(batch)
                progress.update(len(batch))
        columns = ["label_id", "labels", "probability", "error"] + ["probabilities"] * all_probabilities
        return pd.DataFrame({column: pd.Series([row[column] for row in rows], dtype=object) for column in columns})

    def probabilities(self, pixels: Mapping[View, Images]) -> Floats:
        """Blended probabilities float32 [n, n_labels] of decoded images uint8 [n, size, size, 3] by view."""
        spec, views = self.spec, self.spec.views
        ids = np.arange(len(next(iter(pixels.values()))))
        base = {name: Predictions(ids, self.rooms.models[name](pixels[views[name]])) for name in spec.needed_models}
        members = {name: prediction.probability for name, prediction in base.items()}
        if spec.needed_stackers:
            cube = assemble_cube(base, ids)
            members |= {name: self.rooms.stackers[name](cube) for name in spec.needed_stackers}
        return self.rooms.blend({name: members[name] for name in spec.blended}, spec.blended)

    def _rows(self, batch: Sequence[Any]) -> list[dict[str, Any]]:
        views = {self.spec.views[name] for name in self.spec.needed_models}
        decoded: list[dict[View, Images]] = []
        errors: list[str | None] = []
        for image in batch:
            try:
                data = image_bytes(image)
                decoded.append({view: self.rooms.decode(data, view) for view in views})
                errors.append(None)
            except Exception as error:  # whatever one image does, the others get their labels
                errors.append(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        if not decoded:
            return [_row(error) for error in errors]
        P = self.probabilities({view: np.stack([seen[view] for seen in decoded]) for view in views})
        found = iter(zip(P, self.rooms.decide(P), strict=True))
        return [_row(error) if error else self._labelled(*next(found)) for error in errors]

    def _labelled(self, probability: Floats, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        columns = np.flatnonzero(chosen)
        return {
            "label_id": [self.spec.label_id[i] for i in columns],
            "labels": [self.spec.labels[i] for i in columns],
            "probability": [float(probability[i]) for i in columns],
            "error": None,
            "probabilities": [float(p) for p in probability],
        }


def image_bytes(image: Any) -> bytes:
    """The bytes of an image file given as bytes, path, base64 or ``data:`` URL; raise ``UserError`` otherwise."""
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str | os.PathLike):
        data = _file_or_base64(os.fspath(image))
    else:
        raise UserError(f"expected a path, base64 or bytes, not {type(image).__name__}")
    if not data:
        raise UserError("the image is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise UserError(f"the image has {len(data)} bytes; at most {MAX_IMAGE_BYTES} are read")
    return data


def _file_or_base64(text: str) -> bytes:
    if len(text) < 4096 and not text.startswith("data:"):
        try:
            if (path := Path(text)).is_file():
                if path.stat().st_size > MAX_IMAGE_BYTES:
                    raise UserError(f"the file is larger than {MAX_IMAGE_BYTES} bytes")
                return path.read_bytes()
        except (OSError, ValueError):  # not a file that can be read: perhaps base64
            pass
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        shown = text if len(text) <= 80 else f"{text[:77]}…"
        raise UserError(f"{shown!r} is neither a readable image file nor base64") from None


def _row(error: str | None) -> dict[str, Any]:
    return {"label_id": [], "labels": [], "probability": [], "error": error, "probabilities": None}


def _real_rooms(folder: Path, spec: Spec) -> Rooms:
    from labelstack.images.decode import decode, to_stored_jpeg
    from labelstack.images.tta import TRANSFORMS
    from labelstack.networks.inference import compile_predict, load_model
    from labelstack.stacking.blend import blend
    from labelstack.stacking.decisions import Decision
    from labelstack.stacking.fold_ensemble import FoldEnsemble

    settings = spec.settings
    transforms = [TRANSFORMS[name] for name in settings.tta]

    def read(data: bytes, view: View) -> Images:
        return decode(to_stored_jpeg(data, settings.store_size, settings.jpeg_quality)[0], view.image_size, view.resize)

    def base_model(name: str) -> Callable[[Images], Floats]:
        forward = compile_predict(load_model(folder / "members" / name / "model.keras"))
        return lambda x: np.mean([forward(transform(x)) for transform in transforms], axis=0, dtype=np.float32)

    return Rooms(
        decode=read,
        models={name: base_model(name) for name in spec.needed_models},
        stackers={name: FoldEnsemble.load(folder / "stackers" / name).predict_proba for name in spec.needed_stackers},
        blend=blend,
        decide=Decision.from_dict(spec.decision).decide,
    )
