"""Seconds of an epoch, images read, augmented and learned from: a git revision against now, in turns.

Each side trains models of the embedded default in a workspace of its own, by `labelstack stage train`. The first epoch,
which traces the graph and starts the workers, is left out; of the others the median counts, of the rounds the least.

    python benchmarks/epoch_time.py --base REVISION [--models plain_cnn …] [--epochs 5] [--rounds 2]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from revision import ROOT, source_of

MODELS = {
    "plain_cnn": "{backbone: small_cnn, image_size: 64, options: {filters: [24, 48, 96, 128]}, epochs: %d}",
    "mobilenet": "{backbone: mobilenet, image_size: 64, options: {alpha: 0.5, batch_norm_momentum: 0.9}, epochs: %d}",
    "resnet": "{backbone: small_resnet, image_size: 64, epochs: %d}",
    "silhouette_pixels": "{backbone: silhouette_pixels, image_size: 64, head: {pooling: flatten}, epochs: %d}",
    "pixels": "{backbone: pixels, image_size: 64, epochs: %d}",
}
BEFORE_TRAINING = (
    ["settings"],
    ["sample"],
    ["ingest"],
    *(["download", split] for split in ("train", "validation", "test")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="git revision to compare with")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[:4])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, source_of(arguments.base, Path(temporary)) as base:
        sides = {
            "before": Workspace(Path(temporary) / "before", base),
            "now": Workspace(Path(temporary) / "now", ROOT / "src"),
        }
        for side in sides.values():
            side.prepare(arguments.models, arguments.epochs)
        print(f"{'model':20}{'before, s':>12}{'now, s':>12}{'ratio':>8}{'images/s':>12}")
        for model in arguments.models:
            rounds = [{name: side.epoch_of(model) for name, side in sides.items()} for _ in range(arguments.rounds)]
            before, now = (min(one[name] for one in rounds) for name in sides)
            print(
                f"{model:20}{before:12.2f}{now:12.2f}{now / before:8.2f}{sides['now'].images / now:12.0f}", flush=True
            )


class Workspace:
    """A folder in which the stages of one revision run."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.source, self.images = folder, source, 0
        folder.mkdir()

    def prepare(self, models: list[str], epochs: int) -> None:
        """Draw and store the images, and say which models there are."""
        text = (self.source.parent / "params.yaml").read_text()
        head, _, rest = text.partition("\nmodels:")
        entries = "".join(f"\n  {name}: {MODELS[name] % epochs}" for name in models)
        (self.folder / "params.yaml").write_text(
            f"{head}\nmodels:{entries}\n\nsecond_round: {{}}\n\nprediction:{rest.partition('prediction:')[2]}"
        )
        (self.folder / "dvc.yaml").write_text((self.source.parent / "dvc.yaml").read_text())
        subprocess.run(["git", "init", "--quiet"], cwd=self.folder, check=True)
        subprocess.run(["dvc", "init", "--quiet", "--force"], cwd=self.folder, check=True)
        for stage in (*BEFORE_TRAINING, ["split"]):
            self._stage(*stage)

    def epoch_of(self, model: str) -> float:
        """Seconds of an epoch of a network trained anew."""
        self._stage("train", model, "all")
        with (self.folder / "models" / "networks" / model / "all" / "history.csv").open(newline="") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        return median(seconds[1:])

    def _stage(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "labelstack.cli", "stage", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.source), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{self.source}: stage {' '.join(arguments)}: {done.stdout}{done.stderr}")
        if arguments == ("ingest",):
            self.images = int(done.stdout.split("ingest: ")[1].split()[0].replace(",", ""))


if __name__ == "__main__":
    main()
