"""The second level at the real shape: what each method costs and scores, and how fast its slow parts are.

    python benchmarks/stacking.py [CUBE.npz] [--quick] [--only methods,xgboost,thresholds,cnn] [--json FILE]

Without a cube one is generated: 9,000 images to fit on, 3,000 to score on, 9 models, 228 labels (``--quick``: 600, 200,
4 and 20). At the real shape on two cores: ``methods`` (every stacker but the CNN, each alone, then together as the
default) up to an hour, or a third of it with ``--strategy global``; ``xgboost`` 5 minutes, ``thresholds`` a minute,
``cnn`` a quarter of an hour. ``--quick`` without ``cnn`` takes two minutes.

``xgboost`` measures both sides in one process, in turns of as many labels as there are cores: scikit-learn's
MultiOutputRegressor on them, the stacker with ``features: all`` on the same ones (binning included, which all labels
share otherwise), the stacker with its default features on all labels. The medians of the turns are compared.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.commands import bench as command
from labelstack.commands.bench_table import finish
from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import STACKERS, XGBoostStackerSection
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import metric_of
from labelstack.scoring.metrics import f_beta
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube, read_cube
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.process import multi_output
from labelstack.stacking.bench.table import bench, methods, sample_of_labels
from labelstack.stacking.deciding import thresholds as limits
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.support import storage

PARTS = ("methods", "xgboost", "thresholds", "cnn")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds, and what the work gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure_methods(data: Cube, settings: SecondLevel, args: argparse.Namespace, *, cnn: bool) -> dict[str, Any]:
    """The table of `labelstack bench`: the CNN stackers alone, or everything else."""
    every = methods(settings, data.models).items()
    names = [name for name, section in every if (section is not None and section.kind == "cnn") == cnn]
    labels = 0 if cnn else args.labels
    rows = bench(data, settings, members=names, reference_labels=labels, say=lambda line: print(line, flush=True))
    return finish(rows, data, settings, source=args.source, origin=args.origin)


def measure_xgboost(data: Cube, settings: SecondLevel, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds a label of the stacker and of scikit-learn at equal rounds and depth, and the F1 of both."""
    answers = check_answers(data.labels)
    folds = assign_folds(data.labels, settings.folds.k, settings.folds.seed)
    train = folds != 0
    cube, Y, flat = data.cube[train], data.labels[train], data.cube[train].reshape(int(train.sum()), -1)
    labels = sample_of_labels(answers[train], args.labels)
    default = XGBoostStackerSection(n_estimators=args.rounds, max_depth=args.depth)
    everything = default.model_copy(update={"features": "all"})
    held, new = data.cube[~train], data.cube[~train] if data.test_cube is None else data.test_cube
    seconds: dict[str, list[float]] = {"scikit-learn": [], "default": [], "all": []}
    probability = {name: [np.empty((len(rows), len(labels)), np.float32) for rows in (held, new)] for name in seconds}
    multi_output(default).fit(np.eye(4, 2), np.eye(4, 1))  # loads and starts what both sides need
    at_once = os.cpu_count() or 1  # the stacker trains a label on each core, scikit-learn one label on all of them
    for turn, start in enumerate(range(0, len(labels), at_once)):
        some = labels[start : start + at_once]
        for place, label in enumerate(some, start):
            took, regressor = timed(lambda label=label: multi_output(default).fit(flat, Y[:, [label]]))
            seconds["scikit-learn"].append(took)
            for part, rows in enumerate((held, new)):
                predicted = regressor.predict(rows.reshape(len(rows), -1))
                probability["scikit-learn"][part][:, place] = np.clip(predicted.reshape(-1), 0, 1)
        only = np.zeros_like(Y)  # constant labels cost nothing, so this is the time of the labels wanted
        only[:, some] = Y[:, some]
        took, stacker = timed(lambda targets=only: make_stacker(everything).fit(cube, targets))
        seconds["all"].append(took / len(some))
        for part, rows in enumerate((held, new)):
            probability["all"][part][:, start : start + at_once] = stacker.predict_proba(rows)[:, some]
        if turn < args.turns:
            took, stacker = timed(lambda: make_stacker(default).fit(cube, Y))
            seconds["default"].append(took / cube.shape[2])
            for part, rows in enumerate((held, new)):
                probability["default"][part][:] = stacker.predict_proba(rows)[:, labels]
        shown = ", ".join(f"{name} {values[-1]:.3g}" for name, values in seconds.items())
        print(f"xgboost: {start + len(some)}/{len(labels)} labels; seconds a label: {shown}", flush=True)
    return report_xgboost(data, answers, train, labels, seconds, probability, default)


def report_xgboost(
    data: Cube,
    answers: NDArray[np.bool_],
    train: NDArray[np.bool_],
    labels: list[int],
    seconds: dict[str, list[float]],
    probability: dict[str, list[NDArray[np.float32]]],
    section: XGBoostStackerSection,
) -> dict[str, Any]:
    """Print and return medians, ratios and the difference of macro F1 with its interval."""
    truth = answers[~train] if data.test_labels is None else check_answers(data.test_labels)
    given = {}
    for name, (held, new) in probability.items():
        chosen = limits.choose(answers[~train][:, labels], held, "per_label", metric="macro")
        given[name] = limits.apply(new, chosen)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    n_labels = data.cube.shape[2]
    where = "held-out rows" if data.test_labels is None else "test pair"
    print(
        f"\nXGBoost stacker, {section.n_estimators} rounds, depth {section.max_depth}, {int(train.sum()):,} images × "
        f"{data.cube.shape[1]} models × {n_labels} labels; F1: macro over {len(labels)} labels, {where}\n"
        f"  {'':28}{'s a label':>10}{'s, all labels':>15}{'ratio':>8}{'F1':>8}   minus scikit-learn, 95 % interval"
    )
    judge = metric_of(MetricSection(primary="macro"))
    found: dict[str, Any] = {"labels": labels, "rounds": section.n_estimators, "depth": section.max_depth}
    for name, shown in (
        ("scikit-learn", "MultiOutputRegressor"),
        ("default", f"features: {section.features} (default)"),
        ("all", "features: all"),
    ):
        score = f_beta(truth[:, labels], given[name], average="macro")
        gain = bootstrap.paired(judge, truth[:, labels], given[name], given["scikit-learn"])
        ratio = median["scikit-learn"] / median[name]
        interval = "" if name == "scikit-learn" else f"   {gain.score:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        print(f"  {shown:28}{median[name]:>10.4f}{median[name] * n_labels:>15.1f}{ratio:>8.1f}{score:>8.4f}{interval}")
        found[name] = {"seconds_per_label": median[name], "ratio": ratio, "f1": score, "gain": gain._asdict()}
    same = np.abs(probability["all"][1] - probability["scikit-learn"][1]).max()
    print(f"  largest difference of a probability between features: all and scikit-learn: {same:.2g}\n", flush=True)
    return found | {"largest_difference": float(same)}


def measure_thresholds(data: Cube, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to choose thresholds for samples F1 on the mean of all models, and what they reach on the same rows."""
    answers, P = check_answers(data.labels), data.cube.mean(axis=1)
    print(f"\nThresholds for samples F1, {P.shape[0]:,} images × {P.shape[1]} labels, the mean of the models")
    print(f"  {'strategy':20}{'s':>8}{'CPU s':>8}{'F1 on these rows':>19}")
    found: dict[str, Any] = {}
    for strategy in ("fixed", "global", "per_label", "coordinate_ascent"):
        cpu = time.process_time()
        runs = [timed(lambda s=strategy: limits.choose(answers, P, s, metric="samples")) for _ in range(args.turns)]
        cpu = (time.process_time() - cpu) / args.turns
        score = f_beta(answers, limits.apply(P, runs[0][1]), average="samples")
        found[strategy] = {"seconds": statistics.median(took for took, _ in runs), "cpu_seconds": cpu, "f1": score}
        print(f"  {strategy:20}{found[strategy]['seconds']:>8.2f}{cpu:>8.2f}{score:>19.4f}", flush=True)
    print()
    return found


def main() -> None:
    """Measure the parts asked for and print one table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cube", nargs="?", help="an .npz with cube, labels, perhaps test_cube, test_labels, models")
    parser.add_argument("--quick", action="store_true", help="a small generated cube")
    parser.add_argument("--only", default="methods,xgboost,thresholds,cnn", help="parts, with commas")
    parser.add_argument("--params", help="file with the second level's sections; the shipped ones by default")
    parser.add_argument("--strategy", help="decide by this instead of thresholds.strategy")
    parser.add_argument("--no-nested", action="store_true", help="leave the nested fits out")
    parser.add_argument("--labels", type=int, default=6, help="labels that scikit-learn is fitted on")
    parser.add_argument("--turns", type=int, default=3, help="repetitions of what is quick")
    parser.add_argument("--rounds", type=int, default=50, help="of both sides in xgboost")
    parser.add_argument("--depth", type=int, default=4, help="of both sides in xgboost")
    parser.add_argument("--seed", type=int, default=0, help="of the generated cube")
    parser.add_argument("--json", help="write all figures into this file")
    args = parser.parse_args()
    parts = [part.strip() for part in args.only.split(",")]
    if not set(parts) <= set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}")
    logging.getLogger("labelstack").setLevel(logging.ERROR)
    shape = (600, 4, 20) if args.quick else (9000, 9, 228)
    args.source = args.cube or f"generated, seed {args.seed}"
    data = read_cube(args.cube) if args.cube else generate(*shape, seed=args.seed)
    settings, args.origin = command.read_settings(args.params or "default")
    settings = command.overridden(settings, strategy=args.strategy, nested=not args.no_nested)
    found: dict[str, Any] = {"source": args.source, "shape": list(data.cube.shape)}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "methods": lambda: measure_methods(data, settings, args, cnn=False),
        "xgboost": lambda: measure_xgboost(data, settings, args),
        "thresholds": lambda: measure_thresholds(data, args),
        "cnn": lambda: measure_methods(data, settings, args, cnn=True) if "cnn" in STACKERS else {},
    }
    for part in parts:
        found[part] = measures[part]()
    if args.json:
        storage.write_json(args.json, found)
    print(f"benchmark: {', '.join(parts)} on {args.source} → {args.json or 'printed only; --json FILE keeps it'}")


if __name__ == "__main__":
    main()
