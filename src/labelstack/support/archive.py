"""Zip files whose bytes depend on their content only, so that DVC sees no change where there is none."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing


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
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def make_canonical(path: Path) -> None:
    """Rewrite a ``.keras`` file without the moment of saving and without memory addresses as ids of shared objects."""
    files = read_archive(path)
    metadata, config = (json.loads(files[name]) for name in ("metadata.json", "config.json"))
    metadata["date_saved"] = ""
    _renumber(config, {})
    write_archive(
        path, files | {"metadata.json": json.dumps(metadata).encode(), "config.json": json.dumps(config).encode()}
    )


def _renumber(node: Any, numbers: dict[int, int]) -> None:
    """Replace ids of shared objects by 1, 2, … in their order, in place."""
    if isinstance(node, dict):
        if "shared_object_id" in node:
            node["shared_object_id"] = numbers.setdefault(node["shared_object_id"], len(numbers) + 1)
        for child in node.values():
            _renumber(child, numbers)
    elif isinstance(node, list):
        for child in node:
            _renumber(child, numbers)
