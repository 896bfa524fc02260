"""How much out-of-fold scores are flattered by base predictions whose networks saw the scored fold.

    python benchmarks/second_order.py [--repeats 3] [--models plain_cnn,mobilenet,pixels] [--json FILE]

Run it after `dvc repro` in the folder of dvc.yaml: it reads params.yaml and the train images (all from there, a few
minutes a repeat on two cores). Nothing is written but a work folder that keeps finished networks.

With a network for each of three folds, the second level that is scored on fold j learns from rows of the other folds i
and m. Row i's prediction is of the network that did not learn from i, but did from j: a second-order effect. Here the
same second level is fitted twice, on the same rows, and scored on the same rows by the same predictions of fold j:

``ordinary``  row i from a network that learnt from j and m; j's own rows from the network that learnt from i and m
``neither``   row i from a network that learnt from m alone, and so never saw j

Networks of ``neither`` have half as many images to learn from. So the comparison is made twice: with ordinary networks
on all of their two folds (``whole``), as they are, and on half of each (``half``), where all networks of both sides
have learnt from equally many images and nothing differs but what they saw.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.loader import TrainingBatches, shown_batches
from labelstack.images.pixels.tta import Looks
from labelstack.params import Params, digest, load_params
from labelstack.params.metric import MetricSection
from labelstack.predictions import read_predictions, write_predictions
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import metric_of
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.second_level import StackedEnsemble
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stages import paths
from labelstack.stages.rows import Rows, read_rows
from labelstack.support import storage
from labelstack.support.progress import bar

K = 3
STACKERS = ("logistic", "ridge")  # of params.yaml, blended with the networks
Predicted = dict[str, NDArray[np.float32]]  # by model: [n, n_labels], for every row


def predictions_of(params: Params, name: str, rows: Rows, chosen: NDArray[np.bool_], work: Path) -> NDArray[np.float32]:
    """What a network that learnt from the chosen rows says of every row [n, n_labels]; kept in ``work``."""
    model = params.network(name, "all")
    key = digest([model.model_dump(mode="json"), params.seed, rows.row_id[chosen].tolist()])
    kept = work / f"{name}-{key}.npy"
    if not kept.exists():
        from labelstack.networks.inference import compile_predict, predict
        from labelstack.networks.training import train

        fitted = rows.where(chosen)
        with TrainingBatches(
            paths.shards("train"),
            fitted.image_id,
            fitted.Y.astype(np.float32),
            size=model.image_size,
            batch_size=model.batch_size,
            seed=params.seed + model.seed,
            augment=params.policy(model),
            resize=model.resize,
            workers=params.training.workers,
        ) as batches:
            trained = train(
                model,
                params.training,
                batches,
                None,  # no hold-out: the last epoch, on both sides
                n_labels=rows.Y.shape[1],
                prior=fitted.Y.mean(0, dtype=np.float32),
                seed=params.seed + model.seed,
                work=work / f"{name}-{key}",
            ).model
        looks = Looks(tuple(params.views_of(name, "all").values()), model.image_size, model.resize)
        images = shown_batches(paths.shards("train"), None, looks, 64)
        image_id, probability = predict(trained, images, looks.transforms, forward=compile_predict(trained), most=64)
        write_predictions(kept, image_id, probability)
    return read_predictions(kept).rows_of(rows.row_id)


def cube(predicted: list[Predicted], of: NDArray[np.int64], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The cube of some rows [n, n_models, n_labels]: for each the prediction that ``of`` names."""
    models = list(predicted[0])
    every = np.stack([np.stack([one[model] for model in models], 1) for one in predicted])
    at = np.flatnonzero(where)
    return every[of[at], at]


def decided(params: Params, fit: NDArray[np.float32], Y: NDArray[np.bool_], asked: NDArray[np.float32]) -> Any:
    """Label sets by a second level that is fitted to a cube, and its probabilities."""
    stackers = {name: make_stacker(params.stackers[name]) for name in STACKERS}
    ensemble = StackedEnsemble(stackers, nested=False, thresholds=params.thresholds, metric=params.metric).fit(fit, Y)
    return ensemble.predict(asked), ensemble.predict_proba(asked)


def repeat(params: Params, names: list[str], rows: Rows, seed: int, work: Path) -> dict[Any, Any]:
    """Label sets and probabilities of every row, for both sides of both comparisons; folds are dealt by ``seed``."""
    folds = assign_folds(rows.Y, K, seed)
    half = np.zeros(len(rows), bool)
    for fold in range(K):
        own = np.flatnonzero(folds == fold)
        half[own] = assign_folds(rows.Y[own], 2, seed + 1) == 0
    sets = {
        "whole": [folds != fold for fold in range(K)],
        "half": [(folds != fold) & half for fold in range(K)],
        "alone": [folds == fold for fold in range(K)],
    }
    todo = [(kind, fold, name) for kind in sets for fold in range(K) for name in names]
    predicted: dict[str, list[Predicted]] = {kind: [{} for _ in range(K)] for kind in sets}
    for kind, fold, name in bar(todo, desc=f"networks, folds of seed {seed}", unit="network"):
        predicted[kind][fold][name] = predictions_of(params, name, rows, sets[kind][fold], work)
    out: dict[Any, Any] = {"sizes": {kind: int(np.mean([one.sum() for one in sets[kind]])) for kind in sets}}
    for kind in ("whole", "half"):
        for side in ("ordinary", "neither"):
            labels, probability = np.zeros(rows.Y.shape, bool), np.zeros(rows.Y.shape, np.float32)
            for j in range(K):
                scored = folds == j
                if side == "ordinary":
                    fit = cube(predicted[kind], folds, ~scored)
                else:
                    fit = cube(predicted["alone"], K - j - folds, ~scored)  # the third: 0 + 1 + 2 = K
                asked = cube(predicted[kind], folds, scored)
                labels[scored], probability[scored] = decided(params, fit, rows.Y[~scored], asked)
            out[kind, side] = labels, probability
    return out


def measured(params: Params, rows: Rows, repeats: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """A record for each comparison and metric; an image counts once, by the mean over its repeats."""
    records = []
    Y = np.concatenate([rows.Y] * len(repeats))
    for kind in ("whole", "half"):
        a, b = (np.concatenate([one[kind, side][0] for one in repeats]) for side in ("ordinary", "neither"))
        for average in ("samples", "micro"):
            metric = metric_of(MetricSection(primary=average))
            each = [
                metric.score(rows.Y, one[kind, "ordinary"][0]) - metric.score(rows.Y, one[kind, "neither"][0])
                for one in repeats
            ]
            gain = clustered(metric, Y, a, b, len(rows))
            records.append(
                {
                    "networks": kind,
                    "metric": f"{average}_f1",
                    "ordinary": metric.score(Y, a),
                    "neither": metric.score(Y, b),
                    "difference": gain.score,
                    "low": gain.low,
                    "high": gain.high,
                    "by_repeat": each,
                }
            )
        losses = [[log_loss(rows.Y, one[kind, side][1]) for one in repeats] for side in ("ordinary", "neither")]
        by_row = np.mean(losses[0], axis=0) - np.mean(losses[1], axis=0)
        draws = np.random.default_rng(0).integers(0, len(by_row), (1000, len(by_row)))
        low, high = np.quantile(by_row[draws].mean(1), [0.025, 0.975])
        records.append(
            {
                "networks": kind,
                "metric": "log_loss",
                "ordinary": float(np.mean(losses[0])),
                "neither": float(np.mean(losses[1])),
                "difference": float(by_row.mean()),
                "low": float(low),
                "high": float(high),
                "by_repeat": [float(np.mean(x) - np.mean(y)) for x, y in zip(*losses, strict=True)],
            }
        )
    return records


def log_loss(Y: NDArray[np.bool_], P: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean binary cross-entropy of each row [n]."""
    clipped = np.clip(P.astype(np.float64), 1e-7, 1 - 1e-7)
    mean: NDArray[np.float64] = -np.where(Y, np.log(clipped), np.log1p(-clipped)).mean(1)
    return mean


def clustered(metric: Any, Y: Any, a: Any, b: Any, n: int) -> bootstrap.Interval:
    """Score of ``a`` minus that of ``b``, resampled by image: all repeats of an image are drawn together."""
    ours, theirs = metric.resampled(Y, a), metric.resampled(Y, b)
    random = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        weights = random.multinomial(n, np.full(n, 1 / n), 50).astype(np.float32)
        weights = np.tile(weights, (1, len(Y) // n))
        gains.append(ours(weights) - theirs(weights))
    low, high = np.quantile(np.concatenate(gains), [0.025, 0.975])
    return bootstrap.Interval(metric.score(Y, a) - metric.score(Y, b), float(low), float(high))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="dealings of folds (default: 3)")
    parser.add_argument("--models", help="names of params.yaml, with commas (default: all)")
    parser.add_argument("--work", default="data/work/second_order", help="folder that keeps finished networks")
    parser.add_argument("--json", help="also write the figures here")
    args = parser.parse_args()
    params = load_params()
    names = args.models.split(",") if args.models else list(params.models)
    rows, start = read_rows("train"), time.perf_counter()
    repeats = [repeat(params, names, rows, seed, Path(args.work)) for seed in range(args.repeats)]
    records = measured(params, rows, repeats)
    sizes = repeats[0]["sizes"]
    print(
        f"{len(rows)} rows, {K} folds, {', '.join(names)}, {args.repeats} dealings, {time.perf_counter() - start:.0f} s"
    )
    print(f"images a network learns from: whole {sizes['whole']}, half {sizes['half']}, neither {sizes['alone']}")
    print("networks  metric      ordinary  neither  ordinary - neither (95 % interval)   by dealing")
    for one in records:
        each = " ".join(f"{value:+.4f}" for value in one["by_repeat"])
        interval = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        print(
            f"{one['networks']:9} {one['metric']:11} {one['ordinary']:8.4f} {one['neither']:8.4f}  {interval:35} {each}"
        )
    if args.json:
        storage.write_json(args.json, {"rows": len(rows), "models": names, "sizes": sizes, "records": records})


if __name__ == "__main__":
    main()
