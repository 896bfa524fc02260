"""What a file of weights holds: two files of one name are not one beginning."""

from __future__ import annotations

from pathlib import Path

from labelstack.support import storage
from labelstack.support.hub import hub_file


def weights_sha256(weights: str, *, fetch: bool) -> str | None:
    """SHA-256, hex, of the ``.safetensors`` that a network begins with; None where it begins with none.

    Parameters
    ----------
    fetch : whether a file of the Hub is fetched for that; if not it has no digest, and neither has a file that is not
        there
    """
    hosted = hub_file(weights)
    if hosted is not None:
        return storage.sha256(hosted.path()) if fetch else None
    path = Path(weights)
    return storage.sha256(path) if path.suffix == ".safetensors" and path.is_file() else None
