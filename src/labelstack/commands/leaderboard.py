"""`labelstack leaderboard`: the table in the terminal, and where to look next."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from labelstack.params import load_params
from labelstack.report.terminal import leaderboard_table
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.stages.board import fixed_threshold, leaderboard_rows, scored_images
from labelstack.support import storage
from labelstack.support.errors import UserError


def run() -> None:
    """Print every model, stacker and the blend, best first."""
    params = load_params()
    if not paths.EVALUATION.exists():
        raise UserError(f"{paths.EVALUATION}: not found. Run `dvc repro` first.")
    evaluation = storage.read_json(paths.EVALUATION)
    rows, metric = leaderboard_rows(params, evaluation), metric_of(params.metric)
    console = Console()
    console.print(
        leaderboard_table(rows, metric, fixed_threshold=fixed_threshold(params), images=scored_images(evaluation))
    )
    for sentence in evaluation.get("caveats", []):
        console.print(sentence, style="dim", highlight=False)
    for what, where in (
        ("report", paths.REPORT / "index.html"),
        ("submission", Path(params.submission.directory) / params.submission.filename),
        ("MLflow runs", "make ui, then the second link that it prints"),
    ):
        console.print(f"{what:12}{where}", highlight=False, soft_wrap=True)
