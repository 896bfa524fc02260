"""The files of a data set in the flagship's form: their names, and what may be meant where one is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

REQUIRED = ("train.json", "validation.json", "test.json")
LABEL_TABLE = "labels.csv"
SAMPLE_SUBMISSION = "sample_submission.csv"
# What the words of a similar name begin with (any of them), how it goes on, and the words that make it another file.
_LIKE = {
    "train.json": (("train",), "json", ()),
    "validation.json": (("val",), "json", ()),
    "test.json": (("test",), "json", ("answer",)),
    LABEL_TABLE: (("label",), "csv", ()),
    SAMPLE_SUBMISSION: (("submission",), "csv", ()),
}
OPTIONAL = {
    LABEL_TABLE: "optional, names and groups of the labels; the published label map is read under this name",
    SAMPLE_SUBMISSION: "optional, the submission's header and order; without it id,predicted in the order of test.json",
}
_PACKED = (".zip", ".gz", ".7z", ".tar", ".tgz", ".bz2", ".xz")


def missing_files(root: str | Path, required: Sequence[str] = REQUIRED) -> list[str]:
    """A sentence for each file of a data set that is not in its folder; nothing is read.

    Parameters
    ----------
    root : folder of train.json, validation.json, test.json and, optionally, labels.csv and sample_submission.csv
    required : those of them that must be there
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder yet"
        return [f"{root}: {what}; it is to hold {', '.join(required)}"]
    missing = [name for name in (*required, *OPTIONAL) if not (root / name).exists()]
    told = {name: f" ({OPTIONAL[name]})" if name in OPTIONAL else "" for name in missing}
    return [f"{root / name}: missing{told[name]}{hint(root / name)}" for name in missing]


def hint(path: Path) -> str:
    """What lies beside a missing file and may be it, as the rest of a sentence; empty when nothing does."""
    if path.name not in _LIKE or not path.parent.is_dir():
        return ""
    there = sorted(entry for entry in path.parent.iterdir() if entry.name not in _LIKE)
    for entry in there:
        if _similar(entry.name, path.name) and entry.is_file():
            return f"; {entry.name} may be it: {_advice(entry.name, path.name)}"
    for folder in there:
        for name in (path.name, f"{path.name}.zip"):
            if folder.is_dir() and (folder / name).is_file():
                unpacked = " and unpack it" if name != path.name else ""
                return f"; there is one in {folder.name}/: move it up{unpacked}"
    return ""


def _similar(name: str, wanted: str) -> bool:
    beginnings, kind, others = _LIKE[wanted]
    words = re.findall("[a-z]+", name.casefold())
    return kind in words and _begins(words, beginnings) and not _begins(words, others)


def _begins(words: list[str], beginnings: tuple[str, ...]) -> bool:
    return any(word.startswith(beginning) for word in words for beginning in beginnings)


def _advice(name: str, wanted: str) -> str:
    if name.casefold().endswith(_PACKED):
        return "unpack it" if name.casefold().startswith(wanted) else f"unpack it as {wanted}"
    return f"rename it to {wanted}"
