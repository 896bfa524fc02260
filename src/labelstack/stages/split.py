"""Stage `split`: which rows every network learns from and predicts, and the folds of the second level."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.stages.work.assign_rows import compute


def run() -> None:
    """Write data/folds."""
    assigned = compute(load_params())
    sizes = f"{assigned.folds.min()} … {assigned.folds.max()}"
    together = "" if assigned.sources is None else f", {assigned.sources} sources kept together"
    aside = f", {assigned.audit} rows set aside for the audit" if assigned.audit else ""
    rare = f", {assigned.rare} rows with rare labels alone in none" if assigned.rare else ""
    folds = f"{len(assigned.folds)} folds of {sizes}"
    done("split", f"{assigned.stacking} rows in {folds}{rare}{together}{aside}", paths.FOLDS)
