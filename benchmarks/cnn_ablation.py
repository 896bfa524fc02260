"""What each part of the CNN stacker is worth: python benchmarks/cnn_ablation.py [--only NAMES] [--cubes NAMES]

On the cubes of ``trained_cubes.py``, three folds, not nested, labels by expected F, cross-fitted. Each variant differs
from the default in what its name says. Printed are means over cubes and paired differences from XGBoost and from the
default with 95 % bootstrap intervals over cubes. Probabilities are kept in the folder, so a second call goes on.

``--blends`` puts each CNN in the place of the shipped one into the blend of all shipped stackers and the cube's models,
and prints what these blends score, and the one without a CNN.

``--generated 9000,9,228`` measures the stackers that params.yaml ships with on a made-up cube of that shape instead,
five folds, not nested: each alone, all blended, and all but the CNN blended, with paired intervals over images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trained_cubes import made

from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import SHIPPED_STACKERS, default_second_level
from labelstack.params.stackers import section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.bootstrap import paired
from labelstack.scoring.metric import metric_of
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.crossfit import cross_fit, fit_blend
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers import cnn_residual
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.linear import LogisticStacker

K = 3
PUBLISHED = {"structure": "published", "inputs": "logit", "dropout": 0.3, "epochs": 20, "weight_decay": 0.01}
VARIANTS: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic"},
    "xgboost": SHIPPED_STACKERS["xgboost"],
    "published layers": {"kind": "cnn", **PUBLISHED},
    "default": {"kind": "cnn"},
    "start: mean": {"kind": "cnn", "start": "mean"},
    "start: prior": {"kind": "cnn", "start": "prior"},
    "start: prior, 300 epochs": {"kind": "cnn", "start": "prior", "epochs": 300},
    "inputs: probability": {"kind": "cnn", "inputs": "probability"},
    "inputs: both": {"kind": "cnn", "inputs": "both"},
    "no windows": {"kind": "cnn", "filters": []},
    "half the filters": {"kind": "cnn", "filters": [8, 16], "units": 16},
    "twice the filters": {"kind": "cnn", "filters": [32, 64], "units": 64},
    "rank: 16": {"kind": "cnn", "rank": 16},
    "averaging: 0": {"kind": "cnn", "averaging": 0},
    "seeds: 3": {"kind": "cnn", "seeds": 3},
    "early_stopping: 6": {"kind": "cnn", "early_stopping": 6},
    "no stopping": {"kind": "cnn", "early_stopping": None},
    "batch_size: 256": {"kind": "cnn", "batch_size": 256},
    "batch_size: 16": {"kind": "cnn", "batch_size": 16},
    "dropout: 0.3": {"kind": "cnn", "dropout": 0.3},
    "weight_decay: 1": {"kind": "cnn", "weight_decay": 1.0},
    "learning_rate: 0.002": {"kind": "cnn", "learning_rate": 0.002},
    "start knows the row": {"kind": "cnn"},
}


def section(name: str) -> Any:
    """The section of a variant."""
    own = VARIANTS[name]
    return section_of(own["kind"]).model_validate(own)


class Kept:
    """Arrays kept in a folder by what made them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, *parts: Any) -> Path:
        """A path that equal parts share; arrays count by their bytes."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part, sort_keys=True).encode())
        return self.folder / digest.hexdigest()[:24]


def share_starts(kept: Kept) -> None:
    """Let variants with equal starts fit each once; its left-out logits are computed anew."""
    fit = cnn_residual.fit_start

    def fit_once(kind: str, cube: NDArray[Any], targets: NDArray[Any], progress: str) -> LogisticStacker:
        path = kept.path(kind, cube, targets)
        if not path.exists():
            fit(kind, cube, targets, progress).save(path)
        return LogisticStacker.load(path)

    cnn_residual.fit_start = fit_once


def read(file: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A cube, its labels, and the fold of each row."""
    with np.load(file, allow_pickle=False) as arrays:
        cube, Y = arrays["cube"], arrays["labels"]
    return cube, Y, assign_folds(Y, K, 0)


def predicted(name: str, cube: NDArray[Any], Y: NDArray[Any], folds: NDArray[Any], kept: Kept) -> NDArray[Any]:
    """Probabilities out of fold, and seconds of the fits, as one more row."""
    own = section(name)
    path = kept.path(name, own.settled() if own.kind == "cnn" else own.model_dump(), cube, Y).with_suffix(".npy")
    if path.exists():
        return np.load(path)
    honest = cnn_residual.left_out_logits
    if name == "start knows the row":
        cnn_residual.left_out_logits = lambda start, cube, targets: cnn_residual.start_logits(start, cube)
    P, start = np.zeros((len(Y) + 1, Y.shape[1]), np.float32), time.perf_counter()
    for fold in range(K):
        held = folds == fold
        P[:-1][held] = make_stacker(own).fit(cube[~held], Y[~held]).predict_proba(cube[held])
    cnn_residual.left_out_logits = honest
    P[-1] = time.perf_counter() - start
    np.save(path, P)
    return P


def scored(P: NDArray[Any], Y: NDArray[Any], folds: NDArray[Any]) -> tuple[float, float]:
    """Samples F1 and the cross-entropy of an answer."""
    return scores_of(P, cross_fit(P, Y, folds, thresholds=ThresholdsSection(strategy="expected_f")).labels, Y)


def scores_of(P: NDArray[Any], labels: NDArray[Any], Y: NDArray[Any]) -> tuple[float, float]:
    """Samples F1 of label sets, and the cross-entropy of probabilities."""
    true, p = Y > 0.5, np.clip(P.astype(float), 1e-6, 1 - 1e-6)
    f1 = 2 * (labels & true).sum(axis=1) / np.maximum(labels.sum(axis=1) + true.sum(axis=1), 1)
    return float(f1.mean()), float(-(Y * np.log(p) + (1 - Y) * np.log1p(-p)).mean())


def interval(values: NDArray[Any]) -> str:
    """Mean of differences over cubes, and its bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():+.4f} ({low:+.4f} … {high:+.4f})"


def blends(names: list[str], cubes: dict[str, Path], kept: Kept) -> None:
    """Print what the blend scores with each CNN, and without."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("without", *names)}
    for cube_name, file in cubes.items():
        cube, Y, folds = read(file)
        members = {f"model_{i}": cube[:, i] for i in range(cube.shape[1])}
        for name, own in default_second_level().stackers.items():
            if own.kind == "cnn":
                continue
            path = kept.path(name, own.model_dump(), cube, Y).with_suffix(".npy")
            if not path.exists():
                np.save(path, out_of_fold(lambda own=own: make_stacker(own), cube, Y, folds, nested=False).oof)
            members[name] = np.load(path)[: len(Y)]  # seconds may follow
        for name, of_name in found.items():
            some = members if name == "without" else members | {"cnn": predicted(name, cube, Y, folds, kept)[:-1]}
            whole = fit_blend(some, Y, folds, thresholds=ThresholdsSection(strategy="expected_f")).cross_fitted
            of_name.append(scores_of(whole.probability, whole.labels, Y))
        print(f"{cube_name}: " + ", ".join(f"{name} {values[-1][0]:.4f}" for name, values in found.items()), flush=True)
    scores = {name: np.array(values) for name, values in found.items()}
    print(f"\n{'the blend with':26}{'F1':>8}{'log loss':>10}  {'F1 − without':28}F1 − default")
    for name, values in scores.items():
        line = f"{name:26}{values[:, 0].mean():8.4f}{values[:, 1].mean():10.5f}  "
        for other in ("without", "default"):
            line += f"{interval(values[:, 0] - scores[other][:, 0]) if other in scores else '':28}"
        print(line)


def generated(shape: str, kept: Kept) -> None:
    """Print what each shipped stacker and their blends, with and without the CNN, score on a generated cube."""
    data = generate(*map(int, shape.split(",")), n_test=0)
    Y, folds = data.labels, assign_folds(data.labels, 5, 0)
    sections = default_second_level().stackers
    members, labels = {}, {}
    by: dict[str, Any] = {"thresholds": ThresholdsSection(strategy="expected_f")}
    for name, own in sorted(sections.items(), key=lambda item: item[1].kind != "cnn"):  # what is asked about first
        path, start = kept.path(name, own.model_dump(), shape).with_suffix(".npy"), time.perf_counter()
        if not path.exists():
            np.save(path, out_of_fold(lambda own=own: make_stacker(own), data.cube, Y, folds).oof)
        members[name] = np.load(path)
        labels[name] = cross_fit(members[name], Y, folds, **by).labels
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    for name, some in {"blend": members, "without cnn": {n: P for n, P in members.items() if n != "cnn"}}.items():
        blended = fit_blend(some, Y, folds, **by)
        labels[name] = blended.cross_fitted.labels
        print(f"{name}: " + ", ".join(f"{n} {weight:.2f}" for n, weight in blended.weights.items()), flush=True)
    metric = metric_of(MetricSection()).decides
    for name, own in labels.items():
        print(f"{name:16}{metric.score(Y > 0.5, own):8.4f}")
    for one, other in (("cnn", "logistic"), ("cnn", "xgboost"), ("blend", "without cnn")):
        gain = paired(metric, Y > 0.5, labels[one], labels[other])
        print(f"{one} − {other}: {'{:+.4f} ({:+.4f} … {:+.4f})'.format(*gain)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/labelstack-cubes"))
    parser.add_argument("--rows", type=int, default=900, help="as trained_cubes.py has it")
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, separated by commas")
    parser.add_argument("--cubes", default="", help="beginnings of the cubes' names, separated by commas")
    parser.add_argument("--blends", action="store_true", help="put CNNs into the blend of everything")
    parser.add_argument("--generated", default="", help="images,models,labels of a made-up cube, in place of the cubes")
    given = parser.parse_args()
    if given.generated:
        return generated(given.generated, Kept(given.folder / "kept"))
    names, wanted = given.only.split(","), tuple(given.cubes.split(","))
    kept = Kept(given.folder / "kept")
    share_starts(kept)
    cubes = {name: file for name, file in made(given.folder, given.rows).items() if name.startswith(wanted)}
    if given.blends:
        return blends(names, cubes, kept)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for cube_name, file in cubes.items():
        cube, Y, folds = read(file)
        for name in names:
            P = predicted(name, cube, Y, folds, kept)
            found[name].append(scored(P[:-1], Y, folds))
        shown = ", ".join(f"{name} {found[name][-1][0]:.4f}" for name in names)
        print(f"{cube_name}: {shown}", flush=True)
    scores = {name: np.array(values) for name, values in found.items()}
    print(f"\n{'':26}{'F1':>8}{'log loss':>10}  {'F1 − xgboost':28}{'F1 − default':28}cubes above xgboost")
    for name, values in scores.items():
        line = f"{name:26}{values[:, 0].mean():8.4f}{values[:, 1].mean():10.5f}  "
        for other in ("xgboost", "default"):
            line += f"{interval(values[:, 0] - scores[other][:, 0]) if other in scores else '':28}"
        above = int((values[:, 0] > scores["xgboost"][:, 0]).sum()) if "xgboost" in scores else 0
        print(f"{line}{above} of {len(values)}")


if __name__ == "__main__":
    main()
