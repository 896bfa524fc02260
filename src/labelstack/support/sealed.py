"""Folders of unfinished work that say what they hold, so that bytes which changed since are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, sha256, write_json

SEAL = "key.json"


def seal(folder: Path, key: str = "") -> None:
    """Write key.json into a folder: SHA-256 of every other file, and what the whole was made from."""
    write_json(folder / SEAL, {"key": key, "files": _digests(folder)})


def is_sealed(folder: Path, key: str = "") -> bool:
    """Whether a folder was sealed with this key and every file of it is as it was then; false where there is none."""
    if not (folder / SEAL).is_file():
        return False
    try:
        content: Any = read_json(folder / SEAL)
        return bool(content == {"key": key, "files": _digests(folder)})
    except (UserError, OSError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return {name: sha256(folder / name) for name in sorted(names) if name != SEAL}
