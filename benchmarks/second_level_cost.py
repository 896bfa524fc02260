"""What the whole default second level costs, nested: seconds of each stacker, of blend and rules, before and now.

    python benchmarks/second_level_cost.py [--shape 1500,9,374] [--without cnn] [--against REVISION]

A generated cube (images, models, labels). ``--against`` runs the source of a git revision too, in turn, each in a
process of its own, and prints the ratios and the largest difference of a blended probability.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from revision import ROOT, run_with, source_of

NAME = Path(__file__).name


def measure(shape: list[int], without: list[str], file: str) -> dict[str, Any]:
    """Seconds of each part in this process; the cross-fitted probabilities go into a file."""
    from labelstack.params.second_level_file import default_second_level
    from labelstack.stacking import second_level
    from labelstack.stacking.bench.generator import generate
    from labelstack.stacking.bench.process import peak_memory
    from labelstack.stacking.stackers.construction import make_stacker

    logging.getLogger("labelstack").setLevel(logging.ERROR)
    sections = default_second_level().stackers.items()
    stackers = {name: make_stacker(section) for name, section in sections if name not in without}
    data = generate(*shape, n_test=0)
    seconds: dict[str, tuple[float, float]] = {}
    names = iter(stackers)

    def timed(work: Any, name: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            wall, used = time.perf_counter(), time.process_time()
            found = work(*args, **options)
            seconds[name()] = (time.perf_counter() - wall, time.process_time() - used)
            return found

        return run

    second_level.out_of_fold = timed(second_level.out_of_fold, lambda: next(names))
    second_level.fit_blend = timed(second_level.fit_blend, lambda: "blend and rules")
    second_level.scores = timed(second_level.scores, lambda: "scores")
    ensemble = second_level.StackedEnsemble(stackers)
    timed(ensemble.fit, lambda: "together")(data.cube, data.labels)
    np.save(file, ensemble.blended_.cross_fitted.probability)
    score = ensemble.scores_["samples_f1_cross_fitted"]
    return {"seconds": seconds, "peak": peak_memory(), "score": score, "rule": ensemble.blended_.decision.strategy}


def main() -> None:
    """Print a table; the last line names both scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1500,9,374", help="images,models,labels")
    parser.add_argument("--without", default="", help="stackers to leave out, with commas")
    parser.add_argument("--against", help="a git revision")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        shape, without = [int(part) for part in args.shape.split(",")], args.without.split(",")
        print(json.dumps(measure(shape, without, args.worker)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = ["--shape", args.shape, "--without", args.without, "--worker"]
        found = {"now": json.loads(run_with(ROOT / "src", NAME, *given, str(folder / "now.npy")))}
        if args.against:
            with source_of(args.against, folder) as source:
                found["before"] = json.loads(run_with(source, NAME, *given, str(folder / "before.npy")))
        print(f"default second level, nested, {args.shape}" + (f", without {args.without}" if args.without else ""))
        for name, (wall, used) in found["now"]["seconds"].items():
            line = f"{name:18} {wall:8.1f} s {used:8.1f} s CPU"
            if args.against:
                before = found["before"]["seconds"][name]
                line += f"   before {before[0]:8.1f} s {before[1]:8.1f} s CPU   ratio {before[0] / wall:5.2f}"
                line += f", of CPU {before[1] / used:5.2f}"
            print(line)
        if args.against:
            apart = np.abs(np.load(folder / "now.npy") - np.load(folder / "before.npy")).max()
            print(f"largest difference of a cross-fitted blended probability: {apart:.2g}")
        for name, one in found.items():
            print(f"{name}: samples F1 {one['score']:.6f} by {one['rule']}, peak {one['peak'] / 1e9:.2f} GB")


if __name__ == "__main__":
    sys.exit(main())
