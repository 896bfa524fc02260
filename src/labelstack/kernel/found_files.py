"""The files of an ensemble, found below some folders by what is in them, whatever they are called there."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labelstack.kernel.contents import WeightFile
from labelstack.support.errors import InputProblems


def find_files(files: Mapping[str, WeightFile], folders: Sequence[Path]) -> dict[str, Path]:
    """Where each file lies; only files of a size that is looked for are read.

    Parameters
    ----------
    files : name → size and SHA-256
    folders : looked through with all folders in them, links to folders too

    Raises
    ------
    InputProblems
        That names every file that is not there, or is there under its name with other content.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name, file in files.items():
        wanted[file.sha256].append(name)
    sizes, found = {file.size for file in files.values()}, dict[str, Path]()
    for path in _files_below(folders):
        if not wanted:
            break
        if path.stat().st_size in sizes:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            found |= dict.fromkeys(wanted.pop(digest, ()), path)
    if wanted:
        shown = ", ".join(map(str, folders)) or "no folder"
        changed = _called_alike([name for names in wanted.values() for name in names], folders)
        raise InputProblems(
            f"weights, looked for below {shown}",
            [_missing(name, files[name], changed.get(name)) for name in files if name not in found],
        )
    return found


def _missing(name: str, file: WeightFile, other: Path | None) -> str:
    expected = f"{file.size:,} bytes, SHA-256 {file.sha256}"
    if other is None:
        return f"{name}: not found by its content ({expected})"
    return f"{name}: was changed or cut off: {other} is another file (expected {expected})"


def _called_alike(names: Sequence[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Files that lie where the kernel's weights do, for messages: the same name and folders above it."""
    there = [path for path in _files_below(folders) if path.name in {name.rpartition("/")[2] for name in names}]
    return {name: path for name in names for path in there if f"/{path.as_posix()}".endswith(f"/{name}")}


def _files_below(folders: Sequence[Path]) -> Iterator[Path]:
    """Regular files in the order of their names; a folder that two links lead to is looked through once."""
    seen: set[tuple[int, int]] = set()
    for top in folders:
        for place, inside, names in os.walk(top, followlinks=True):
            kept = []
            for folder in sorted(inside):
                status = os.stat(os.path.join(place, folder))
                if (key := (status.st_dev, status.st_ino)) not in seen:
                    seen.add(key)
                    kept.append(folder)
            inside[:] = kept
            yield from (path for name in sorted(names) if (path := Path(place, name)).is_file())
