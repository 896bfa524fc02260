"""What a frozen backbone makes of images, computed once and kept on disk: epochs of the head then take no images."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from labelstack.networks.feeding import EpochBatches
from labelstack.networks.heads import pooled_model
from labelstack.networks.inference import compile_predict, weights_digest
from labelstack.params import digest
from labelstack.params.models import ModelSection
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import replacing, sha256

Floats = NDArray[np.float32]

_log = logging.getLogger(__name__)
_CHUNK = 1024  # images; what a kill costs at most
_GIB = 2**30
_DECIDING = ("tensorflow", "keras", "numpy", "opencv-python-headless", "imgaug")  # packages


class KeptFeatures:
    """Training data of a head: pooled outputs of a backbone that does not learn, and targets.

    The backbone runs in inference mode, once for each image and variant; epoch e sees the images as they are augmented
    in epoch e modulo ``variants``, in the order of epoch e. Files: ``features/<digest>/variant-000.npy``, float32
    [n, d], rows as in ``batches``; a pass that was killed goes on behind its last whole chunk.

    Parameters
    ----------
    model : keras.Model
        From ``build_model``, with the weights that it keeps.
    batches : EpochBatches
    work : Path
        Folder in which ``features`` is made; what lies there of other weights, data or packages is removed.
    fingerprint : str
        Digest of what else decides the training.

    Raises
    ------
    UserError
        When they would take more than ``params.features.max_gib``.
    """

    def __init__(
        self, params: ModelSection, model: keras.Model, batches: EpochBatches, work: Path, fingerprint: str
    ) -> None:
        pooled = pooled_model(model)
        self._batches, self._rows = batches, len(batches.targets)
        self._width = int(np.prod(pooled.outputs[0].shape[1:]))
        self.shape = tuple(pooled.outputs[0].shape[1:])
        self.variants = params.features.variants if params.augment is not False else 1
        needed = self.variants * self._rows * self._width * 4 / _GIB
        if needed > params.features.max_gib:
            raise UserError(
                f"features: {self.variants} x {self._rows:,} images of {self._width:,} numbers take {needed:.1f} GiB, "
                f"and features.max_gib is {params.features.max_gib:g}: lower variants, pool to fewer numbers "
                "(head.pooling: average), raise max_gib, or set variants to 0"
            )
        self._forward = compile_predict(pooled)
        deciding = {"weights": weights_digest(pooled), "images": batches.digest, "fingerprint": fingerprint}
        key = digest(deciding | {"packages": {name: _version(name) for name in _DECIDING}})
        self.folder = Path(work) / "features" / key
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other)
        self._open: dict[int, NDArray[np.float32]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._batches.steps_per_epoch

    @property
    def targets(self) -> Floats:
        """Those of the images."""
        return self._batches.targets

    @property
    def digest(self) -> str:
        """That of the images."""
        return self._batches.digest

    def order(self, e: int, again: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Rows in the order in which ``epoch`` gives them."""
        return self._batches.order(e, again)

    def epoch(self, e: int, again: NDArray[np.int64] | None = None) -> Iterator[tuple[Floats, Floats]]:
        """Batches (float32 [b, d], float32 [b, n_labels]) of epoch ``e``, of the size that images have."""
        features, order = self._variant(e % self.variants), self.order(e, again)
        targets, size = self._batches.targets, self._batches.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield np.asarray(features[rows]), targets[rows]

    def held_out(self, batches: Callable[[], Iterable[NDArray[np.uint8]]]) -> Floats:
        """Features float32 [m, d] of the images that batches give, kept as ``holdout.npy``."""
        path = self.folder / "holdout.npy"
        if (found := _readable(path)) is None:
            parts = [self._forward(images) for images in batches()]
            found = np.concatenate([np.empty((0, *self.shape), np.float32), *parts])
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    np.save(file, found)
                _write_digest(path, temporary)
        return found

    def remove(self) -> None:
        """Take the files away: no epoch needs them any more."""
        self._open.clear()
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _variant(self, number: int) -> Floats:
        if number not in self._open:
            path = self.folder / f"variant-{number:03d}.npy"
            found = _readable(path)
            if found is None or found.shape != (self._rows, *self.shape):
                self._compute(number, path)
                found = np.load(path, mmap_mode="r", allow_pickle=False)
            self._open[number] = found
        return self._open[number]

    def _compute(self, number: int, path: Path) -> None:
        """Fill a file beside ``path``, chunk by chunk, and give it its name when it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part, note = path.with_suffix(".part"), path.with_suffix(".json")
        order = self._batches.order(number)
        filled, done, digest = self._begun(part, note, order)
        at, marked = 0, done
        with bar(total=self._rows, desc=f"features {number + 1}/{self.variants}", unit="image") as progress:
            for images, _ in self._batches.epoch(number):
                stop = at + len(images)
                if stop > done:
                    made = np.asarray(self._forward(images), np.float32)
                    filled[order[at:stop]] = made
                    digest.update(made[max(0, done - at) :].tobytes())
                at = stop
                progress.update(len(images))
                if at - marked >= _CHUNK:
                    filled.flush()
                    _write_note(note, at, digest.hexdigest())
                    marked = at
        filled.flush()
        del filled
        _write_digest(path, part)
        part.replace(path)
        note.unlink(missing_ok=True)

    def _begun(self, part: Path, note: Path, order: NDArray[np.int64]) -> tuple[Any, int, hashlib._Hash]:
        """A file to fill, how many rows of the pass are in it, and their digest, which is what it was."""
        shape = (self._rows, *self.shape)
        try:
            told = json.loads(note.read_bytes())
            done = int(told["rows"])
            found = np.lib.format.open_memmap(part, mode="r+")
            if found.shape == shape and found.dtype == np.float32:
                digest = hashlib.sha256()
                for start in range(0, done, _CHUNK):
                    digest.update(found[order[start : min(done, start + _CHUNK)]].tobytes())
                if digest.hexdigest() == told["sha256"]:
                    _log.info("%s: going on after %d images", part, done)
                    return found, done, digest
                _log.warning("%s: damaged, begun anew", part)
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
            pass
        note.unlink(missing_ok=True)
        return np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape), 0, hashlib.sha256()


def _readable(path: Path) -> Any:
    """A whole file's array, mapped; None where there is none, or other bytes than were written."""
    try:
        if sha256(path) != path.with_suffix(".sha256").read_text(encoding="ascii"):
            raise ValueError("its bytes are not those that were written")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _log.warning("%s: passed over (%s)", path, error)
        return None


def _write_note(note: Path, rows: int, digest: str) -> None:
    with replacing(note) as temporary:
        temporary.write_text(json.dumps({"rows": rows, "sha256": digest}))


def _write_digest(path: Path, written: Path) -> None:
    """Beside a file that is about to get its name, what its bytes are."""
    with replacing(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(sha256(written), encoding="ascii")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
