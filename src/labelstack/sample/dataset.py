"""The generated data set as files: the flagship's JSON, the photos and the truth about the test images."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from labelstack.params.sample import SampleSection
from labelstack.sample.labels import NAMES, annotate, sample_outfit
from labelstack.sample.scene import encode_jpeg, photograph
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import replacing_dir

SPLITS = ("train", "validation", "test")
LABEL_ID = {name: number for number, name in enumerate(NAMES, start=1)}
_OUTFIT, _PHOTO, _NOISE = range(3)  # independent random streams of one image
_CHUNK = 64


class _Chunk(NamedTuple):
    """Images ``first``…``last`` − 1 of a split, to be drawn into ``folder``."""

    folder: Path
    split: int
    first: int
    last: int
    size: int
    seed: int


def draw_dataset(root: str | Path, params: SampleSection, seed: int, workers: int | None = None) -> dict[str, Any]:
    """Draw the garment data set; equal params and seed give byte-identical files.

    Writes ``train.json`` and ``validation.json`` (with label noise of rate ``params.label_noise``, as annotators
    err), ``test.json`` (images only), ``labels.csv``, ``images/<split>/<id>.jpg`` and ``test_answers.json``: the true
    labels of the test images, without noise. An image depends on the seed, its split and its number only: sizes of
    splits and the noise rate leave the other images as they are.

    Parameters
    ----------
    root : folder to write; what stands there is replaced when everything is drawn
    workers : processes; ``None`` takes one per core, 0 draws in this process. The files do not depend on it.

    Returns
    -------
    dict
        n_train, n_validation, n_test, n_labels, labels_per_image of each split, rarest_label, rarest_label_share
        (of the train images), label_noise.

    Raises
    ------
    UserError
        When ``root`` holds files that are not a generated data set.
    """
    root = Path(root)
    refuse_foreign(root)
    sizes = {"train": params.n_train, "validation": params.n_validation, "test": params.n_test}
    noise = {"train": params.label_noise, "validation": params.label_noise, "test": 0.0}
    with replacing_dir(root) as folder:
        for split in SPLITS:
            (folder / "images" / split).mkdir(parents=True)
        chunks = [
            _Chunk(folder, place, first, min(first + _CHUNK, sizes[split]), params.image_size, seed)
            for place, split in enumerate(SPLITS)
            for first in range(0, sizes[split], _CHUNK)
        ]
        labels: dict[str, list[list[int]]] = {split: [] for split in SPLITS}
        with bar(total=sum(sizes.values()), desc="sample", unit="image") as progress:
            for chunk, truths in zip(chunks, _drawn(chunks, workers), strict=True):
                split = SPLITS[chunk.split]
                for number, truth in enumerate(truths, start=chunk.first):
                    rng = np.random.default_rng([seed, chunk.split, number, _NOISE])
                    names = annotate(truth, noise[split], rng)
                    labels[split].append([LABEL_ID[name] for name in names])
                progress.update(len(truths))
        _write_files(folder, labels)
    return _summary(labels, params)


def refuse_foreign(root: Path) -> None:
    """Never delete what somebody else put there: raise ``UserError`` unless all is of a generated data set."""
    ours = {"README", "images", "labels.csv", "test_answers.json", *(f"{split}.json" for split in SPLITS)}
    ours |= {"train", "test", "train.csv", "sample_submission.csv", "train_answers.csv", "test_answers.csv"}
    ours.add("label_descriptions.json")
    foreign = sorted(path.name for path in root.iterdir() if path.name not in ours) if root.is_dir() else []
    if foreign or root.is_file():
        raise UserError(
            f"{root}: will not be replaced by the generated data set, because it holds other files "
            f"({', '.join(foreign[:5]) or 'it is a file'}); choose an empty dataset.root"
        )


def _drawn(chunks: list[_Chunk], workers: int | None) -> Iterator[list[list[str]]]:
    """Results of all chunks in order."""
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 2 or len(chunks) < 4:
        yield from map(_draw_chunk, chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_draw_chunk, chunks)


def _draw_chunk(chunk: _Chunk) -> list[list[str]]:
    """Draw images of a chunk; return their true label names."""
    truths = []
    for number in range(chunk.first, chunk.last):
        key = [chunk.seed, chunk.split, number]
        outfit = sample_outfit(np.random.default_rng([*key, _OUTFIT]))
        image = photograph(outfit, chunk.size, np.random.default_rng([*key, _PHOTO]))
        path = chunk.folder / "images" / SPLITS[chunk.split] / f"{number + 1}.jpg"
        path.write_bytes(encode_jpeg(image))
        truths.append(outfit.names())
    return truths


def _write_files(folder: Path, labels: dict[str, list[list[int]]]) -> None:
    for split, rows in labels.items():
        images = [{"image_id": i, "url": [f"file:images/{split}/{i}.jpg"]} for i in range(1, len(rows) + 1)]
        annotations = [{"image_id": i, "label_id": row} for i, row in enumerate(rows, start=1)]
        if split == "test":
            _write_json(folder / "test.json", {"images": images})
            _write_json(folder / "test_answers.json", {"annotations": annotations})
        else:
            _write_json(folder / f"{split}.json", {"images": images, "annotations": annotations})
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label_id", "name"])
        writer.writerows((number, name) for name, number in LABEL_ID.items())


def _write_json(path: Path, content: dict[str, list[dict[str, Any]]]) -> None:
    """JSON with one record per line."""
    lists = (
        f'  "{key}": [\n' + ",\n".join(f"    {json.dumps(record)}" for record in records) + "\n  ]"
        for key, records in content.items()
    )
    path.write_text("{\n" + ",\n".join(lists) + "\n}\n", encoding="utf-8", newline="\n")


def _summary(labels: dict[str, list[list[int]]], params: SampleSection) -> dict[str, Any]:
    seen = Counter(chain.from_iterable(labels["train"]))
    rarest = min(LABEL_ID.values(), key=lambda label: (seen[label], label))
    return {
        **{f"n_{split}": len(rows) for split, rows in labels.items()},
        "n_labels": len(LABEL_ID),
        "labels_per_image": {split: round(sum(map(len, rows)) / len(rows), 4) for split, rows in labels.items()},
        "rarest_label": NAMES[rarest - 1],
        "rarest_label_share": round(seen[rarest] / len(labels["train"]), 4),
        "label_noise": params.label_noise,
    }
