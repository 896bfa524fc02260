"""What a folder of images and a table of labels look like: columns, separator, one label or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from labelstack.formats.json_file import found
from labelstack.formats.table_file import Cells, read_columns, read_header
from labelstack.formats.table_images import Files, is_url
from labelstack.formats.table_splits import SPLIT_WORDS
from labelstack.params.dataset import TableSection

_SAMPLE = 2000  # rows that columns are recognised by
_ENOUGH = 0.5  # share of the cells of a column of images that must be files or URLs
_LABELS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "target", "attributes")
_SPLIT = ("split", "subset", "set", "partition", "phase", "usage")
_GROUP = ("group", "group_id", "patient", "patient_id", "person", "person_id", "subject", "subject_id", "product_id")
_FEWEST_GROUPS = 20  # enough for test, validation and folds of whole ones
_SIGNS = (";", "|", ",", " ")


@dataclass
class TableLook:
    """What was recognised of a table.

    Attributes
    ----------
    table : keys of ``dataset.table`` that are not the defaults
    group_by : ``folds.group_by``, a column or None
    task : ``dataset.task``
    told : what was found, in words
    """

    table: dict[str, Any]
    task: str
    told: list[str] = field(default_factory=list)
    group_by: str | None = None


def look(root: Path, labels: str, images: str | None, problems: list[str]) -> TableLook | None:
    """Recognise a table; ``None`` after adding problems.

    Parameters
    ----------
    root : the folder that holds both
    labels : the table below it
    images : the images' folder below it; None: itself
    """
    header = read_header(root / labels, labels, problems)
    if header is None:
        return None
    if twice := sorted({name for name in header if header.count(name) > 1 and name}):
        problems.append(f"{labels}: expected each column once, found {', '.join(map(found, twice))} more than once")
        return None
    columns = _columns(root / labels, labels, [name for name in header if name], problems)
    if columns is None:
        return None
    table: dict[str, Any] = {} if labels == "labels.csv" else {"file": labels}
    image = _image_column(root, images, columns, table)
    if image is None:
        first = next((cells[0] for cells in columns.values() if cells), "")
        problems.append(
            f"{labels}: expected a column of images, paths of files in {images or root} or URLs, found none among "
            f"{', '.join(map(found, columns))} (the first row begins {found(first)})"
        )
    split = _named(columns, _SPLIT, _says_splits)
    group = _named(columns, _GROUP, lambda cells: _FEWEST_GROUPS <= len(set(cells)) < len(cells))
    label = _label_column(columns, {image, split, group})
    if label is None:
        problems.append(
            f"{labels}: expected a column of labels called {' or '.join(_LABELS[:2])}, or no other one beside the "
            f"images, found {', '.join(map(found, columns))}: rename one, or write dataset.table by hand "
            "(docs/params.md)"
        )
    if image is None or label is None:
        return None
    named = {"image": image, "labels": label, "split": split}
    defaults = TableSection().model_dump()
    table |= {key: name for key, name in named.items() if name != defaults[key]}
    separator = _separator(columns[label])
    of_train = _of_train(columns[label], columns.get(split or "", []))
    counts = [len(_parts(cell, separator)) for cell in of_train]
    single = bool(counts) and set(counts) == {1}
    if separator != ";":
        table["separator"] = separator
    task = "single_label" if single else "multi_label"
    return TableLook(table, task, _told(image, label, split, group, separator), group)


def _told(image: str, label: str, split: str | None, group: str | None, separator: str | None) -> list[str]:
    between = {None: "one in a cell", "json": "lists in JSON"}.get(separator, f"with {found(separator)} between two")
    told = [f"images in the column {found(image)}, labels in {found(label)}, {between}"]
    told += [f"splits in the column {found(split)}"] if split else []
    return told + ([f"what belongs together in {found(group)}: stays on one side"] if group else [])


def _columns(path: Path, file: str, header: Sequence[str], problems: list[str]) -> dict[str, Cells] | None:
    """Cells of every column that can hold texts or lists of them, of the first rows."""
    read: dict[str, Cells] = {}
    before = len(problems)
    for name in header:
        of_this: list[str] = []
        columns = read_columns(path, file, {"labels": name}, {}, of_this)
        if columns is not None:
            read[name] = columns.cells["labels"]
        elif "found the type" not in of_this[0]:  # numbers and dates are nothing to us
            problems += [problem for problem in of_this if problem not in problems]
    if len(problems) == before and not any(read.values()):
        problems.append(f"{file}: expected at least one row, found none")
    return read if len(problems) == before else None


def _image_column(root: Path, images: str | None, columns: Mapping[str, Cells], table: dict[str, Any]) -> str | None:
    """The column whose cells are files most often, and how paths start and end, noted in ``table``."""
    best: tuple[float, str, str | None, str] = (0, "", None, "")
    for base in dict.fromkeys([images, None]):
        files = Files(root, base or "")
        endings = _endings(files.there)
        for name, cells in columns.items():
            texts = [cell.strip().replace("\\", "/") for cell in cells[:_SAMPLE] if isinstance(cell, str)]
            for suffix in ("", *endings):
                paths = (f"{text}{suffix}".removeprefix("./") for text in texts if not is_url(text))
                hits = sum(path in files.there for path in paths) + (not suffix) * sum(map(is_url, texts))
                share = hits / max(1, len(texts))
                if share > best[0]:
                    best = (share, name, base if not all(map(is_url, texts)) else None, suffix)
    share, name, base, suffix = best
    if share < _ENOUGH:
        return None
    table |= {"images": base} if base else {}
    table |= {"suffix": suffix} if suffix else {}
    return name


def _endings(paths: set[str]) -> list[str]:
    """The endings of most files."""
    counts: dict[str, int] = {}
    for path in paths:
        suffix = PurePosixPath(path).suffix
        counts[suffix] = counts.get(suffix, 0) + 1
    return [suffix for suffix in sorted(counts, key=lambda suffix: -counts[suffix]) if suffix][:3]


def _named(columns: Mapping[str, Cells], names: Sequence[str], fits: Any) -> str | None:
    """The first column that is called by one of the names, in any case, and holds what such a column does."""
    called = {name.lower(): name for name in columns}
    return next((called[name] for name in names if name in called and fits(columns[called[name]])), None)


def _says_splits(cells: Cells) -> bool:
    words = {str(cell).strip().lower() for cell in cells}
    return "train" in {SPLIT_WORDS.get(word) for word in words} and words <= SPLIT_WORDS.keys()


def _label_column(columns: Mapping[str, Cells], taken: set[str | None]) -> str | None:
    left = {name: cells for name, cells in columns.items() if name not in taken}
    return _named(left, _LABELS, bool) or (next(iter(left)) if len(left) == 1 else None)


def _of_train(cells: Cells, splits: Cells) -> Cells:
    """The cells of rows that are not test."""
    if not splits:
        return cells
    words = (SPLIT_WORDS[str(word).strip().lower()] for word in splits)
    return [cell for cell, word in zip(cells, words, strict=True) if word != "test"]


def _separator(cells: Cells) -> str | None:
    """What is between two labels of a cell; None where every cell is one, ``json`` for lists."""
    if any(isinstance(cell, list) for cell in cells):
        return "json" if any(";" in label for cell in cells for label in cell) else ";"
    different = {cell.strip() for cell in cells if cell.strip()}
    if different and all(cell.startswith("[") and cell.endswith("]") for cell in different):
        return "json"
    for sign in _SIGNS:
        holding = [cell for cell in different if sign in cell]
        parts = {part for cell in different for part in _parts(cell, sign)}
        # ; and | stand in few names; a comma or a space does, so its parts must come again and again.
        if holding and (sign in ";|" or len(parts) * 2 <= len(different) or _all_known(holding, sign, different)):
            return sign
    return None


def _all_known(holding: Sequence[str], sign: str, different: set[str]) -> bool:
    """Whether most parts of the cells with the sign stand alone in cells too."""
    parts = {part for cell in holding for part in _parts(cell, sign)}
    return sign == "," and 2 * len(parts & different) >= len(parts)


def _parts(cell: Any, separator: str | None) -> list[str]:
    if isinstance(cell, list):
        return list(dict.fromkeys(filter(None, cell)))
    if separator == "json":
        return ["", ""] if cell.count('"') > 2 else [""] if '"' in cell else []
    parts = [cell.strip()] if separator is None else [part.strip() for part in cell.split(separator)]
    return list(dict.fromkeys(filter(None, parts)))
