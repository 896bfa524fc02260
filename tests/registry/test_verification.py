"""Verification: what was changed is named, what is as it was passes, and nothing is left out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import labelstack
from ensemble.ensembles import VIEWS, files, rooms
from ensemble.records import HERE, WEIGHTS, jpegs, members, predictions, record
from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import Parts, assemble_folder, read_spec
from labelstack.ensemble.integrity import Registered, faults
from labelstack.ensemble.log import log_ensemble
from labelstack.ensemble.machine import source_digest
from labelstack.ensemble.recompute import ensemble_predictions
from labelstack.ensemble.record import ProbeImages, predictions_file
from labelstack.predictions import Predictions, read_predictions, write_predictions
from labelstack.registry.fetched import fetch
from labelstack.registry.verification import TOLERANCE, Agreement, recompute
from labelstack.registry.versions import register
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept
from labelstack.tracking.runs import Tracker

OTHER = HERE | {"numpy": "2"}
ROWS = [("small", "base model"), ("large", "base model"), ("stack", "stacker"), ("blend", "blend")]


def parts(tmp_path: Path, **change: Any) -> Parts:
    return dataclasses.replace(files(tmp_path / "parts", WEIGHTS), record=record(tmp_path, **change))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ensemble's folder with a record."""
    assemble_folder(tmp_path / "ensemble", parts(tmp_path))
    return tmp_path / "ensemble"


def tamper(folder: Path, name: str, row: int, by: float) -> None:
    """Change a number of the recorded predictions."""
    file = predictions_file(folder, name)
    kept = read_predictions(file)
    kept.probability[row, 1] += np.float32(by)
    write_predictions(file, kept.image_id, kept.probability)


def plus(by: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda answer: np.asarray(answer + np.float32(by), np.float32)


def failing(comparison: Agreement) -> list[tuple[str, str]]:
    return [(row.member, row.kind) for row in comparison.rows if row.problem]


def test_an_untouched_ensemble_passes_with_difference_zero(folder: Path) -> None:
    found = recompute(folder, members(), HERE)
    assert found.exact
    assert found.problems == found.other == []
    assert [(row.member, row.kind) for row in found.rows] == [*ROWS, ("blend", "label sets")]
    assert [row.difference for row in found.rows] == [0, 0, 0, 0, 0]
    assert [row.images for row in found.rows] == [5, 5, 6, 6, 6]


def test_members_whose_predictions_were_rounded_are_rounded_again(tmp_path: Path) -> None:
    kept = parts(tmp_path, predictions=predictions("float16"), dtype="float16")
    for dtype in ("float16", "float32"):
        made = dataclasses.replace(kept, settings=dataclasses.replace(kept.settings, dtype=dtype))
        assemble_folder(tmp_path / dtype, made)
    found = recompute(tmp_path / "float16", members(), HERE)
    assert [row.difference for row in found.rows] == [0, 0, 0, 0, 0]
    assert len(recompute(tmp_path / "float32", members(), HERE).problems) >= 3
    spec, own = read_spec(tmp_path / "float16"), rooms([])
    models = {name: partial(_rounded, model) for name, model in own.models.items()}
    served = Ensemble(spec, dataclasses.replace(own, models=models))
    images = {view: np.stack([own.decode(jpeg, view) for jpeg in jpegs()]) for view in VIEWS.values()}
    blended = predictions("float16")["blend"].probability
    np.testing.assert_array_equal(served.probabilities(images), blended)
    assert not np.array_equal(blended, predictions()["blend"].probability)


def _rounded(model: Callable[[Any], NDArray[np.float32]], images: Any) -> NDArray[np.float32]:
    return as_kept(model(images), "float16")


def test_probe_images_are_predicted_in_the_recorded_batches(folder: Path) -> None:
    seen: list[int] = []
    recompute(folder, members(seen=seen), HERE)
    assert seen == [3, 2, 3, 2]


def test_a_changed_number_of_a_stacker_is_named_alone(folder: Path) -> None:
    tamper(folder, "stack", 4, 0.001)
    found = recompute(folder, members(), HERE)
    assert failing(found) == [("stack", "stacker")]
    assert found.rows[2].difference == pytest.approx(0.001, rel=1e-3)
    assert found.problems == ["stacker `stack`: 1 of 6 images differ, by up to 0.001"]


def test_a_changed_number_of_the_blend_is_named(folder: Path) -> None:
    tamper(folder, "blend", 0, -0.5)
    found = recompute(folder, members(), HERE)
    assert failing(found)[0] == ("blend", "blend")
    assert {kind for _, kind in failing(found)} <= {"blend", "label sets"}


def test_a_base_model_that_answers_otherwise_is_named_alone(folder: Path) -> None:
    found = recompute(folder, members({"large": plus(1e-7)}), HERE)
    assert failing(found) == [("large", "base model")]


def test_all_that_differ_are_named(folder: Path) -> None:
    changed = {"small": plus(0.1), "large": plus(0.1), "stack": plus(0.3)}
    assert failing(recompute(folder, members(changed), HERE))[:4] == ROWS


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e-3), st.sampled_from(["small", "large", "stack"]))
def test_elsewhere_only_what_exceeds_the_tolerance_fails(by: float, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        assemble_folder(Path(place) / "ensemble", parts(Path(place)))
        found = recompute(Path(place) / "ensemble", members({name: plus(by)}), OTHER)
    assert not found.exact
    assert found.other == ["numpy '1' then, '2' here"]
    row = next(row for row in found.rows if row.member == name)
    assert row.difference is not None
    assert row.difference == pytest.approx(by, rel=0.1)
    assert bool(row.problem) == (row.difference > TOLERANCE)


def test_on_the_recorded_machine_the_tolerance_does_not_count(folder: Path) -> None:
    assert failing(recompute(folder, members({"stack": plus(TOLERANCE / 2)}), HERE))
    assert not failing(recompute(folder, members({"stack": plus(TOLERANCE / 2)}), OTHER))


def test_the_code_may_differ_without_loosening_anything(folder: Path) -> None:
    assert recompute(folder, members(), HERE | {"code": "y"}).exact


def test_nan_never_passes(folder: Path) -> None:
    found = recompute(folder, members({"small": lambda answer: answer * np.float32("nan")}), OTHER)
    assert ("small", "base model") in failing(found)


def test_one_member_that_fails_keeps_none_of_the_others_from_being_checked(folder: Path) -> None:
    def broken(answer: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("no such layer\nand more")

    found = recompute(folder, members({"small": broken, "stack": broken}), HERE)
    assert [(row.member, row.problem) for row in found.rows] == [
        ("small", "no such layer"),
        ("large", ""),
        ("stack", "no such layer"),
        ("blend", "nothing to blend: no answer of stack"),
    ]
    assert [row.difference for row in found.rows] == [None, 0, None, None]


def test_another_number_of_labels_is_told(folder: Path) -> None:
    found = recompute(folder, members({"large": lambda answer: answer[:, :2]}), HERE)
    assert found.problems == ["base model `large`: predicts 2 labels, recorded are 3"]


def test_recorded_predictions_that_are_damaged_are_told(folder: Path) -> None:
    predictions_file(folder, "blend").write_bytes(b"x")
    found = recompute(folder, members(), HERE)
    assert failing(found) == [("blend", "blend")]
    assert "blend.npy" in found.problems[0]


def test_without_the_base_models_predictions_nothing_above_can_be_checked(folder: Path) -> None:
    predictions_file(folder, "large").unlink()
    found = recompute(folder, members(), HERE)
    assert failing(found) == [("large", "base model"), ("stack", "stacker"), ("blend", "blend")]
    assert found.rows[0].problem == ""


def test_label_sets_must_be_equal_here_and_nearly_so_elsewhere(tmp_path: Path) -> None:
    """150 images, one of them with a probability on the threshold of a label: 1 % is two images."""
    random = np.random.default_rng(0)
    ids = np.arange(150)
    small = np.asarray(random.choice([0.1, 0.9], (150, 3)), np.float32)
    small[0] = 0.5
    kept = {name: Predictions(ids, small) for name in ("small", "large", "stack", "blend")}
    probe = ProbeImages(ids[:0], [], ids[:0])
    assemble_folder(tmp_path / "e", parts(tmp_path, predictions=kept, probe=probe, test_id=ids))
    lower = plus(-TOLERANCE / 2)
    elsewhere = recompute(tmp_path / "e", members({"stack": lower}), OTHER).rows[-1]
    assert (elsewhere.difference, elsewhere.problem) == (1, "")
    here = recompute(tmp_path / "e", members({"stack": lower}), HERE).rows[-1]
    assert here.problem == "1 of 150 images get other labels"


def test_the_submission_is_blended_from_the_members_that_have_a_say(folder: Path) -> None:
    spec, kept = read_spec(folder), predictions()
    found = ensemble_predictions(members(), spec, {name: kept[name] for name in spec.needed_models})
    assert found.probability.tobytes() == kept["blend"].probability.tobytes()
    alone = dataclasses.replace(spec, weights={"stack": 0.0, "small": 1.0, "large": 0.0})
    found = ensemble_predictions(members(), alone, {"small": kept["small"]})
    assert found.probability.tobytes() == kept["small"].probability.tobytes()


def test_a_version_is_fetched_as_it_was_registered(tracker: Tracker, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.4.6\n")
    with tracker.run("blend", "ensemble") as run:
        logged = log_ensemble(run, parts(tmp_path), requirements=lock)
    version = register(tracker, "labelstack", "d", lambda: logged)
    tags = tracker.client.get_model_version("labelstack", "1").tags
    found = fetch(tracker, version.uri, tmp_path / "fetched")
    assert faults(found.model, Registered.of(tags)) == []
    assert oct(found.model.parent.stat().st_mode & 0o777) == "0o700"
    assert source_digest(found.code) == source_digest(Path(labelstack.__file__).parent)
    assert json.loads((found.ensemble / "ensemble.json").read_text())["stackers"] == ["stack"]

    for file in list((tracker.root / "mlartifacts").rglob("ensemble.json")):
        shutil.rmtree(file.parent)
    with pytest.raises(UserError, match="models:/labelstack/1: not an ensemble"):
        fetch(tracker, version.uri, tmp_path / "again")
    shutil.rmtree(tracker.root / "mlartifacts")
    with pytest.raises(UserError, match="models:/labelstack/1"):
        fetch(tracker, version.uri, tmp_path / "once more")
