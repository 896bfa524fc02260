"""Shards whose bytes are no longer those that were written, found before anything is made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from labelstack.images.shards.shard_files import is_damaged, shard_paths
from labelstack.params.images import Verify
from labelstack.support.errors import UserError

_SAMPLED, _AT_LEAST = 16, 16  # one shard in so many, and how many at least
_SHOWN = 5


def check_shards(folder: Path, verify: Verify, salt: str) -> None:
    """Compare shards of a split with the digests that they carry.

    Parameters
    ----------
    verify : ``none`` of them, a ``sample`` (one in 16, and at least 16) or ``all``
    salt : another one looks at other shards, so that several stages together look at most

    Raises
    ------
    UserError
        That names the damaged ones.
    """
    found = [path for path in _chosen(shard_paths(folder), verify, salt) if is_damaged(path)]
    if found:
        named = ", ".join(path.name for path in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UserError(
            f"{folder}: {named}: damaged, not what was stored. `labelstack stage download {Path(folder).name}` fetches "
            f"the images again; `dvc checkout --force {folder}` puts back what DVC keeps"
        )


def _chosen(paths: list[Path], verify: Verify, salt: str) -> list[Path]:
    if verify == "all":
        return paths
    if verify == "none":
        return []
    order = sorted(paths, key=lambda path: hashlib.sha256(f"{salt} {path.name}".encode()).digest())
    return order[: max(_AT_LEAST, -(-len(paths) // _SAMPLED))]
