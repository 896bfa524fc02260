"""A submission in a zip archive, where its file's name ends so."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelstack.support.storage import replacing

ENDING = ".zip"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that the form knows: the bytes must not depend on the day
_UNIX = 3


@contextmanager
def zipped_by_name(path: Path) -> Iterator[Path]:
    """Yield the path to write: ``path`` itself, or a file that becomes the only one in the archive ``path``.

    That file is called as the archive, ending in ``.csv``, and stored as it is: packing differs between versions of
    zlib, and equal submissions are to have equal bytes.
    """
    if path.suffix.lower() != ENDING:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"{path.stem}.csv"
        yield plain
        entry = zipfile.ZipInfo(plain.name, _DATE)
        entry.create_system, entry.external_attr = _UNIX, 0o644 << 16
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(entry, plain.read_bytes())
