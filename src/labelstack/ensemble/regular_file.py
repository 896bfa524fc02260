"""Local image files, read so that no path can block the reader: no pipes, devices or files of the kernel's."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from labelstack.support.errors import UserError

_KERNELS = (Path("/proc"), Path("/sys"), Path("/dev"))
_SHARED_MEMORY = _KERNELS[2] / "shm"
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def read_regular(path: str | Path, most: int, folders: Sequence[Path] | None = None) -> bytes | None:
    """The first ``most`` bytes of a regular file that holds something; None for everything else.

    Links are resolved first. A file of /proc or /sys, wherever they are mounted, or of /dev is none, nor is a pipe, a
    socket or a device: nothing of the sort is opened.

    Parameters
    ----------
    folders : sequence of Path, optional
        Resolved folders below which the file has to lie; None: anywhere.

    Raises
    ------
    PermissionError
        When the file may not be read.
    """
    try:
        place = Path(os.path.realpath(path))
        if folders is not None and not any(place.is_relative_to(folder) for folder in folders):
            return None
        found = place.lstat()
        if not _is_plain(found) or _of_the_kernel(place, found.st_dev):
            return None
        descriptor = os.open(place, _FLAGS | _NO_LINK)
    except PermissionError:
        raise
    except (OSError, ValueError):  # no name that a file can have, or none there
        return None
    with os.fdopen(descriptor, "rb") as file:
        opened = os.fstat(descriptor)
        if not _is_plain(opened) or (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
            return None
        return file.read(most)


def opened_folders(text: str) -> list[Path] | None:
    """Folders that ``LABELSTACK_ALLOW_PATHS`` names, separated as in PATH; none for ``0``, ``false``, ``no``.

    Returns
    -------
    list of resolved Path, or None where nothing is said
    """
    text = text.strip()
    if not text:
        return None
    if text.lower() in {"0", "false", "no"}:
        return []
    folders = [Path(os.path.realpath(part)) for part in text.split(os.pathsep) if part.strip()]
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(
            f"LABELSTACK_ALLOW_PATHS: no such folder: {', '.join(absent)}; name folders of images, with "
            f"`{os.pathsep}` between them, or 0 for none"
        )
    return folders


def _is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _of_the_kernel(place: Path, device: int) -> bool:
    named = any(place.is_relative_to(folder) for folder in _KERNELS) and not place.is_relative_to(_SHARED_MEMORY)
    return named or device in {_device(folder) for folder in _KERNELS[:2]}


def _device(folder: Path) -> int | None:
    """The file system that is mounted there; None where none is: in a bare container it is that of all files."""
    try:
        return folder.stat().st_dev if folder.is_mount() else None
    except OSError:
        return None
