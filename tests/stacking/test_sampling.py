"""Learning from a sample of rows: which are drawn, and that nothing else is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from labelstack.params.stackers import STACKERS, section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.sampling import some_rows
from labelstack.stacking.stackers.construction import load_stacker, make_stacker

KINDS = ["rank_mean", "weighted_mean", "greedy", "per_label_weights", "logistic", "ridge", "xgboost"]


def test_rows_are_drawn_in_their_order_and_the_same_each_time() -> None:
    drawn = some_rows(1000, 100)
    assert len(np.unique(drawn)) == 100
    np.testing.assert_array_equal(drawn, np.sort(drawn))
    np.testing.assert_array_equal(drawn, some_rows(1000, 100))
    assert np.arange(50)[some_rows(50, 100)].tolist() == list(range(50))
    assert np.arange(50)[some_rows(50, None)].tolist() == list(range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_on_all_rows_with_a_limit_is_the_fit_on_the_rows_drawn(kind: str) -> None:
    data = generate(300, 3, 6, n_test=40)
    section = section_of(kind)
    limited = make_stacker(section(kind=kind, rows=120)).fit(data.cube, data.labels)
    drawn = some_rows(300, 120)
    plain = make_stacker(section(kind=kind)).fit(data.cube[drawn], data.labels[drawn])
    np.testing.assert_array_equal(limited.predict_proba(data.test_cube), plain.predict_proba(data.test_cube))
    assert limited.digest() != plain.digest()


@pytest.mark.parametrize("kind", ["logistic", "xgboost"])
def test_out_of_fold_predicts_every_row_by_stackers_that_learnt_from_a_sample(kind: str) -> None:
    data = generate(400, 3, 5, n_test=0)
    folds = np.arange(400) % 4
    found = out_of_fold(lambda: make_stacker(section_of(kind)(kind=kind, rows=150)), data.cube, data.labels, folds)
    others = np.flatnonzero(folds != 0)
    drawn = others[some_rows(len(others), 150)]
    stacker = make_stacker(section_of(kind)(kind=kind)).fit(data.cube[drawn], data.labels[drawn])
    np.testing.assert_allclose(found.oof[folds == 0], stacker.predict_proba(data.cube[folds == 0]), atol=1e-6)


@pytest.mark.parametrize("kind", ["logistic", "xgboost"])
def test_without_a_limit_a_stacker_is_saved_as_before_there_was_one(kind: str, tmp_path) -> None:
    data = generate(150, 2, 3, n_test=0)
    stacker = make_stacker(section_of(kind)(kind=kind)).fit(data.cube, data.labels)
    stacker.save(tmp_path / "plain")
    assert "rows" not in (tmp_path / "plain/config.json").read_text()
    limited = make_stacker(section_of(kind)(kind=kind, rows=100)).fit(data.cube, data.labels)
    limited.save(tmp_path / "limited")
    assert load_stacker(tmp_path / "limited").digest() == limited.digest()


@pytest.mark.parametrize("strategy", ["expected_f", "global", "auto"])
def test_a_rule_is_chosen_on_the_rows_drawn(strategy: str) -> None:
    data = generate(500, 2, 8, n_test=0)
    P, folds = data.cube[:, 0], np.arange(500) % 5
    found = fit_decision(data.labels, P, ThresholdsSection(rows=200), strategy=strategy, folds=folds)
    drawn = some_rows(500, 200)
    by = {"strategy": strategy, "folds": folds[drawn]}
    wanted = fit_decision(data.labels[drawn], P[drawn], ThresholdsSection(), **by)
    assert found.to_dict() == wanted.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_rows_are_refused(kind: str) -> None:
    assert kind in STACKERS
    with pytest.raises(ValidationError, match="rows"):
        section_of(kind)(kind=kind, rows=10)
