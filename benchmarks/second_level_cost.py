"""What the whole default second level costs, nested: seconds of each stacker, of blend and rules, before and now.

    python benchmarks/second_level_cost.py [--shape 1500,9,374] [--cube FILE] [--without cnn] [--against REVISION]

A generated cube (images, models, labels), or one of a file: .npz with ``cube`` float32 [n, n_models, n_labels] and
``labels`` bool [n, n_labels]. ``--against`` runs the source of a git revision too, in turn, each in a process of its
own, and prints the ratios, the largest difference of a blended probability, and those of cross-fitted samples F1
and log loss with 95 % bootstrap intervals over images.
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


def measure(shape: list[int], cube: str, without: list[str], file: str) -> dict[str, Any]:
    """Seconds of each part in this process; what is cross-fitted, and the answers, go into a file."""
    from labelstack.params.second_level_file import default_second_level
    from labelstack.stacking import second_level
    from labelstack.stacking.bench.generator import generate
    from labelstack.stacking.bench.process import peak_memory
    from labelstack.stacking.stackers.construction import make_stacker

    logging.getLogger("labelstack").setLevel(logging.ERROR)
    sections = default_second_level().stackers.items()
    stackers = {name: make_stacker(section) for name, section in sections if name not in without}
    if cube:
        with np.load(cube, allow_pickle=False) as arrays:
            values, labels = arrays["cube"], arrays["labels"]
    else:
        data = generate(*shape, n_test=0)
        values, labels = data.cube, data.labels
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
    timed(ensemble.fit, lambda: "together")(values, labels)
    fitted = ensemble.blended_.cross_fitted
    np.savez(file, probability=fitted.probability, labels=fitted.labels, answers=labels >= 0.5)
    score = ensemble.scores_["samples_f1_cross_fitted"]
    return {"seconds": seconds, "peak": peak_memory(), "score": score, "rule": ensemble.blended_.decision.strategy}


def compare(now: Any, before: Any) -> None:
    """Print how far both results are apart."""
    from labelstack.params.metric import MetricSection
    from labelstack.scoring.bootstrap import interval_of_mean, paired
    from labelstack.scoring.metric import metric_of

    apart = np.abs(now["probability"] - before["probability"]).max()
    print(f"largest difference of a cross-fitted blended probability: {apart:.2g}")
    gain = paired(metric_of(MetricSection()), now["answers"], now["labels"], before["labels"])
    print(f"samples F1 now − before: {gain.score:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
    loss = interval_of_mean(log_losses(now) - log_losses(before))
    print(f"log loss now − before: {loss.score:+.5f} [{loss.low:+.5f}, {loss.high:+.5f}]")


def log_losses(found: Any) -> Any:
    """Of each image, the mean over labels."""
    true, p = found["answers"], np.clip(found["probability"].astype(float), 1e-6, 1 - 1e-6)
    return -np.where(true, np.log(p), np.log1p(-p)).mean(axis=1)


def main() -> None:
    """Print a table; the last line names both scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1500,9,374", help="images,models,labels")
    parser.add_argument("--cube", default="", help="an .npz, in place of a generated cube")
    parser.add_argument("--without", default="", help="stackers to leave out, with commas")
    parser.add_argument("--against", help="a git revision")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        shape, without = [int(part) for part in args.shape.split(",")], args.without.split(",")
        print(json.dumps(measure(shape, args.cube, without, args.worker)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = ["--shape", args.shape, "--cube", args.cube, "--without", args.without, "--worker"]
        found = {"now": json.loads(run_with(ROOT / "src", NAME, *given, str(folder / "now.npz")))}
        if args.against:
            with source_of(args.against, folder) as source:
                found["before"] = json.loads(run_with(source, NAME, *given, str(folder / "before.npz")))
        print(
            f"default second level, nested, {args.cube or args.shape}"
            + (f", without {args.without}" if args.without else "")
        )
        for name, (wall, used) in found["now"]["seconds"].items():
            line = f"{name:18} {wall:8.1f} s {used:8.1f} s CPU"
            if args.against:
                before = found["before"]["seconds"][name]
                line += f"   before {before[0]:8.1f} s {before[1]:8.1f} s CPU   ratio {before[0] / wall:5.2f}"
                line += f", of CPU {before[1] / used:5.2f}"
            print(line)
        if args.against:
            compare(*(np.load(folder / f"{name}.npz", allow_pickle=False) for name in ("now", "before")))
        for name, one in found.items():
            print(f"{name}: samples F1 {one['score']:.6f} by {one['rule']}, peak {one['peak'] / 1e9:.2f} GB")


if __name__ == "__main__":
    sys.exit(main())
