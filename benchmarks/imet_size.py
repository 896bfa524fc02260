"""The second level at iMet 2019's size: 109,237 images × 7 models × 1,103 labels, not nested; each step's time.

    python benchmarks/imet_size.py [--rows N] [--models M] [--labels L] [--learn N] [--folder DIR] [--auto]
    python benchmarks/imet_size.py --loss [--rows 20000] [--labels 1103] [--learn 5000]

A cube is generated (by a process of its own, whose time and memory don't count) and lies on disk. Stackers and rules
learn from at most ``--learn`` rows of their folds; weights of the blend of the five stackers, and scores, from all.
``--loss`` shows what learning from few rows costs: it runs everything twice, on all rows and on ``--learn``, and prints
the difference of F2 with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import FMetric
from labelstack.scoring.metrics import f_beta
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.process import peak_memory
from labelstack.stacking.crossfit import fit_blend
from labelstack.stacking.deciding.calibration import fit_calibration
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.deciding.expected_f import decode
from labelstack.stacking.fold_predictions import FoldPredictions, out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.stacking.stackers.means import GreedyStacker, MeanStacker, WeightedMeanStacker
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.stacking.stackers.xgb import XGBoostStacker

BETA = 2.0
METRIC = MetricSection(beta=BETA)


class Steps:
    """Seconds of each step, printed as they end."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        wall, used = time.perf_counter(), time.process_time()
        yield
        wall, used = time.perf_counter() - wall, time.process_time() - used
        row = {"step": name, "seconds": round(wall, 1), "cpu_seconds": round(used, 1), "peak": peak_memory()}
        self.found.append(row)
        print(f"{name:44}{wall:9.1f} s{used:9.1f} s CPU, peak so far {row['peak'] / 1e9:5.2f} GB", flush=True)


def write_data(rows: int, models: int, labels: int, folder: Path) -> None:
    """Generate a cube into two files."""
    data = generate(rows, models, labels, n_test=0)
    np.save(folder / "cube.npy", data.cube)
    np.save(folder / "labels.npy", data.labels >= 0.5)


def stackers(learn: int | None) -> dict[str, Stacker]:
    """What the second level is made of here."""
    return {
        "mean": MeanStacker(),
        "weighted_mean": WeightedMeanStacker(rows=learn),
        "greedy": GreedyStacker(beta=BETA, rows=learn),
        "logistic": LogisticStacker(rows=learn),
        "xgboost": XGBoostStacker(
            features="own+top_k", base="mean", max_depth=3, learning_rate=0.05, subsample=0.8, colsample_bytree=0.5,
            rows=learn,
        ),
    }  # fmt: skip


def pass_through(
    steps: Steps, Y: NDArray[np.bool_], learn: int | None, folder: Path, *, auto: bool
) -> dict[str, NDArray[np.bool_]]:
    """All steps; label sets by what was decided on other folds."""
    with steps.step("folds"):
        folds = assign_folds(Y, 5, 0)
    members: dict[str, Any] = {}
    for name, stacker in stackers(learn).items():
        with steps.step(f"stacker {name}"):
            cube = np.load(folder / "cube.npy", mmap_mode="r")
            found = out_of_fold(lambda stacker=stacker: clone(stacker), cube, Y, folds)
            np.save(folder / f"{name}.npy", found.oof)
            del found, cube
            members[name] = FoldPredictions(np.load(folder / f"{name}.npy", mmap_mode="r"))
    given: dict[str, NDArray[np.bool_]] = {}
    thresholds = ThresholdsSection(strategy="expected_f", rows=learn)
    with steps.step("blend, and expected F2 cross-fitted"):
        blended = fit_blend(members, Y, folds, metric=METRIC, thresholds=thresholds)
    given["blend, expected_f"] = blended.cross_fitted.labels
    print("  weights:", {name: round(weight, 3) for name, weight in blended.weights.items() if weight}, flush=True)
    P = blended.probability
    for strategy in ("global", "context", "coordinate_ascent"):
        with steps.step(f"thresholds: {strategy}"):
            rule = fit_decision(Y, P, thresholds, METRIC, strategy=strategy, folds=folds)
            given[f"{strategy}, in sample"] = rule.decide(P)
    if auto:
        with steps.step("thresholds: auto, of four strategies"):
            fit_decision(Y, P, thresholds, METRIC, strategy="auto", folds=folds)
    with steps.step("calibration of all rows, platt"):
        calibrated = fit_calibration(Y, P, "platt")(P)
    for beta in (1.0, 2.0):
        with steps.step(f"expected F{beta:g} of all rows"):
            given[f"expected F{beta:g}, in sample"] = decode(calibrated, beta)
    with steps.step("score and interval"):
        bounds = bootstrap.interval(FMetric("samples", BETA), Y, given["blend, expected_f"])
    print(f"  F2 cross-fitted {bounds.score:.4f} [{bounds.low:.4f}, {bounds.high:.4f}]", flush=True)
    return given


def clone(stacker: Any) -> Any:
    """An unfitted copy."""
    return type(stacker)(**stacker.get_params())


def main() -> None:
    """Run the steps asked for; the last line says what it took together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=109_237)
    parser.add_argument("--models", type=int, default=7)
    parser.add_argument("--labels", type=int, default=1103)
    parser.add_argument("--learn", type=int, default=10_000, help="rows that stackers and rules learn from")
    parser.add_argument("--auto", action="store_true", help="also choose among four strategies")
    parser.add_argument("--loss", action="store_true", help="compare with learning from all rows")
    parser.add_argument("--folder", type=Path, help="for the cube and predictions; a temporary one by default")
    parser.add_argument("--json", type=Path, help="write the seconds into this file")
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.generate:
        write_data(args.rows, args.models, args.labels, args.folder)
        return
    logging.getLogger("labelstack").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        shape = [f"--rows={args.rows}", f"--models={args.models}", f"--labels={args.labels}"]
        if not (folder / "labels.npy").exists():
            subprocess.run([sys.executable, __file__, "--generate", *shape, f"--folder={folder}"], check=True)
        Y, shape_of_cube = np.load(folder / "labels.npy"), np.load(folder / "cube.npy", mmap_mode="r").shape
        print("{:,} images × {} models × {:,} labels".format(*shape_of_cube), f"learnt from {args.learn:,}", flush=True)
        steps, start = Steps(), time.perf_counter()
        some = pass_through(steps, Y, args.learn, folder, auto=args.auto)
        print(
            f"together {time.perf_counter() - start:.0f} s, peak {peak_memory() / 1e9:.2f} GB (mapped files included)"
        )
        if args.loss:
            every = pass_through(Steps(), Y, None, folder, auto=False)
            for name, labels in some.items():
                gain = bootstrap.paired(FMetric("samples", BETA), Y, labels, every[name])
                whole = f_beta(Y, every[name], average="samples", beta=BETA)
                shown = f"{gain.score:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
                print(f"learnt from {args.learn:,} rows: {name}: F2 {whole + gain.score:.4f}, to all rows {shown}")
        if args.json:
            args.json.write_text(json.dumps({"shape": list(shape_of_cube), "learn": args.learn, "steps": steps.found}))


if __name__ == "__main__":
    main()
