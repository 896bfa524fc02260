"""Label sets on the validation images, with the truth: what two ensembles are compared by, wherever they were made."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

_ARRAYS = ("image_id", "label_id", "truth", "names", "chosen")


@dataclass(frozen=True)
class Scored:
    """Cross-fitted label sets of one or more models on the same images.

    Attributes
    ----------
    image_id : int64 [n]
    label_id : int64 [n_labels]
    truth : bool [n, n_labels]
    chosen : mapping of name to bool [n, n_labels]
        By rules that were chosen without each image's fold.
    """

    image_id: NDArray[np.int64]
    label_id: NDArray[np.int64]
    truth: NDArray[np.bool_]
    chosen: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.image_id), len(self.label_id))
        for name, labels in {"truth": self.truth, **self.chosen}.items():
            if labels.shape != shape:
                raise ValueError(f"{name} has shape {labels.shape}, expected {shape}")

    @property
    def digest(self) -> str:
        """The data digest (16 hex digits): equal when images, labels and truth are, in whatever order they stand."""
        rows, columns = np.argsort(self.image_id, kind="stable"), np.argsort(self.label_id, kind="stable")
        content = hashlib.sha256(f"{len(rows)} {len(columns)}".encode())
        content.update(self.image_id[rows].astype("<i8").tobytes())
        content.update(self.label_id[columns].astype("<i8").tobytes())
        content.update(np.packbits(self.truth[np.ix_(rows, columns)], axis=1).tobytes())
        return content.hexdigest()[:16]

    def aligned(self, other: Scored) -> Scored:
        """``other``'s rows and columns in this one's order; raise ``ValueError`` when the data differ."""
        if self.digest != other.digest:
            raise ValueError(f"other data: {self.digest} against {other.digest}")
        rows, columns = _places(self.image_id, other.image_id), _places(self.label_id, other.label_id)
        pick = np.ix_(rows, columns)
        chosen = {name: labels[pick] for name, labels in other.chosen.items()}
        return Scored(self.image_id, self.label_id, other.truth[pick], chosen)


def write_scored(path: str | Path, scored: Scored) -> None:
    """Write an ``.npz`` with packed bits, whole or not at all; equal content gives equal bytes."""
    names = list(scored.chosen)
    packed = [np.packbits(scored.chosen[name], axis=1) for name in names]
    width = -(-len(scored.label_id) // 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            image_id=scored.image_id.astype(np.int64),
            label_id=scored.label_id.astype(np.int64),
            truth=np.packbits(scored.truth, axis=1),
            names=np.array(names, dtype=np.str_),
            chosen=np.stack(packed) if packed else np.zeros((0, len(scored.image_id), width), np.uint8),
        )


def read_scored(path: str | Path) -> Scored:
    """Read what ``write_scored`` wrote; raise ``UserError`` when the file is absent or something else."""
    try:
        with np.load(path, allow_pickle=False) as content:
            image_id, label_id, truth, names, chosen = (content[key] for key in _ARRAYS)
        n_labels = len(label_id)

        def unpacked(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return np.unpackbits(bits, axis=1, count=n_labels).astype(np.bool_)

        sets = {str(name): unpacked(bits) for name, bits in zip(names, chosen, strict=True)}
        return Scored(image_id, label_id, unpacked(truth), sets)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (ValueError, KeyError, OSError, EOFError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a file of scored label sets ({error})") from None


def _places(wanted: NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(given, kind="stable")
    return order[np.searchsorted(given, wanted, sorter=order)]
