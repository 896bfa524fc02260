"""How well `labelstack audit` finds labels that are known to be wrong or missing, against sorting by plain loss.

Draws museum objects whose annotator leaves labels out and mixes up near-synonyms, predicts every image by logistic
regressions on components of pixels and gradients that did not learn from it, and compares doubts with the truth.

    python benchmarks/label_audit.py [--images 1000] [--missing 0.2] [--mixed-up 0.1] [--seeds 3]
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelstack.params.sample import SampleSection
from labelstack.sample.museum import NAMES, draw_museum
from labelstack.scoring.label_doubts import Doubts, by_loss, label_doubts

SIDE, FIRST, FOLDS, COMPONENTS = 64, 100, 5, 100


def drawn(images: int, missing: float, mixed_up: float, seed: int) -> tuple[NDArray[Any], ...]:
    """Features float32 [n, f], labels as noted and as true, both bool [n, n_labels]."""
    params = SampleSection(n_train=images, n_test=10, image_size=SIDE, missing_labels=missing, mixed_up_labels=mixed_up)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "museum"
        draw_museum(root, params, seed)
        noted, true = labels_of(root / "train.csv"), labels_of(root / "train_answers.csv")
        X = np.array([features(root / "train" / f"{name}.png") for name in noted], np.float32)
    return X, hot(list(noted.values())), hot([true[name] for name in noted])


def labels_of(path: Path) -> dict[str, list[int]]:
    with path.open() as file:
        return {row["id"]: [int(label) for label in row["attribute_ids"].split()] for row in csv.DictReader(file)}


def hot(sets: list[list[int]]) -> NDArray[np.bool_]:
    Y = np.zeros((len(sets), len(NAMES)), bool)
    Y[np.repeat(np.arange(len(sets)), list(map(len, sets))), np.concatenate(sets)] = True
    return Y


def features(path: Path) -> NDArray[np.float32]:
    image = cv2.resize(cv2.imread(str(path)), (48, 48), interpolation=cv2.INTER_AREA)
    gradients = cv2.HOGDescriptor((48, 48), (16, 16), (8, 8), (8, 8), 9).compute(image)
    return np.concatenate([cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA).ravel() / 255, gradients.ravel()])


def cross_fitted(X: NDArray[Any], Y: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """Probabilities float64 [n, n_labels] of regressions that did not learn from the row."""
    P = np.zeros(Y.shape)
    for fit, held in KFold(FOLDS, shuffle=True, random_state=seed).split(X):
        seen = make_pipeline(StandardScaler(), PCA(COMPONENTS, random_state=seed)).fit(X[fit])
        learnt, asked = seen.transform(X[fit]), seen.transform(X[held])
        for label in np.flatnonzero(Y[fit].any(axis=0)):
            model = LogisticRegression(C=0.01, max_iter=200).fit(learnt, Y[fit, label])
            P[held, label] = model.predict_proba(asked)[:, 1]
    return P


def measured(found: Doubts, wrong: NDArray[np.bool_]) -> list[float]:
    """Precision of the first 100, precision and recall of all."""
    hits = wrong[found.row, found.label]
    return [hits[:FIRST].mean(), hits.mean(), hits.sum() / wrong.sum()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--missing", type=float, default=0.2)
    parser.add_argument("--mixed-up", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print("seed  wrong  doubted  ranking   first 100  precision  recall")
    for seed in range(asked.seeds):
        X, Y, truth = drawn(asked.images, asked.missing, asked.mixed_up, seed)
        P = cross_fitted(X, Y, seed)
        wrong, began = truth != Y, time.monotonic()
        found = label_doubts(P, Y)
        seconds = time.monotonic() - began
        for name, doubts in (("cleanlab", found), ("loss", by_loss(P, Y, len(found)))):
            first, precision, recall = measured(doubts, wrong)
            row = f"{wrong.sum():5d}  {len(doubts):7d}  {name:8s}  {first:9.2f}  {precision:9.3f}  {recall:6.3f}"
            print(f"{seed:4d}  {row}")
        added = (Y & ~truth).sum()
        print(
            f"      {wrong.sum() - added} missing, {added} put in wrongly; the filter took {seconds:.1f} s", flush=True
        )


if __name__ == "__main__":
    main()
