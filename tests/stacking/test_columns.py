"""Stackers keep the names of the columns that they were fitted on, and refuse others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labelstack.ensemble.folder import read_spec
from labelstack.stacking import FoldEnsemble, assign_folds, out_of_fold
from labelstack.stacking.stackers.construction import load_fold_ensemble
from labelstack.stacking.stackers.means import WeightedMeanStacker
from labelstack.support.errors import InputProblems, UserError

rng = np.random.default_rng(0)
CUBE = rng.random((40, 2, 3)).astype(np.float32)
Y = rng.random((40, 3)) < 0.5


def fitted(columns: list[str] | None) -> FoldEnsemble:
    return out_of_fold(WeightedMeanStacker, CUBE, Y, assign_folds(Y, 2, 0), columns=columns).ensemble


def test_another_order_is_refused_after_saving_and_loading(tmp_path: Path) -> None:
    fitted(["wide", "deep"]).save(tmp_path / "folds")
    stacker = load_fold_ensemble(tmp_path / "folds")
    assert stacker.columns == ["wide", "deep"]
    expected = stacker.predict_proba(CUBE)
    assert (stacker.predict_proba(CUBE, ["wide", "deep"]) == expected).all()
    for other in (["deep", "wide"], ["wide"], ["wide", "deep", "more"]):
        with pytest.raises(UserError, match="fitted on a cube of the models wide, deep in this order, not of"):
            stacker.predict_proba(CUBE, other)


def test_stackers_saved_before_columns_were_kept_take_any(tmp_path: Path) -> None:
    fitted(None).save(tmp_path / "folds")
    assert "columns" not in json.loads((tmp_path / "folds/config.json").read_text())
    stacker = load_fold_ensemble(tmp_path / "folds")
    assert (stacker.predict_proba(CUBE, ["deep", "wide"]) == stacker.predict_proba(CUBE)).all()


@pytest.mark.parametrize(("models", "said"), [(["wide", "deep"], None), (["deep", "wide"], "stacker mean: fitted on")])
def test_an_ensemble_of_stackers_under_other_models_is_refused(
    tmp_path: Path, models: list[str], said: str | None
) -> None:
    fitted(["wide", "deep"]).save(tmp_path / "stackers/mean")
    files = {
        "ensemble.json": {
            "models": {name: {"image_size": 24} for name in models},
            "stackers": ["mean"],
            "settings": {"tta": ["identity"]},
        },
        "labels.json": [{"label_id": i, "name": str(i)} for i in range(3)],
        "blend.json": {"weights": {"mean": 1.0}},
        "thresholds.json": {"thresholds": None, "decision": {}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    if said is None:
        assert read_spec(tmp_path).stackers == ["mean"]
    else:
        with pytest.raises(InputProblems, match=said):
            read_spec(tmp_path)
