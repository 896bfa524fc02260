"""Folds by frequent labels alone, compared with a plain rewrite of that rule, to the files that are written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelstack.params import Params
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.rare_labels import frequent_labels
from labelstack.stages import paths
from labelstack.stages.rows import Rows
from labelstack.stages.work import assign_rows
from labelstack.support.errors import UserError
from tiny import TINY

RARE = 30


def generated(n: int, n_labels: int, seed: int) -> list[list[int]]:
    """One to three labels an image, most of which few images have."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, n_labels + 1)
    return [
        rng.choice(n_labels, size, replace=False, p=weight / weight.sum()).tolist() for size in rng.integers(1, 4, n)
    ]


def plain(labels: list[list[int]], rare: int) -> tuple[list[int], list[int]]:
    """Images that stay, and labels that count, one image after another."""
    in_all = Counter(label for row in labels for label in row)
    counting = sorted(label for label, count in in_all.items() if count > rare)
    return [i for i, row in enumerate(labels) if any(in_all[label] > rare for label in row)], counting


def assigned(monkeypatch: pytest.MonkeyPatch, labels: list[list[int]], **folds: Any) -> assign_rows.Assigned:
    Y = np.array([[label in row for label in range(80)] for row in labels])
    ids = np.arange(len(labels), dtype=np.int64) + 1000
    monkeypatch.setattr(assign_rows, "read_rows", lambda split: Rows(split, ids, ids, Y))
    none = np.zeros(0, np.int64)
    monkeypatch.setattr(assign_rows, "rows_there", lambda split: Rows(split, none, none, Y[:0]))
    paths.BESIDE.parent.mkdir(parents=True)
    pd.DataFrame({"split": [], "row_id": []}).to_parquet(paths.BESIDE)  # nothing is said of any row
    params = {**TINY, "base_models": [0, 1, 2, 3, 4], "folds": {"k": 5, **folds}}
    return assign_rows.compute(Params.model_validate(params))


def test_rare_labels_do_not_count_and_what_has_no_other_is_in_no_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = generated(1500, 80, 3)
    kept, counting = plain(labels, RARE)
    assert 1200 < len(kept) < 1500
    found = assigned(monkeypatch, labels, rare=RARE)
    assert (found.stacking, found.rare) == (len(kept), 1500 - len(kept))
    table = pd.read_parquet(paths.STACKING)
    assert table["row_id"].tolist() == [1000 + i for i in kept]
    Y = np.array([[label in labels[i] for label in counting] for i in kept])
    assert table["fold"].tolist() == assign_folds(Y, 5, 0).tolist()
    for fold in range(5):
        learned, asked = pd.read_parquet(paths.fit_rows(str(fold))), pd.read_parquet(paths.predicted_rows(str(fold)))
        own = table.loc[table["fold"] == fold, "row_id"]
        assert set(asked["row_id"]) == set(own)
        assert set(learned["row_id"]) == set(table["row_id"]) - set(own)
    counts = np.stack([Y[table["fold"] == fold].sum(axis=0) for fold in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0)).mean() <= 3  # every label that counts is spread


def test_at_the_limit_a_label_is_rare() -> None:
    Y = np.zeros((40, 3), bool)
    Y[:30, 0], Y[:31, 1] = True, True
    assert frequent_labels(Y, 30).tolist() == [False, True, False]


def test_without_it_all_rows_and_labels_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = [*generated(200, 80, 1), [], []]
    found = assigned(monkeypatch, labels)
    assert (found.stacking, found.rare) == (202, 0)
    Y = np.array([[label in row for label in range(80)] for row in labels])
    assert pd.read_parquet(paths.STACKING)["fold"].tolist() == assign_folds(Y, 5, 0).tolist()


def test_a_limit_that_no_label_passes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"folds.rare: no label has more than 300 of the 200 train images: lower it"):
        assigned(monkeypatch, generated(200, 80, 1), rare=300)


@pytest.mark.parametrize("other", [{"method": "rarest_first"}, {"column": "folds.csv"}])
def test_it_is_for_iterative_stratification_alone(other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"folds.rare: is for folds that are dealt by iterative stratification"):
        Params.model_validate({**TINY, "folds": {"k": 3, "rare": 30, **other}})
