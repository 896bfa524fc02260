"""Generated garments in the form of FashionAI 2018: a photo for one attribute, with a value that may be another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labelstack.params.sample import SampleSection
from labelstack.sample.attribute_cuts import cut_of, letters
from labelstack.sample.dataset import refuse_foreign
from labelstack.sample.labels import sample_outfit
from labelstack.sample.scene import encode_jpeg, photograph
from labelstack.support.fashionai_values import NAMES, VALUES
from labelstack.support.progress import bar
from labelstack.support.storage import replacing_dir

_SPLITS = ("train", "test")
_CUT, _PHOTO, _NOTES = range(3)  # independent random streams of one photo


def draw_attributes(root: str | Path, params: SampleSection, seed: int) -> dict[str, Any]:
    """Draw photos of all eight attributes in turn; equal params and seed give byte-identical files.

    Writes ``train/Annotations/label.csv``, ``test/Tests/question.csv`` and the images below ``train/Images`` and
    ``test/Images`` as the competition has them, and besides ``test_answers.csv`` and ``train_answers.csv``, the truth,
    with the 0 at the end that published answers have. In label.csv another value is called true with the chance
    ``params.label_noise``. A photo depends on the seed, its split and its number only.

    Parameters
    ----------
    root : folder to write; what stands there is replaced when everything is drawn
    params : ``n_validation``, ``missing_labels`` and ``mixed_up_labels`` are not used

    Returns
    -------
    dict
        n_train, n_test, n_labels, maybe_share (of the train photos).

    Raises
    ------
    UserError
        When ``root`` holds files that are not a generated data set.
    """
    root = Path(root)
    refuse_foreign(root)
    sizes = {"train": params.n_train, "test": params.n_test}
    truth: dict[str, dict[str, str]] = {split: {} for split in _SPLITS}
    noted: dict[str, str] = {}
    keys = list(VALUES)
    with replacing_dir(root) as folder, bar(total=sum(sizes.values()), desc="sample", unit="image") as progress:
        for place, split in enumerate(_SPLITS):
            for key in keys:
                (folder / split / "Images" / key).mkdir(parents=True)
            for number in range(sizes[split]):
                streams = [seed, place, number]
                rng = np.random.default_rng([*streams, _CUT])
                cut = cut_of(keys[number % len(keys)], rng)
                outfit = sample_outfit(rng)
                image = photograph(outfit, params.image_size, np.random.default_rng([*streams, _PHOTO]), cut.dress)
                name = hashlib.md5(f"{seed} {split} {number}".encode(), usedforsecurity=False).hexdigest()
                line = f"Images/{cut.key}/{name}.jpg,{cut.key}"
                (folder / split / line.partition(",")[0]).write_bytes(encode_jpeg(image))
                truth[split][line] = letters(cut.key, cut.true, cut.maybe)
                if split == "train":
                    note = np.random.default_rng([*streams, _NOTES])
                    noted[line] = _noted(cut.key, cut.true, cut.maybe, params.label_noise, note)
                progress.update()
        _write(folder / "train/Annotations/label.csv", noted)
        _write(folder / "test/Tests/question.csv", dict.fromkeys(truth["test"], ""))
        for split, lines in truth.items():
            _write(folder / f"{split}_answers.csv", {line: f"{cell},0" for line, cell in lines.items()})
    return {
        **{f"n_{split}": n for split, n in sizes.items()},
        "n_labels": len(NAMES),
        "maybe_share": round(sum("m" in cell for cell in truth["train"].values()) / sizes["train"], 4),
    }


def _noted(key: str, true: int, maybe: tuple[int, ...], noise: float, rng: np.random.Generator) -> str:
    """What an annotator writes; with the chance ``noise`` another value is called true, and none may be then."""
    count = len(VALUES[key])
    wrong, by = rng.random() < noise, int(rng.integers(1, count))
    return letters(key, (true + by) % count, ()) if wrong else letters(key, true, maybe)


def _write(path: Path, lines: Mapping[str, str]) -> None:
    """``path,key,cell`` by attribute, and within it by the digits of the image's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line},{lines[line]}\n" for line in sorted(lines))
    path.write_text(text, encoding="utf-8", newline="\n")
