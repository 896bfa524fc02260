"""Stage `photo_folds@{regions}`: which segmenters learn from which photos."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done, known
from labelstack.stages.work.assign_photos import compute


def run(name: str) -> None:
    """Write data/photo_folds.parquet."""
    params = load_params()
    known(name, params.regions, "section of regions")
    sizes = compute(params)
    done(
        "photo_folds", f"{sizes.sum()} photos in {len(sizes)} folds of {sizes.min()} … {sizes.max()}", paths.PHOTO_FOLDS
    )
