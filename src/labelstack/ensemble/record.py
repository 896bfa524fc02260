"""What is kept with a registered ensemble, so that it can be rebuilt and the rebuilt one compared with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.ensemble.machine import machine
from labelstack.images.view_table import read_view, write_view
from labelstack.predictions import Predictions, write_predictions
from labelstack.scoring.scored import Scored, write_scored
from labelstack.support import storage
from labelstack.support.box import Boxes
from labelstack.support.dtypes import Dtype
from labelstack.support.errors import UserError

FOLDER = "record"
CHECKSUMS = "checksums.json"
_PROBE = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("bytes", pa.binary(), nullable=False),
        pa.field("batch", pa.int64(), nullable=False),
    ]
)
_SPLIT = "test"
LABEL_IDS = "ids"
# Of a version with segmenters.
PHOTOS_PROBE, REGIONS, PHOTOS, MASKS = "probe_photos.parquet", "regions.parquet", "photos.parquet", "masks.json"
_FIRST_HEADER = ["id", "predicted"]
_TEST = pa.schema([pa.field("image_id", pa.int64(), nullable=False)])
_NAME = pa.field("name", pa.string(), nullable=False)


@dataclass(frozen=True)
class ProbeImages:
    """Test images that a rebuilt ensemble predicts again.

    Attributes
    ----------
    image_id : int64 [n]
    jpeg : n images as they stand in the shards
    batch : int64 [n], ascending: images of one number were predicted together. The last bits of a network's output
        may depend on the size of the batch, so the batches are whole ones.
    """

    image_id: NDArray[np.int64]
    jpeg: Sequence[bytes]
    batch: NDArray[np.int64]


@dataclass(frozen=True)
class RecordedPhotos:
    """Test photos, the regions that were found in them, and the masks that were handed in.

    Attributes
    ----------
    probe : whole photos; those of one batch were shown to the segmenters together
    regions : the table of regions of all test photos, a parquet file
    image_id, name : int64 [m] and m texts, every test photo in the order of the submission
    submission : ``filename``, ``sha256`` and ``side`` of the file of masks
    """

    probe: ProbeImages
    regions: Path
    image_id: NDArray[np.int64]
    name: Sequence[str]
    submission: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What an ensemble said on the day when it was registered.

    Attributes
    ----------
    probe : see ``ProbeImages``
    predictions : by name of every model, every stacker and ``blend``: of all test images that were downloaded
    scored : cross-fitted label sets of the same on validation, with the truth
    evaluation : the content of metrics/evaluation.json
    labels : the label table, a parquet file
    test_id : int64 [m], every test image in the order of the submission
    submission : ``filename``, ``sha256``, ``rows``, ``not_downloaded``, ``header`` and, where images and labels are
        called by texts, ``separator``; ``labels: ids`` where labels stand there by their ids all the same
    machine : see ``labelstack.ensemble.machine``
    test_name : m names of the test images, where the submission has such
    boxes : of second-round models, the part of each test image that they saw
    photos : of a version with segmenters, whose test images are regions: the photos that these are of
    dtype : in which ``predictions`` are kept, that of the stages' files
    """

    probe: ProbeImages
    predictions: Mapping[str, Predictions]
    scored: Scored
    evaluation: Mapping[str, Any]
    labels: Path
    test_id: NDArray[np.int64]
    submission: Mapping[str, Any]
    machine: Mapping[str, str] = field(default_factory=machine)
    test_name: Sequence[str] | None = None
    boxes: Mapping[str, Boxes] = field(default_factory=dict)
    photos: RecordedPhotos | None = None
    dtype: Dtype = "float32"


def write_record(folder: Path, record: Record) -> None:
    """Write ``record/`` into an ensemble's folder; equal content gives equal bytes."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    _write_probe(place / "probe.parquet", record.probe)
    test, schema = [record.test_id], _TEST
    if record.test_name is not None:
        test, schema = [record.test_id, pa.array(record.test_name, pa.string())], _TEST.append(_NAME)
    pq.write_table(pa.table(test, schema), place / "test.parquet", compression="zstd")
    for name, predictions in record.predictions.items():
        said, file = predictions.probability, predictions_file(folder, name)
        write_predictions(file, predictions.image_id, said, dtype=record.dtype, unknown=True)
    for name, boxes in record.boxes.items():
        write_view(boxes_file(folder, name), {_SPLIT: boxes})
    if (photos := record.photos) is not None:
        _write_probe(place / PHOTOS_PROBE, photos.probe)
        shutil.copyfile(photos.regions, place / REGIONS)
        names = pa.table([photos.image_id, pa.array(photos.name, pa.string())], _TEST.append(_NAME))
        pq.write_table(names, place / PHOTOS, compression="zstd")
        storage.write_json(place / MASKS, dict(photos.submission))
    write_scored(place / "scored.npz", record.scored)
    shutil.copyfile(record.labels, place / "labels.parquet")
    for name, content in (
        ("evaluation", record.evaluation),
        ("submission", record.submission),
        ("machine", record.machine),
    ):
        storage.write_json(place / f"{name}.json", dict(content))


def _write_probe(path: Path, probe: ProbeImages) -> None:
    table = pa.table([probe.image_id, pa.array(probe.jpeg, pa.binary()), probe.batch], _PROBE)
    pq.write_table(table, path, compression="none")


def has_record(folder: Path) -> bool:
    """Whether a record was kept with the ensemble; those of labelstack's first days have none."""
    return (folder / FOLDER).is_dir()


def read_photos(folder: Path) -> RecordedPhotos:
    """The photos of a version with segmenters; raise ``UserError`` when a file is absent or something else."""
    place = folder / FOLDER
    names, submission = _read(place / PHOTOS, _TEST.append(_NAME)), storage.read_json(place / MASKS)
    if not isinstance(submission, dict) or not {"filename", "sha256", "side"} <= set(submission):
        raise UserError(f"{place / MASKS}: expected filename, sha256 and side")
    return RecordedPhotos(
        read_probe(folder, PHOTOS_PROBE),
        place / REGIONS,
        names["image_id"].to_numpy(),
        names["name"].to_pylist(),
        submission,
    )


def read_probe(folder: Path, file: str = "probe.parquet") -> ProbeImages:
    """The probe images; raise ``UserError`` when the file is absent or something else."""
    table = _read(folder / FOLDER / file, _PROBE)
    return ProbeImages(table["image_id"].to_numpy(), table["bytes"].to_pylist(), table["batch"].to_numpy())


def read_test_id(folder: Path) -> NDArray[np.int64]:
    """Every test image's id, int64 [m], in the order of the submission."""
    ids: NDArray[np.int64] = _read(folder / FOLDER / "test.parquet", _TEST)["image_id"].to_numpy()
    return ids


def read_test_name(folder: Path) -> list[str]:
    """Every test image's name in the order of the submission, of an ensemble whose submission has names."""
    names: list[str] = _read(folder / FOLDER / "test.parquet", _TEST.append(_NAME))["name"].to_pylist()
    return names


def read_submission(folder: Path) -> dict[str, Any]:
    """``filename``, ``sha256``, ``rows``, ``not_downloaded`` and ``header`` of the submission that the ensemble made.

    Versions from before headers were recorded have the only header that there was: id, predicted.
    """
    content = storage.read_json(folder / FOLDER / "submission.json")
    if not isinstance(content, dict) or not {"filename", "sha256", "rows", "not_downloaded"} <= set(content):
        raise UserError(f"{folder / FOLDER / 'submission.json'}: expected filename, sha256, rows and not_downloaded")
    header = content.get("header", _FIRST_HEADER)
    if not isinstance(header, list) or len(header) != 2 or not all(isinstance(name, str) for name in header):
        raise UserError(f"{folder / FOLDER / 'submission.json'}: expected two names as header")
    return {**content, "header": header}


def read_machine(folder: Path) -> dict[str, str]:
    """The machine that recorded; raise ``UserError`` when the file is absent or something else."""
    content = storage.read_json(folder / FOLDER / "machine.json")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{folder / FOLDER / 'machine.json'}: expected a text for each key")
    return content


def predictions_file(folder: Path, name: str) -> Path:
    """Test predictions of a base model, a stacker or ``blend`` of an ensemble; versions of before have .npz."""
    place = folder / FOLDER / "predictions"
    before = place / f"{name}.npz"
    return before if before.exists() else place / f"{name}.npy"


def boxes_file(folder: Path, name: str) -> Path:
    """Which part of each test image a second-round model saw, in an ensemble's folder."""
    return folder / FOLDER / "boxes" / f"{name}.parquet"


def read_boxes(folder: Path, name: str) -> Boxes | None:
    """What ``boxes_file`` holds; None where there is none, since the model saw whole images."""
    file = boxes_file(folder, name)
    return read_view(file, _SPLIT) if file.exists() else None


def write_checksums(folder: Path) -> str:
    """Write checksums.json, the SHA-256 of every other file; its own SHA-256, which stands for the whole folder."""
    storage.write_json(folder / CHECKSUMS, {name: storage.sha256(folder / name) for name in _files(folder)})
    return files_digest(folder)


def files_digest(folder: Path) -> str:
    """SHA-256 of checksums.json: the registry keeps it in the tag ``labelstack.files_digest``."""
    return storage.sha256(folder / CHECKSUMS)


@dataclass(frozen=True)
class Changes:
    """Files that are not as checksums.json says, by name, in order."""

    changed: list[str]
    missing: list[str]
    extra: list[str]


def changes(folder: Path) -> Changes:
    """Compare every file of a folder with checksums.json; raise ``UserError`` when that is not readable."""
    content = storage.read_json(folder / CHECKSUMS)
    if not isinstance(content, dict) or not all(isinstance(digest, str) for digest in content.values()):
        raise UserError(f"{folder / CHECKSUMS}: expected a SHA-256 for each file name")
    there = _files(folder)
    return Changes(
        changed=[name for name in there if name in content and storage.sha256(folder / name) != content[name]],
        missing=sorted(set(content) - set(there)),
        extra=[name for name in there if name not in content],
    )


def _files(folder: Path) -> list[str]:
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if name != CHECKSUMS)


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(schema.names).cast(schema)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a file with columns {', '.join(schema.names)} ({error})") from None
