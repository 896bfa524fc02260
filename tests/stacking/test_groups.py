"""The second level where every row knows one label group: stackers, blends and decisions of each group on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.stackers import section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.attribute_rows import AttributeRows, LabelGroups
from labelstack.scoring.metric import metric_of
from labelstack.stacking.bench.attribute_generator import generate_attributes
from labelstack.stacking.by_group import ByGroup
from labelstack.stacking.crossfit import cross_fit, fit_blend, scores
from labelstack.stacking.deciding.decisions import Decision, fit_decision
from labelstack.stacking.deciding.group_calibration import GroupCalibration, fit_groups
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.group_worth import group_worth, log_loss
from labelstack.stacking.mixing import GroupMix, PlainMix, drawn_weights, fit_mix, mix_from
from labelstack.stacking.second_level import StackedEnsemble
from labelstack.stacking.stackers.construction import load_stacker, make_stacker, new_stacker, reference_of
from labelstack.support.errors import UserError

MAP = MetricSection(primary="attribute_map")
ARGMAX = ThresholdsSection(strategy="argmax", calibration="temperature")
EQUAL = BlendSection(method="equal", calibration="none")
GROUP = ("a", "a", "a", "b", "b")
DATA = generate_attributes(600, 4, seed=3, sizes=(3, 5, 2))
ASKED = DATA.asked
FOLDS = assign_folds(DATA.labels, 3, 0)
MEMBERS = {name: DATA.cube[:, i] for i, name in enumerate(DATA.models)}


def section(kind: str, **keys: Any) -> Any:
    return section_of(kind).model_validate({"kind": kind, **keys})


def by_hand(kind: str, cube: NDArray[Any], Y: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """A stacker a group, in a plain loop."""
    group = np.array(DATA.groups)
    names = list(dict.fromkeys(DATA.groups))
    found = np.zeros((len(new), len(group)))
    for name in names:
        columns = np.flatnonzero(group == name)
        mine = Y[:, columns].any(axis=1)
        shares = lambda part: part / part.sum(axis=2, keepdims=True)  # noqa: E731
        one = make_stacker(section(kind))
        one.fit(shares(cube[mine][:, :, columns]), Y[mine][:, columns])
        answer = one.predict_proba(shares(new[:, :, columns]))
        found[:, columns] = answer / answer.sum(axis=1, keepdims=True) / len(names)
    return found


@pytest.mark.parametrize("kind", ["mean", "weighted_mean", "logistic", "greedy"])
def test_each_group_is_stacked_by_its_own_rows_and_labels(kind: str) -> None:
    whole = np.random.default_rng(0).random(DATA.cube.shape).astype(np.float32)
    cube = np.where(np.isnan(DATA.cube), whole, DATA.cube)
    fitted = ByGroup.of(section(kind), DATA.groups).fit(cube, DATA.labels)
    found = fitted.predict_proba(cube[:50])
    np.testing.assert_allclose(found, by_hand(kind, cube, DATA.labels, cube[:50]), atol=1e-5)
    for columns in LabelGroups(DATA.groups).columns:
        np.testing.assert_allclose(found[:, columns].sum(axis=1), 1 / 3, rtol=1e-5)


def test_what_is_not_known_may_be_nan_or_anything_in_the_rows_that_are_fitted() -> None:
    filled = np.where(np.isnan(DATA.cube), 0.37, DATA.cube)
    nan, other = (
        ByGroup.of(section("weighted_mean"), DATA.groups).fit(cube, DATA.labels) for cube in (DATA.cube, filled)
    )
    assert nan.digest() == other.digest()
    inside = ASKED.inside
    np.testing.assert_allclose(nan.predict_proba(DATA.cube)[inside], other.predict_proba(filled)[inside])


def test_a_model_that_says_nothing_of_a_group_is_left_out_of_it() -> None:
    cube = DATA.cube.copy()
    columns = LabelGroups(DATA.groups).columns[1]
    cube[:, 2, columns] = np.nan
    fitted = ByGroup.of(section("mean"), DATA.groups).fit(cube, DATA.labels)
    assert fitted.models_ == [[0, 1, 2, 3], [0, 1, 3], [0, 1, 2, 3]]
    mine = ASKED.inside[:, columns[0]]
    others = DATA.cube[mine][:, [0, 1, 3]][:, :, columns]
    shares = others / others.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(3 * fitted.predict_proba(cube)[mine][:, columns], shares.mean(axis=1), rtol=1e-4)


def test_a_group_without_rows_is_answered_with_the_mean() -> None:
    rows = ASKED.known != "group_2"
    cube = np.where(np.isnan(DATA.cube), 0.5, DATA.cube)
    fitted = ByGroup.of(section("logistic"), DATA.groups).fit(cube[rows], DATA.labels[rows])
    assert [part is None for part in fitted.parts_] == [False, False, True]
    assert np.isfinite(fitted.predict_proba(cube)).all()


def test_a_saved_stacker_by_group_says_the_same_and_damage_is_told(tmp_path: Path) -> None:
    fitted = ByGroup.of(section("logistic"), DATA.groups).fit(DATA.cube, DATA.labels)
    fitted.save(tmp_path / "one")
    again = load_stacker(tmp_path / "one")
    assert again.digest() == fitted.digest()
    np.testing.assert_array_equal(again.predict_proba(DATA.cube), fitted.predict_proba(DATA.cube))
    made = new_stacker(reference_of(fitted), fitted.get_params())
    assert made.get_params() == fitted.get_params()
    (tmp_path / "one/config.json").write_text('{"kind": "by_group", "params": {"kind": "no"}}')
    with pytest.raises(UserError, match="not a saved stacker by label group"):
        load_stacker(tmp_path / "one")


def test_stacking_by_group_goes_through_folds_work_and_nesting(tmp_path: Path) -> None:
    make = lambda: ByGroup.of(section("weighted_mean"), DATA.groups)  # noqa: E731
    cube = np.nan_to_num(DATA.cube, nan=0.0)
    one = out_of_fold(make, cube, DATA.labels, FOLDS, nested=True, work=tmp_path)
    again = out_of_fold(make, cube, DATA.labels, FOLDS, nested=True, work=tmp_path)
    np.testing.assert_array_equal(one.oof, again.oof)
    fitted = cross_fit(one.predictions, DATA.labels, FOLDS, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    assert (fitted.labels.sum(axis=1) == 1).all()
    assert (fitted.labels <= ASKED.inside).all()


def test_a_blend_within_groups_by_hand() -> None:
    asked = AttributeRows.of(GROUP, ["a", "b"])
    one = np.float32([[0.7, 0.2, 0.1, 0, 0], [0, 0, 0, 0.9, 0.1]])
    two = np.float32([[0.2, 0.2, 0.6, 0, 0], [0, 0, 0, 0.5, 0.5]])
    mix = GroupMix(GROUP, {"one": [0.25, 1.0], "two": [0.75, 0.0]}, {"one": [1.0, 2.0], "two": [1.0, 1.0]})
    softened = np.sqrt([0.9, 0.1]) / np.sqrt([0.9, 0.1]).sum()
    expected = [[0.325, 0.2, 0.475, 0, 0], [0, 0, 0, *softened]]
    np.testing.assert_allclose(mix({"one": one, "two": two}), expected, rtol=1e-5)
    assert mix.weights == {"one": 0.625, "two": 0.375}
    whole = np.float32([[0.35, 0.1, 0.05, 0.45, 0.05]])
    both = mix({"one": whole, "two": whole})  # all groups said: half of the sum each
    np.testing.assert_allclose(both[0], [0.35, 0.1, 0.05, *softened / 2], rtol=1e-5)
    silent = mix({"one": np.float32([[0, 0, 0, 0.9, 0.1]]), "two": np.float32([[0.2, 0.2, 0.6, 0, 0]])})
    np.testing.assert_allclose(silent[0], [0.1, 0.1, 0.3, *softened / 2], rtol=1e-5)
    again = mix_from(mix.to_dict())
    np.testing.assert_array_equal(again({"one": whole, "two": whole}), both)
    assert isinstance(mix_from({"weights": {"one": 1.0}}), PlainMix)
    assert asked.groups.names == ("a", "b")


def test_equal_weights_without_calibration_are_the_plain_mean() -> None:
    mixed = fit_blend(MEMBERS, DATA.labels, FOLDS, blend_params=EQUAL, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    mean = np.nan_to_num(DATA.cube, nan=0.0).mean(axis=1)
    np.testing.assert_allclose(mixed.probability, ASKED.within(mean), atol=2e-6)
    judge = metric_of(MAP)
    expected = judge.score(DATA.labels > 0, judge.counts(DATA.labels > 0, mean, ASKED))
    found = scores(DATA.labels, mixed.probability, FOLDS, MAP, ARGMAX, asked=ASKED, fitted=mixed.cross_fitted)
    assert found["attribute_map_cross_fitted"] == pytest.approx(expected, abs=2e-3)
    assert found["attribute_map_cross_fitted_low"] <= expected <= found["attribute_map_cross_fitted_high"]
    accuracy = (mean.argmax(axis=1) == DATA.labels.argmax(axis=1)).mean()
    assert found["samples_f1_cross_fitted"] == pytest.approx(accuracy)


def test_temperatures_undo_what_was_done_to_a_model_and_weights_are_those_of_the_group() -> None:
    data = generate_attributes(3000, 2, seed=5, sizes=(4, 4))
    asked, Y = data.asked, data.labels > 0
    clean = asked.within(data.cube[:, 0])
    heat = np.where(asked.known == "group_0", 4.0, 0.5)[:, None]
    hot = asked.within(np.where(asked.inside, clean, 0) ** heat)
    mix = fit_mix({"clean": clean, "hot": hot}, Y, BlendSection(), MAP, asked=asked)
    ratio = np.array(mix.temperature["hot"]) / np.array(mix.temperature["clean"])
    np.testing.assert_allclose(ratio, [4.0, 0.5], rtol=0.1)
    noise = asked.within(np.random.default_rng(0).random(clean.shape))
    first = (asked.known == "group_0")[:, None]
    halves = {"first": np.where(first, clean, noise), "second": np.where(first, noise, clean)}
    own = fit_mix(halves, Y, BlendSection(), MAP, asked=asked)
    same = fit_mix(halves, Y, BlendSection(weights="shared"), MAP, asked=asked)
    assert own.of_group["first"][1] < 0.25 < 0.75 < own.of_group["first"][0]
    assert same.of_group["first"][0] == same.of_group["first"][1]
    for mixture in (mix, own, same):
        assert sum(mixture.weights.values()) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_drawn_weights_have_a_likelihood_no_smaller_than_shared_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, shared = rng.random((3, 40)) ** 3 + 1e-6, rng.dirichlet(np.ones(3))
    weights = np.array(drawn_weights(right, shared.tolist()))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert np.log(weights @ right).sum() >= np.log(shared @ right).sum() - 1e-9


def test_members_of_one_group_are_blended_as_if_each_group_were_alone() -> None:
    """Separate networks, NaN outside of their group: the blend is that of the members that speak, group by group."""
    names = list(dict.fromkeys(DATA.groups))
    inside = ASKED.inside
    separate = {
        f"{member}_{name}": np.where(inside & (ASKED.known == name)[:, None], P, np.nan)
        for member, P in list(MEMBERS.items())[:2]
        for name in names
    }
    blended = fit_blend(separate, DATA.labels, FOLDS, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    assert isinstance(blended.mix, GroupMix)
    for place, name in enumerate(names):
        weights = {member: own[place] for member, own in blended.mix.of_group.items()}
        assert sum(weights.values()) == pytest.approx(1)
        assert all(weight == 0 for member, weight in weights.items() if not member.endswith(f"_{name}"))
    found = ASKED.within(blended.cross_fitted.probability)
    judge = metric_of(MAP)
    by = {"metric": MAP, "thresholds": ARGMAX, "asked": ASKED}
    alone = [cross_fit(P, DATA.labels, FOLDS, **by).given(judge) for P in list(MEMBERS.values())[:2]]
    worst = min(judge.score(DATA.labels, given) for given in alone)
    assert judge.score(DATA.labels, judge.given(DATA.labels, found > 1, found, ASKED)) > worst
    equal = fit_blend(separate, DATA.labels, FOLDS, blend_params=EQUAL, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    pair = [ASKED.within(P) for P in list(MEMBERS.values())[:2]]
    np.testing.assert_allclose(ASKED.within(equal.probability), (pair[0] + pair[1]) / 2, atol=1e-6)


def test_greedy_weights_go_by_the_metric_and_never_below_the_best_member() -> None:
    judge, Y = metric_of(MAP), DATA.labels > 0
    settings_ = BlendSection(method="greedy", step=0.25, calibration="none", weights="shared")
    masked = {name: ASKED.within(P) for name, P in MEMBERS.items()}
    mix = fit_mix(masked, Y, settings_, MAP, asked=ASKED)
    best = max(judge.objective(Y, asked=ASKED)(P) for P in masked.values())
    assert judge.objective(Y, asked=ASKED)(mix(masked)) >= best - 1e-4
    with pytest.raises(UserError, match="nelder_mead goes by thresholds"):
        fit_mix(masked, Y, BlendSection(method="nelder_mead"), MAP, asked=ASKED)


def test_a_decision_gives_one_label_of_each_group_that_has_any_probability() -> None:
    rule = Decision("argmax", GroupCalibration(GROUP, (2.0, 1.0)), group=GROUP)
    P = np.float32([[0.1, 0.3, 0.1, 0.3, 0.2], [0, 0, 0, 0.4, 0.6], [0.25, 0.25, 0.5, 0, 0]])
    expected = [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(rule.decide(P), np.array(expected, bool))
    told = rule.told(P)
    np.testing.assert_allclose(told[0, :3], np.sqrt([0.2, 0.6, 0.2]) / np.sqrt([0.2, 0.6, 0.2]).sum(), rtol=1e-5)
    np.testing.assert_allclose(told[0, 3:], [0.6, 0.4], rtol=1e-5)
    again = Decision.from_dict(rule.to_dict())
    assert again.to_dict() == rule.to_dict()
    np.testing.assert_array_equal(again.told(P), told)


def test_offsets_move_decisions_to_where_the_labels_are() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    true = rng.choice(2, n, p=[0.85, 0.15])
    Y = np.eye(2, dtype=bool)[true]
    view = (true * 2 - 1) * 0.5 + rng.normal(size=n)
    p = 1 / (1 + np.exp(-view))  # as if both were as frequent
    P, asked = np.column_stack([1 - p, p]).astype(np.float32), AttributeRows.of(["x", "x"], ["x"] * n)
    plain, moved = (
        fit_decision(Y, P, ARGMAX.model_copy(update={"prior_bias": on}), MAP, asked=asked) for on in (False, True)
    )
    accuracy = [float((rule.decide(P) == Y).all(axis=1).mean()) for rule in (plain, moved)]
    assert accuracy[1] > accuracy[0] + 0.05
    assert log_loss(Y, moved.told(P)) < log_loss(Y, plain.told(P))
    assert not fit_groups(Y, P, asked).offset


def test_what_calibration_and_weights_are_worth_is_the_difference_of_scores() -> None:
    mixed = fit_blend(MEMBERS, DATA.labels, FOLDS, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    found = group_worth(MEMBERS, mixed.cross_fitted, DATA.labels, FOLDS, BlendSection(), ARGMAX)
    judge = metric_of(MAP)
    whole = judge.score(DATA.labels > 0, mixed.cross_fitted.given(judge))
    for name in ("plain_mean", "uncalibrated"):
        assert found[f"{name}_gain"] == pytest.approx(whole - found[f"{name}_attribute_map"])
        assert found[f"{name}_gain_low"] <= found[f"{name}_gain"] <= found[f"{name}_gain_high"]
    assert found["log_loss_cross_fitted"] < found["plain_mean_log_loss"]


def test_the_whole_second_level_by_group_beats_the_plain_mean_of_miscalibrated_models() -> None:
    stackers = {"weighted": make_stacker(section("weighted_mean")), "mean": make_stacker(section("mean"))}
    ensemble = StackedEnsemble(stackers, metric=MAP, thresholds=ARGMAX, k=3)
    ensemble.fit(DATA.cube, DATA.labels, folds=FOLDS, asked=ASKED)
    mean = fit_blend(MEMBERS, DATA.labels, FOLDS, blend_params=EQUAL, metric=MAP, thresholds=ARGMAX, asked=ASKED)
    judge = metric_of(MAP)
    plain = judge.score(DATA.labels > 0, mean.cross_fitted.given(judge))
    assert ensemble.scores_["attribute_map_cross_fitted"] > plain
    new = generate_attributes(20, 4, seed=9, sizes=(3, 5, 2))
    P = ensemble.predict_proba(new.cube)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert (ensemble.predict(np.where(np.isnan(new.cube), 0.5, new.cube)).sum(axis=1) == 3).all()
    assert set(ensemble.table_) == {"weighted", "mean", *MEMBERS}
