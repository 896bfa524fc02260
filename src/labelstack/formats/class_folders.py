"""A folder per class: images below ``<class>/``, or below ``train/<class>/``, ``validation/<class>/`` and ``test/``."""

from __future__ import annotations

from collections import defaultdict

from labelstack.formats.problems import FileProblems
from labelstack.formats.table_file import Columns
from labelstack.formats.table_images import Files
from labelstack.formats.table_splits import SPLIT_WORDS

_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif",
            ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".pbm")  # fmt: skip


def read_folders(files: Files, problems: list[str]) -> Columns:
    """The images below a folder, in the order of their paths, with the class as label and, as folders say, the split.

    Cells ``image`` (paths below the folder), ``labels`` (lists of one name or none) and, where the top folders are
    splits, ``split``. Hidden files and those that do not end like an image are left out.
    """
    told = FileProblems(files.prefix.rstrip("/") or "dataset.root")
    paths = sorted(path for path in files.there if _is_image(path))
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    splits = {top: SPLIT_WORDS[top.lower()] for top in tops if top.lower() in SPLIT_WORDS}
    columns = Columns(told.file, "file", list(range(len(paths))), {"image": list(paths)})
    if "train" not in splits.values():
        if splits:
            names = ", ".join(f"{name}/" for name in sorted(splits))
            told.add("", names, "", "train/ beside it, or a class that is not called like a split", "no train/")
        columns.cells["labels"] = [_class(path, told) for path in paths]
    else:
        if classes := sorted(tops - splits.keys()):
            what = ", ".join(f"{name}/" for name in classes[:5]) + (", …" if len(classes) > 5 else "")
            told.add("", ", ".join(f"{name}/" for name in sorted(splits)), "", "nothing but splits beside it", what)
        columns.cells |= _by_split(paths, splits, told)
    if not paths:
        told.add("", "the folder", "", "images in a folder for each class", f"none among {len(files.there):,} files")
    _readable(paths, told)
    problems += told.sentences()
    return columns


def _is_image(path: str) -> bool:
    return path.lower().endswith(_ENDINGS) and not path.startswith(".") and "/." not in path


def _class(path: str, told: FileProblems) -> list[str]:
    folder, slash, _ = path.partition("/")
    if not slash:
        told.add("", path, "", "images in a folder for each class", "an image in none")
        return []
    return [folder.strip()]


def _by_split(paths: list[str], splits: dict[str, str], told: FileProblems) -> dict[str, list[object]]:
    labels: list[list[str]] = []
    of_split: list[str] = []
    unknown: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        top, _, below = path.partition("/")
        split = splits.get(top, "train")
        of_split.append(split)
        if split == "test" and "/" not in below:
            labels.append([])
        else:
            labels.append(_class(below, told) if below else [])
    known = {name for row, split in zip(labels, of_split, strict=True) if split != "test" for name in row}
    for row, split, path in zip(labels, of_split, paths, strict=True):
        if split == "test" and row and row[0] not in known:
            unknown[row[0]].append(path)
    in_test = {name for row, split in zip(labels, of_split, strict=True) if split == "test" for name in row}
    if unknown and in_test & known:
        for name, there in unknown.items():
            told.add("", there[0], "", "a class that train/ has too", f"{name}/ ({len(there):,} images)")
    elif unknown:  # folders of test images, and no classes
        labels = [[] if split == "test" else row for row, split in zip(labels, of_split, strict=True)]
    return {"labels": list(labels), "split": list(of_split)}


def _readable(paths: list[str], told: FileProblems) -> None:
    for path in paths:
        if not path.isascii():
            try:
                path.encode()
            except UnicodeEncodeError:
                shown = path.encode(errors="backslashreplace").decode()
                told.add("", shown, "", "a name in UTF-8", "other bytes: rename it")
