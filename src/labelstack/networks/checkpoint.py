"""The state of a training after each epoch, on disk: whole files only, the last two epochs kept."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.networks.schedules import best_epoch
from labelstack.scoring.metric import found_holdout_column
from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.storage import replacing

Arrays = dict[str, NDArray[Any]]
Record = dict[str, float]

_log = logging.getLogger(__name__)
_META = "__meta__"
_NAME = re.compile(r"^(epoch|best)-(\d{5})\.npz$")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on.

    Attributes
    ----------
    history : list of dict
        A record for each finished epoch.
    state : dict of arrays
        Variables of model, optimizer and moving average.
    best : dict of arrays or None
        Weights of the best epoch so far; None without a holdout.
    """

    history: list[Record]
    state: Arrays
    best: Arrays | None


class CheckpointFolder:
    """Checkpoints of one training.

    Parameters
    ----------
    folder : path
        Created on the first save. Holds ``epoch-00003.npz`` and ``best-00002.npz``.
    fingerprint : str
        Digest of all that decides the result; checkpoints of another training are not resumed.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.folder = Path(folder)
        self.fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove what neither it nor its predecessor needs.

        The best weights are written only when the last epoch is the best, and before the checkpoint that names them.
        """
        history = checkpoint.history
        best = best_epoch(history)
        if checkpoint.best is not None and best == len(history):
            self._write("best", best, history, checkpoint.best)
        self._write("epoch", len(history), history, checkpoint.state)
        keep = {
            ("epoch", len(history)),
            ("epoch", len(history) - 1),
            ("best", best),
            ("best", best_epoch(history[:-1])),
        }
        for kind, epoch, path in self._files():
            if (kind, epoch) not in keep:
                path.unlink()

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint of this training, or None; others are logged and passed over."""
        for kind, _, path in sorted(self._files(), reverse=True):
            if kind != "epoch":
                continue
            try:
                history, state = self._read(path)
                best = None
                if history and found_holdout_column(history[-1]):
                    _, best = self._read(self._path("best", best_epoch(history)))
                return Checkpoint(history, state, best)
            except (*DAMAGED_ARCHIVE, ValueError, KeyError, TypeError) as error:
                _log.warning("%s: passed over (%s)", path, error)
        return None

    def _path(self, kind: str, epoch: int) -> Path:
        return self.folder / f"{kind}-{epoch:05d}.npz"

    def _files(self) -> list[tuple[str, int, Path]]:
        if not self.folder.is_dir():
            return []
        matches = ((_NAME.match(path.name), path) for path in self.folder.iterdir())
        return [(match[1], int(match[2]), path) for match, path in matches if match]

    def _write(self, kind: str, epoch: int, history: list[Record], arrays: Mapping[str, NDArray[Any]]) -> None:
        meta = json.dumps({"fingerprint": self.fingerprint, "history": history})
        content = {_META: np.frombuffer(meta.encode(), dtype=np.uint8), **arrays}
        with replacing(self._path(kind, epoch)) as temporary, temporary.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]

    def _read(self, path: Path) -> tuple[list[Record], Arrays]:
        # Reading an entry of a zip file to its end checks its CRC, so damage anywhere is noticed here.
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        meta = json.loads(arrays.pop(_META).tobytes())
        if meta["fingerprint"] != self.fingerprint:
            raise ValueError("it belongs to a training with other params or data")
        return meta["history"], arrays
