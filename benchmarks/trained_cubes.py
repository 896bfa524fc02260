"""Small cubes of models that were really trained: python benchmarks/trained_cubes.py [--folder FOLDER] [--rows 700]

Fourteen cubes of four kinds: drawn garments, drawn museum objects, scikit-learn's digits in pairs, and scikit-learn's
made-up bags of words. Nine models of scikit-learn and XGBoost, which see different features, predict every row out of
fold. A cube is written once, as ``<kind>_<number>.npz`` with what ``labelstack bench`` reads.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from labelstack.sample import labels as garments
from labelstack.sample import museum
from labelstack.sample.exhibit import photograph_object
from labelstack.sample.scene import photograph
from labelstack.support.storage import replacing

Floats = NDArray[np.float32]
Table = tuple[dict[str, Floats], Floats]  # features by name, each [n, …]; labels [n, n_labels]
SIDE = 48  # pixels
FOLDS = 4
FEWEST = 8  # rows that a label needs to be in a cube


def pictures(images: list[NDArray[np.uint8]]) -> dict[str, Floats]:
    """Colours, gradients and a thumbnail of RGB images."""
    square = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
    colours = [
        np.concatenate(
            [np.histogram(part[..., c], 8, (0, 256))[0] for part in (im, im[12:36, 12:36]) for c in range(3)]
        )
        for im in square
    ]
    gradients = cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9)
    thumbs = [cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() for image in square]
    return {
        "colours": np.sqrt(np.array(colours, np.float32)),
        "shape": np.array([gradients.compute(image).ravel() for image in square], np.float32),
        "thumbnail": np.array(thumbs, np.float32) / 255,
    }


def garment_photos(n: int, seed: int) -> Table:
    """Drawn garments as in ``dataset.format: imaterialist``, with labels as annotators err."""
    images, Y = [], np.zeros((n, len(garments.NAMES)), np.float32)
    for row in range(n):
        outfit = garments.sample_outfit(np.random.default_rng([seed, row, 0]))
        images.append(photograph(outfit, SIDE, np.random.default_rng([seed, row, 1])))
        for name in garments.annotate(outfit.names(), 0.03, np.random.default_rng([seed, row, 2])):
            Y[row, garments.NAMES.index(name)] = 1
    return pictures(images), Y


def museum_photos(n: int, seed: int) -> Table:
    """Drawn museum objects as in ``dataset.format: imet2019``, labelled by one annotator."""
    images, Y = [], np.zeros((n, len(museum.NAMES)), np.float32)
    for row in range(n):
        exhibit = museum.exhibit_of(np.random.default_rng([seed, row, 0]))
        images.append(photograph_object(*exhibit, SIDE, np.random.default_rng([seed, row, 1])))
        Y[row, museum.annotated(exhibit.labels(), 0.2, 0.1, np.random.default_rng([seed, row, 2]))] = 1
    return pictures(images), Y


def digit_pairs(n: int, seed: int) -> Table:
    """Two noisy digits over one another; labels: which they are, whether both, and what holds for their sum."""
    digits = load_digits()
    rng = np.random.default_rng([seed, 5])
    pairs = rng.integers(0, len(digits.images), (n, 2))
    image = np.maximum(*(digits.images[pairs[:, side]] for side in (0, 1))) + rng.normal(0, 3, (n, 8, 8))
    one, two = digits.target[pairs].T
    holds = [(one == d) | (two == d) for d in range(10)] + [one + two == total for total in range(1, 18)]
    holds += [one == two, (one + two) % 2 == 0, one + two > 9, (one % 2 == 0) & (two % 2 == 0), abs(one - two) <= 1]
    flat = image.reshape(n, -1).astype(np.float32)
    sums = np.concatenate([image.sum(axis=1), image.sum(axis=2)], axis=1).astype(np.float32)
    return {"colours": sums, "shape": flat, "thumbnail": flat}, np.stack(holds, axis=1).astype(np.float32)


def bags_of_words(n: int, seed: int, labels: int) -> Table:
    """scikit-learn's generator of multi-label documents; each model sees some of the words."""
    rng = np.random.default_rng([seed, 7])
    X, Y = make_multilabel_classification(n, 90, n_classes=labels, n_labels=4, length=60, random_state=seed)
    words = rng.permutation(X.shape[1])
    parts = {"colours": words[:45], "shape": words[20:80], "thumbnail": words[50:]}
    return {name: np.sqrt(X[:, some]).astype(np.float32) for name, some in parts.items()}, Y.astype(np.float32)


def models(seed: int) -> dict[str, tuple[str, Any]]:
    """Name → the features that a model sees, and the model, not fitted."""
    scaled = partial(make_pipeline, StandardScaler())
    some = {"n_jobs": 1, "random_state": seed}
    small = PCA(40, random_state=seed)
    sgd = SGDClassifier(loss="log_loss", alpha=0.01, random_state=seed)
    return {
        "logistic": ("thumbnail", scaled(small, OneVsRestClassifier(LogisticRegression(C=0.05)))),
        "ridge": ("shape", scaled(Ridge(300))),
        "forest": ("colours", RandomForestClassifier(60, min_samples_leaf=3, **some)),
        "extra_trees": ("all", ExtraTreesClassifier(60, min_samples_leaf=2, **some)),
        "neighbours": ("shape", scaled(small, KNeighborsClassifier(15, weights="distance"))),
        "sgd": ("all", scaled(small, OneVsRestClassifier(sgd))),
        "bayes": ("colours", scaled(OneVsRestClassifier(GaussianNB(var_smoothing=0.1)))),
        "mlp": ("all", scaled(small, MLPClassifier(48, alpha=1, max_iter=40, random_state=seed))),
        "boosting": ("thumbnail", XGBClassifier(n_estimators=20, max_depth=3, learning_rate=0.2, **some)),
    }


def probability(model: Any, X: Floats) -> NDArray[Any]:
    """Probabilities [n, n_labels] of a fitted model."""
    if not hasattr(model, "predict_proba"):
        return expit(5 * (model.predict(X) - 0.5))  # what ridge gives for 0 and 1 becomes 0.08 and 0.92
    given = model.predict_proba(X)
    if not isinstance(given, list):
        return np.asarray(given)
    return np.stack([p[:, 1] if p.shape[1] == 2 else np.zeros(len(X)) for p in given], axis=1)


def make(table: Table, seed: int) -> tuple[Floats, Floats, list[str]]:
    """The cube [n, n_models, n_labels] of predictions out of fold, labels, and names of the models."""
    features, Y = table
    Y = Y[:, (Y.sum(axis=0) >= FEWEST) & (Y.mean(axis=0) <= 0.95)]
    features = features | {"all": np.concatenate(list(features.values()), axis=1)}
    kinds = models(seed)
    cube = np.empty((len(Y), len(kinds), Y.shape[1]), np.float32)
    for fit, held in KFold(FOLDS, shuffle=True, random_state=seed).split(Y):
        for place, (which, model) in enumerate(kinds.values()):
            X = features[which]
            cube[held, place] = probability(clone(model).fit(X[fit], Y[fit].astype(int)), X[held])
    return np.clip(cube, 1e-6, 1 - 1e-6), Y, list(kinds)


CUBES: dict[str, Callable[[int], Table]] = {
    **{f"garments_{i}": partial(garment_photos, seed=i) for i in range(4)},
    **{f"museum_{i}": partial(museum_photos, seed=i) for i in range(4)},
    **{f"digits_{i}": partial(digit_pairs, seed=i) for i in range(3)},
    **{f"words_{i}": partial(bags_of_words, seed=i, labels=labels) for i, labels in enumerate((12, 30, 60))},
}


def made(folder: Path, rows: int) -> dict[str, Path]:
    """Files of all cubes, made where they are not there; the rows of cubes of one kind differ."""
    warnings.filterwarnings("ignore")  # labels without positives in a fold, networks that have not converged
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, draw in CUBES.items():
        files[name] = folder / f"{name}-{rows}.npz"
        if files[name].exists():
            continue
        number = int(name[-1])
        start = time.perf_counter()
        cube, Y, names = make(draw(rows * (3 + number) // 4), number)
        with replacing(files[name]) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, cube=cube, labels=Y, models=np.array(names))
        share, seconds = Y.sum(axis=1).mean(), time.perf_counter() - start
        print(f"{name}: {' × '.join(map(str, cube.shape))}, {share:.1f} labels a row, {seconds:.0f} s", flush=True)
    return files


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/labelstack-cubes"))
    parser.add_argument("--rows", type=int, default=900, help="of the second cube of each kind")
    given = parser.parse_args()
    made(given.folder, given.rows)
