"""Zip files whose bytes depend on their content only, so that DVC sees no change where there is none."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

# What reading a damaged zip may raise; a bit in a header can ask for a password or a method that there is not.
DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)


def write_archive(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Write files into one uncompressed zip without times or owners."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # ZipInfo's own date is 1980-01-01


def read_archive(path: str | Path) -> dict[str, bytes]:
    """Files of a zip by name; raise ``UserError`` when it is absent or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: damaged ({error})") from None


def make_canonical(path: str | Path) -> None:
    """Rewrite a ``.keras`` file without the moment of saving and without memory addresses as ids of shared objects."""
    with replacing(path) as temporary, zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
        for entry in old.infolist():
            dateless = zipfile.ZipInfo(entry.filename)
            if entry.filename == "metadata.json":
                new.writestr(dateless, json.dumps(json.loads(old.read(entry)) | {"date_saved": ""}))
            elif entry.filename == "config.json":
                new.writestr(dateless, json.dumps(_renumbered(json.loads(old.read(entry)), {})))
            else:
                dateless.file_size = entry.file_size  # known beforehand, so files over 2 GiB get the 64-bit form
                with old.open(entry) as content, new.open(dateless, "w") as copy:
                    shutil.copyfileobj(content, copy, 1 << 20)


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """The same configuration with shared objects numbered from 1; Keras uses their memory addresses."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(value, len(numbers) + 1) if key == "shared_object_id" else _renumbered(value, numbers)
        for key, value in config.items()
    }
