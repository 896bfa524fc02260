"""What was said of the validation images, with the truth: what two ensembles are compared by, wherever made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metric import Metric
from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

_ARRAYS = ("image_id", "label_id", "truth", "names", "chosen")
_MORE = ("probability", "counts")


@dataclass(frozen=True)
class Scored:
    """What one or more models say of the same images, cross-fitted, as metrics want it.

    Attributes
    ----------
    image_id : int64 [n]
    label_id : int64 [n_labels]
    truth : bool [n, n_labels]
    chosen : mapping of name to bool [n, n_labels]
        Label sets, by rules that were chosen without each image's fold.
    probability : mapping of name to float32 [n, n_labels]
        By weights that were chosen without each image's fold; where a metric of probabilities or rankings is optimised.
    counts : mapping of name to numbers [n, c]
        What a score is computed from together with other rows' counts; where such a metric is optimised.
    """

    image_id: NDArray[np.int64]
    label_id: NDArray[np.int64]
    truth: NDArray[np.bool_]
    chosen: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    probability: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    counts: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.image_id), len(self.label_id))
        for name, values in [("truth", self.truth), *self.chosen.items(), *self.probability.items()]:
            if values.shape != shape:
                raise ValueError(f"{name} has shape {values.shape}, expected {shape}")
        for name, values in self.counts.items():
            if values.ndim != 2 or len(values) != shape[0]:
                raise ValueError(f"{name} has counts of shape {values.shape}, expected {shape[0]} rows")

    def given(self, metric: Metric, name: str) -> NDArray[Any] | None:
        """What a metric scores of a model; None where that was not kept."""
        kept: Mapping[str, NDArray[Any]] = {"label_sets": self.chosen, "counts": self.counts}.get(
            metric.wants, self.probability
        )
        return kept.get(name)

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
        probability = {name: values[pick] for name, values in other.probability.items()}
        counts = {name: values[rows] for name, values in other.counts.items()}
        return Scored(self.image_id, self.label_id, other.truth[pick], chosen, probability, counts)


def write_scored(path: str | Path, scored: Scored) -> None:
    """Write an ``.npz``, label sets as packed bits, whole or not at all; equal content gives equal bytes."""
    names = list(scored.chosen)
    packed = [np.packbits(scored.chosen[name], axis=1) for name in names]
    width = -(-len(scored.label_id) // 8)
    more: dict[str, NDArray[Any]] = {}  # a file of label sets alone is as it always was
    for kind in _MORE:
        if values := getattr(scored, kind):
            more |= {f"{kind}_names": np.array(list(values), dtype=np.str_), kind: np.stack(list(values.values()))}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            image_id=scored.image_id.astype(np.int64),
            label_id=scored.label_id.astype(np.int64),
            truth=np.packbits(scored.truth, axis=1),
            names=np.array(names, dtype=np.str_),
            chosen=np.stack(packed) if packed else np.zeros((0, len(scored.image_id), width), np.uint8),
            **more,  # type: ignore[arg-type]
        )


def read_scored(path: str | Path) -> Scored:
    """Read what ``write_scored`` wrote; raise ``UserError`` when the file is absent or something else."""
    try:
        with np.load(path, allow_pickle=False) as content:
            image_id, label_id, truth, names, chosen = (content[key] for key in _ARRAYS)
            more = [_named(content, kind) for kind in _MORE]
        n_labels = len(label_id)

        def unpacked(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return np.unpackbits(bits, axis=1, count=n_labels).astype(np.bool_)

        sets = {str(name): unpacked(bits) for name, bits in zip(names, chosen, strict=True)}
        return Scored(image_id, label_id, unpacked(truth), sets, *more)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (*DAMAGED_ARCHIVE, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not a file of scored label sets ({error})") from None


def _named(content: Any, kind: str) -> dict[str, NDArray[Any]]:
    """Arrays by name, none where the file has no such."""
    if kind not in content:
        return {}
    return {str(name): values for name, values in zip(content[f"{kind}_names"], content[kind], strict=True)}


def _places(wanted: NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(given, kind="stable")
    return order[np.searchsorted(given, wanted, sorter=order)]
