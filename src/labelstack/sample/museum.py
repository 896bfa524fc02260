"""Generated museum objects in the form of iMet 2019, labelled by one annotator who leaves labels out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelstack.params.sample import SampleSection
from labelstack.sample.dataset import refuse_foreign
from labelstack.sample.exhibit import FORMS, GROUNDS, MATERIALS, encode_png, photograph_object
from labelstack.support.progress import bar
from labelstack.support.storage import replacing_dir

MOTIFS = ("flowers", "rosettes", "birds", "dots", "stripes", "lattice")
NAMES: tuple[str, ...] = (
    *(f"culture::{name}" for name in GROUNDS),
    *(f"tag::{name}" for name in (*FORMS, *MATERIALS, *MOTIFS)),
)
# Labels that look nearly alike, and are taken for each other.
NEAR: dict[str, str] = {
    f"{group}::{one}": f"{group}::{other}"
    for group, left, right in (
        ("culture", "greek", "hellenistic"),
        ("culture", "japanese", "edo"),
        ("tag", "vases", "vessels"),
        ("tag", "swords", "daggers"),
        ("tag", "silver", "pewter"),
        ("tag", "flowers", "rosettes"),
    )
    for one, other in ((left, right), (right, left))
}
_SPLITS = ("train", "test")
_OBJECT, _PHOTO, _NOTES = range(3)  # independent random streams of one object
_ODD = 40  # of so many ids one has digits alone, and one looks like a float
_RARE = 0.8  # the next form, culture, … of a list is so much rarer


class Exhibit(NamedTuple):
    """What is drawn."""

    culture: str
    form: str
    material: str
    motifs: tuple[str, ...]

    def labels(self) -> list[int]:
        """Ids of all labels that are true, ascending: 3 to 5."""
        tags = (self.form, self.material, *self.motifs)
        return sorted(NAMES.index(name) for name in (f"culture::{self.culture}", *(f"tag::{tag}" for tag in tags)))


def draw_museum(root: str | Path, params: SampleSection, seed: int) -> dict[str, Any]:
    """Draw the museum objects; equal params and seed give byte-identical files.

    Writes ``train.csv``, ``labels.csv``, ``sample_submission.csv``, ``train/<id>.png`` and ``test/<id>.png`` as the
    competition has them, and besides ``test_answers.csv`` and ``train_answers.csv``, the truth. train.csv holds what
    an annotator notes (``annotated``), in no order. An object depends on the seed, its split and its number only.

    Parameters
    ----------
    root : folder to write; what stands there is replaced when everything is drawn
    params : ``n_validation`` and ``label_noise`` are not used

    Returns
    -------
    dict
        n_train, n_test, n_labels, labels_per_image (of the truth), noted_per_image (in train.csv).

    Raises
    ------
    UserError
        When ``root`` holds files that are not a generated data set.
    """
    root = Path(root)
    refuse_foreign(root)
    sizes = {"train": params.n_train, "test": params.n_test}
    truth: dict[str, dict[str, list[int]]] = {split: {} for split in _SPLITS}
    noted: dict[str, list[int]] = {}
    with replacing_dir(root) as folder, bar(total=sum(sizes.values()), desc="sample", unit="image") as progress:
        for place, split in enumerate(_SPLITS):
            (folder / split).mkdir(parents=True)
            for number in range(sizes[split]):
                key = [seed, place, number]
                exhibit = exhibit_of(np.random.default_rng([*key, _OBJECT]))
                name = _id(seed, split, number)
                image = photograph_object(*exhibit, params.image_size, np.random.default_rng([*key, _PHOTO]))
                (folder / split / f"{name}.png").write_bytes(encode_png(image))
                truth[split][name] = exhibit.labels()
                if split == "train":
                    rng = np.random.default_rng([*key, _NOTES])
                    noted[name] = annotated(exhibit.labels(), params.missing_labels, params.mixed_up_labels, rng)
                progress.update()
        _write(folder / "labels.csv", ("attribute_id", "attribute_name"), enumerate(NAMES))
        _write_rows(folder / "train.csv", noted)
        _write_rows(folder / "sample_submission.csv", {name: [0, 1, 2] for name in truth["test"]})
        for split, rows in truth.items():
            _write_rows(folder / f"{split}_answers.csv", rows)
    given = truth["train"].values()
    return {
        **{f"n_{split}": n for split, n in sizes.items()},
        "n_labels": len(NAMES),
        "labels_per_image": round(sum(map(len, given)) / len(given), 4),
        "noted_per_image": round(sum(map(len, noted.values())) / len(noted), 4),
    }


def exhibit_of(rng: np.random.Generator) -> Exhibit:
    """An object at random; what stands further back in a list is rarer, and up to two motifs are on it."""
    culture, form, material = (_choose(rng, list(names)) for names in (GROUNDS, FORMS, MATERIALS))
    n_motifs = int(rng.integers(1, 3)) if form in ("vases", "vessels", "bowls", "textiles") else int(rng.integers(0, 2))
    motifs = [_choose(rng, list(MOTIFS)) for _ in range(n_motifs)]
    return Exhibit(culture, form, material, tuple(dict.fromkeys(motifs)))


def annotated(labels: Sequence[int], missing: float, mixed_up: float, rng: np.random.Generator) -> list[int]:
    """What one annotator notes: label ids in no order, at least one.

    Parameters
    ----------
    labels : the true ones
    missing : chance that a label is left out
    mixed_up : chance that the near-synonym of a label is noted in its place, where it has one
    """
    noted = []
    for label in labels:
        near = NEAR.get(NAMES[label])
        taken, left_out = rng.random() < mixed_up, rng.random() < missing
        if not left_out:
            noted.append(NAMES.index(near) if near is not None and taken else label)
    noted = list(dict.fromkeys(noted)) or [int(rng.choice(list(labels)))]
    return [int(label) for label in rng.permutation(noted)]


def _choose(rng: np.random.Generator, names: list[str]) -> str:
    weights = _RARE ** np.arange(len(names))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _id(seed: int, split: str, number: int) -> str:
    """Hex digits as real ids are, without leading zeros; now and then one that reads as a number."""
    digits = hashlib.sha256(f"{seed} {split} {number}".encode()).hexdigest()
    whole = int(digits, 16)
    if number % _ODD == 0:
        return str(10**15 + whole % (9 * 10**15))
    if number % _ODD == 1:
        return f"{10**12 + whole % (9 * 10**12)}e{whole % 90 + 10}"
    return digits[:16].lstrip("0") or "1"


def _write_rows(path: Path, rows: dict[str, list[int]]) -> None:
    _write(path, ("id", "attribute_ids"), ((name, " ".join(map(str, rows[name]))) for name in sorted(rows)))


def _write(path: Path, header: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
