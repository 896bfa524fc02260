"""Nested predictions as the stages leave them, computed again from the files that stand before them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from labelstack.formats.manifest import label_matrix, read_manifest
from labelstack.params import Params, load_params
from labelstack.predictions import Predictions, assemble_cube, read_predictions
from labelstack.stacking import assign_folds, make_stacker
from labelstack.stages.work import fit_blend, fit_stacker
from tiny import Workspace

K = 3


@dataclass
class Validation:
    """The validation split of the finished workspace: image_id [n], answers [n, n_labels], folds [n]."""

    data: Path
    params: Params
    image_id: NDArray[np.int64]
    Y: NDArray[np.uint8]
    folds: NDArray[np.int64]

    def read(self, place: str) -> Predictions:
        return read_predictions(self.data / place)


@pytest.fixture(scope="module")
def validation(finished: Workspace) -> Validation:
    data = finished.root / "data"
    params = load_params(finished.root / "params.yaml")
    manifest = read_manifest(data / "manifest/validation.parquet")
    labels = pd.read_parquet(data / "manifest/labels.parquet")["label_id"].to_numpy()
    Y = label_matrix(manifest["label_id"].tolist(), labels)
    assert params.folds.k == K
    return Validation(data, params, manifest["image_id"].to_numpy(), Y, assign_folds(Y, K, params.folds.seed))


def test_columns_are_of_models_without_that_fold(validation: Validation) -> None:
    found = validation.read("stacked/xgboost/nested.npy")
    assert np.array_equal(found.image_id, validation.image_id)
    assert found.probability.shape == (len(validation.Y), K, validation.Y.shape[1])
    members = {name: validation.read(f"predictions/{name}/oof.npy") for name in validation.params.models}
    cube, Y, folds = assemble_cube(members, validation.image_id), validation.Y, validation.folds
    own: dict[int, list[NDArray[np.float32]]] = {fold: [] for fold in range(K)}
    for a, b in combinations(range(K), 2):
        rest = ~np.isin(folds, (a, b))
        pair = make_stacker(validation.params.stackers["xgboost"]).fit(cube[rest], Y[rest])
        for fold, other in ((a, b), (b, a)):
            rows = folds == fold
            predicted = pair.predict_proba(cube[rows])
            np.testing.assert_array_equal(found.probability[rows, other], predicted)
            own[fold].append(predicted)
    for fold, predicted in own.items():
        mean = np.mean(predicted, axis=0)
        np.testing.assert_allclose(found.probability[folds == fold, fold], mean, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "xgboost"])
def test_a_row_has_another_prediction_for_each_fold_that_is_scored(validation: Validation, name: str) -> None:
    nested = validation.read(f"stacked/{name}/nested.npy").probability
    oof = validation.read(f"stacked/{name}/oof.npy").probability
    for a, b in combinations(range(K), 2):
        assert not np.array_equal(nested[:, a], nested[:, b])
    assert not np.array_equal(nested[np.arange(len(nested)), validation.folds], oof)


def test_the_blend_takes_each_row_from_the_column_of_its_fold(validation: Validation, finished: Workspace) -> None:
    weights = json.loads((finished.root / "models/ensemble/blend.json").read_text())["weights"]
    total = np.zeros(validation.Y.shape)
    for name, weight in weights.items():
        if name in validation.params.stackers:
            nested = validation.read(f"stacked/{name}/nested.npy").rows_of(validation.image_id)
            total += weight * nested[np.arange(len(nested)), validation.folds]
        else:
            total += weight * validation.read(f"predictions/{name}/oof.npy").rows_of(validation.image_id)
    blended = validation.read("ensemble/oof.npy").rows_of(validation.image_id)
    assert any(weights[name] > 0 for name in validation.params.stackers)
    np.testing.assert_allclose(blended, total, atol=1e-6)


def test_what_is_left_in_files_gives_the_same_bytes(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (
        "data/manifest",
        "data/folds",
        "data/predictions",
        "data/stacked",
        "data/ensemble",
        "models",
        "metrics",
    ):
        shutil.copytree(finished.root / folder, tmp_path / folder)
    shutil.copyfile(finished.root / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    folders = ("data/stacked/xgboost", "data/ensemble", "models/ensemble", "models/stackers/xgboost/folds")
    files = sorted(file for folder in folders for file in Path(folder).rglob("*") if file.is_file())
    before = {file: file.read_bytes() for file in files}
    assert Path("data/stacked/xgboost/nested.npy") in before
    monkeypatch.setattr("labelstack.stacking.fold_predictions.IN_MEMORY", 0)
    params, work = load_params(), tmp_path / "work"
    fit_stacker.compute(params, "xgboost", work)
    fit_blend.compute(params)
    differ = [file for file in files if file.read_bytes() != before[file]]
    assert set(differ) <= {Path("models/ensemble/thresholds.json")}  # a number of params.yaml may be 1 here, 1.0 there
    assert all(json.loads(file.read_text()) == json.loads(before[file]) for file in differ)
    assert {file.suffix for file in work.iterdir()} == {""}  # fits; the cubes are gone
