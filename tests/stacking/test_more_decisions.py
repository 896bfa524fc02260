"""Rules of iMet 2019's solutions, against plain searches and cases counted by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.metrics import f_beta
from labelstack.stacking.crossfit import fit_blend, strategy_scores
from labelstack.stacking.deciding.decisions import cross_fitted, fit_decision
from labelstack.stacking.deciding.group_limits import GroupLimit, apply_limits, best_limits
from labelstack.stacking.deciding.one_threshold import of_mean_count
from labelstack.stacking.deciding.thresholds import best_global
from labelstack.support.errors import UserError

F2 = MetricSection(beta=2)
PLAIN = ThresholdsSection(calibration="none")
GROUPS = ["culture"] * 3 + ["tag"] * 5


def rows(n: int, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """At most one culture, at least one tag, and classifiers that do not know that."""
    rng = np.random.default_rng(seed)
    Y = np.zeros((n, 8), bool)
    some = rng.random(n) < 0.7
    Y[np.flatnonzero(some), rng.integers(0, 3, some.sum())] = True
    Y[np.arange(n), rng.integers(3, 8, n)] = True
    Y[:, 3:] |= rng.random((n, 5)) < 0.15
    score = 2.2 * Y + rng.normal(0, 1.2, Y.shape) - np.where(np.arange(8) < 3, 0.8, 2.2)
    return Y, (1 / (1 + np.exp(-score))).astype(np.float32)


def test_labels_of_a_group_by_hand() -> None:
    P = np.array([[0.9, 0.8, 0.7, 0.2, 0.1], [0.1, 0.2, 0.3, 0.05, 0.05]], np.float32)
    limits = [GroupLimit((0, 1, 2), 0.25, 0, 2), GroupLimit((3, 4), 0.5, 1, 2)]
    assert apply_limits(P, limits).tolist() == [[True, True, False, True, False], [False, False, True, True, False]]


def test_one_group_is_the_best_of_all_thresholds_and_limits() -> None:
    Y, P = rows(60)
    found = best_limits(Y, P, 2, 0.5)
    assert len(found) == 1
    cuts = [0.0, *np.sort(P.ravel()), 1.1]
    plain = max(
        f_beta(Y, apply_limits(P, [GroupLimit(tuple(range(8)), float(cut), least, most)]), average="samples", beta=2)
        for cut, least, most in product(cuts, range(3), range(1, 9))
        if least <= most
    )
    assert f_beta(Y, apply_limits(P, found), average="samples", beta=2) == pytest.approx(plain, abs=1e-9)


def test_no_group_alone_can_be_decided_better() -> None:
    Y, P = rows(80, 3)
    found = best_limits(Y, P, 2, best_global(Y, P, "samples", 2), GROUPS)
    reached = f_beta(Y, apply_limits(P, found), average="samples", beta=2)
    assert reached >= f_beta(Y, best_global(Y, P, "samples", 2) <= P, average="samples", beta=2) - 1e-12
    for place, limit in enumerate(found):
        cuts = [*np.sort(P[:, limit.labels].ravel()), 1.1]
        for cut, least, most in product(cuts, range(3), range(1, len(limit.labels) + 1)):
            if least <= most:
                other = [*found]
                other[place] = GroupLimit(limit.labels, float(cut), least, most)
                assert f_beta(Y, apply_limits(P, other), average="samples", beta=2) <= reached + 1e-9


def test_limits_that_are_given_are_kept_and_help_where_they_are_true() -> None:
    (Y, P), (new_Y, new_P) = rows(400, 1), rows(4000, 2)
    given = ThresholdsSection(calibration="none", limits={"culture": (0, 1)})
    rule = fit_decision(Y, P, given, F2, strategy="group_limits", groups=GROUPS)
    assert (rule.limits[0].least, rule.limits[0].most) == (0, 1)
    assert rule.limits[1].least >= 1  # every image has a tag
    decided = {
        name: f_beta(
            new_Y, fit_decision(Y, P, given, F2, strategy=name, groups=GROUPS).decide(new_P), average="samples", beta=2
        )
        for name in ("group_limits", "per_group")
    }
    assert decided["group_limits"] > decided["per_group"] + 0.002
    assert rule.decide(new_P)[:, :3].sum(axis=1).max() == 1
    wrong = ThresholdsSection(limits={"era": (0, 1)})
    with pytest.raises(UserError, match=r"thresholds.limits: no label group is called era \(there are: culture, tag\)"):
        fit_decision(Y, P, wrong, F2, strategy="group_limits", groups=GROUPS)


@pytest.mark.parametrize("limits", [{"tag": (2, 1)}, {"tag": (0, 0)}])
def test_limits_that_make_no_sense(limits: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"tag: must be .least, most. with least ≤ most and most ≥ 1"):
        ThresholdsSection(limits=limits)


def test_probability_minus_the_folds_own_threshold() -> None:
    """On new images, which the networks of all folds predict, as the published code has it: mean of p − t above 0."""
    Y, P = rows(300)
    folds = np.arange(300) % 5
    rule = fit_decision(Y, P, PLAIN, F2, strategy="per_fold", folds=folds)
    own = [best_global(Y[folds == fold], P[folds == fold], "samples", 2) for fold in range(5)]
    assert len(set(own)) > 1
    networks = np.stack([rows(50, seed)[1] for seed in range(5)])
    published = (networks - np.array(own)[:, None, None]).mean(axis=0) > 0
    np.testing.assert_array_equal(rule.decide(networks.mean(axis=0)), published)


def test_a_share_of_the_top_is_the_best_of_all_shares() -> None:
    Y, P = rows(60)
    P[0] = 0
    rule = fit_decision(Y, P, PLAIN, F2, strategy="top_share")
    ratio = np.divide(P, P.max(axis=1, keepdims=True), out=np.zeros_like(P), where=P.max(axis=1, keepdims=True) > 0)
    plain = max(f_beta(Y, (ratio >= c) & (P > 0), average="samples", beta=2) for c in np.unique(ratio))
    assert f_beta(Y, rule.decide(P), average="samples", beta=2) == pytest.approx(plain, abs=1e-9)
    assert not rule.decide(P)[0].any()
    np.testing.assert_array_equal(rule.decide(P[1:] / 2), rule.decide(P[1:]))


def test_new_images_get_as_many_labels_as_the_best_threshold_gives() -> None:
    (Y, P), (_, new) = rows(300), rows(500, 1)
    new = new**2  # another network: the threshold of P would give too few
    best = best_global(Y, P, "samples", 2)
    rule = fit_decision(Y, P, PLAIN, F2, strategy="mean_count", new=new)
    wanted = (best <= P).sum(axis=1).mean()
    assert rule.decide(new).sum(axis=1).mean() == pytest.approx(wanted, abs=0.5 / 500)
    assert (best <= new).sum(axis=1).mean() < wanted - 0.3
    same = fit_decision(Y, P, PLAIN, F2, strategy="mean_count")
    np.testing.assert_array_equal(same.decide(P), best <= P)


def test_thresholds_of_a_mean_count_by_hand() -> None:
    P = np.array([[0.1, 0.4], [0.6, 0.8]], np.float32)
    assert [of_mean_count(P, count) for count in (0.5, 1, 2)] == pytest.approx([0.7, 0.5, 0])
    assert not (of_mean_count(P, 0) <= P).any()


def test_each_is_cross_fitted_and_auto_may_choose_it() -> None:
    Y, P = rows(240)
    folds = np.arange(240) % 4
    mixed = fit_blend({"one": P}, Y, folds, metric=F2, thresholds=PLAIN, groups=GROUPS)
    table = strategy_scores({"one": P}, mixed.cross_fitted, Y, folds, metric=F2, thresholds=PLAIN, groups=GROUPS)
    assert {"per_fold", "top_share", "group_limits", "mean_count"} <= set(table)
    wanted = ThresholdsSection(calibration="none", candidates=["fixed", "group_limits"], fixed=0.9)
    assert fit_decision(Y, P, wanted, F2, groups=GROUPS, folds=folds).strategy == "group_limits"
    labels = cross_fitted(Y, P, PLAIN, F2, strategies=["mean_count", "per_fold"], folds=folds)
    for name, given in labels.items():
        for fold in range(4):
            left, out = folds != fold, folds == fold
            by = {"strategy": name, "folds": folds[left], "new": P[out]}
            rule = fit_decision(Y[left], P[left], PLAIN, F2, **by)  # type: ignore[arg-type]
            np.testing.assert_array_equal(given[out], rule.decide(P[out]))
        assert table[name]["samples_f2"] == pytest.approx(f_beta(Y, given, average="samples", beta=2))
