"""Base models that know some label groups alone: what they learn, predict and score, stage by stage in one process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from labelstack.formats.manifest import read_manifest
from labelstack.networks.inference import load_model
from labelstack.params import Params, load_params
from labelstack.predictions import answered, assemble_cube, known_rows, read_predictions
from labelstack.scoring.attribute_precision import AttributePrecision, letters_of
from labelstack.stages import download, ingest, members, paths, predict, sample, score, split, train
from labelstack.stages.fold_files import read_asked, read_audit, read_fitted, stacking_rows
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import base_model, base_models
from labelstack.stages.rows import label_table, named_rows
from labelstack.stages.work.score_all import answered_rows, audit_scores, read_test_answers
from labelstack.stages.work.score_all import test_scores as scores_of_test
from tiny import REPOSITORY, TINY, merged

SLEEVES = ["sleeve_length_labels"]
NECKS = ["neck_design_labels", "neckline_design_labels"]
SMALL = TINY["models"]["wide"] | {"epochs": 1}
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "fashionai2018",
        "task": "single_label",
        "answers": "data/sample/test_answers.csv",
        "label_ids": None,
        "validation": 0.25,
        "audit": 0.2,
    },
    "sample": {"n_train": 320, "n_test": 48, "image_size": 40},
    "folds": {"k": 2},
    "models": {
        "joint": SMALL,
        "sleeves": SMALL | {"groups": SLEEVES},
        "necks": SMALL | {"groups": NECKS},
    },
    "stackers": {"mean": {"kind": "mean"}},
    "thresholds": {"strategy": "argmax", "calibration": "temperature"},
    "training": {"holdout": 0.2},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all models are trained, have predicted and are scored."""
    folder = tmp_path_factory.mktemp("separate")
    content = merged(yaml.safe_load((REPOSITORY / "params.yaml").read_text()), merged(TINY, CHANGE))
    with chdir(folder):
        subprocess.run(["git", "init", "-q"], check=True)
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        for stage in (sample, ingest):
            stage.run()
        for part in ("train", "validation", "test"):
            download.run(part)
        split.run()
        for name in CHANGE["models"]:
            for of_model in (train, predict, score):
                of_model.run(name)
        members.run("base_models")
    return folder


@pytest.fixture
def params(made: Path) -> Iterator[Params]:
    with chdir(made):
        yield load_params()


def test_a_network_has_outputs_of_its_groups_alone(params: Params) -> None:
    (network,) = base_model("sleeves", params.networks).networks
    model = load_model(network.weights)
    mine = label_table()["group"].isin(SLEEVES).to_numpy()
    assert model.get_layer("logits").units == 9
    answers = np.asarray(model(np.zeros((2, 24, 24, 3), np.uint8)))
    assert (np.isnan(answers) == ~mine).all()
    np.testing.assert_allclose(answers[:, mine].sum(axis=1), 1 / 8, rtol=1e-5)


def test_it_learns_from_rows_of_its_groups(params: Params) -> None:
    (network,) = base_model("necks", params.networks).networks
    whole = read_fitted(network.fold).fit
    of_groups = named_rows("train", whole).of_groups(NECKS)
    assert 0 < len(of_groups) < len(whole)
    assert set(of_groups.known) == set(NECKS)
    frequencies = of_groups.Y.mean(axis=0)
    bias = load_model(network.weights).get_layer("logits").get_weights()[1]
    frequent = frequencies[label_table()["group"].isin(NECKS).to_numpy()]
    assert np.corrcoef(np.log(np.maximum(frequent, 1e-4)), bias)[0, 1] > 0.95  # where an epoch leaves it


@pytest.mark.parametrize(("name", "groups"), [("sleeves", SLEEVES), ("necks", NECKS)])
@pytest.mark.parametrize("part", ["oof", "test", "audit"])
def test_rows_of_other_groups_are_not_shown(params: Params, name: str, groups: list[str], part: str) -> None:
    own, joint = base_model(name), base_model("joint")
    found, whole = (read_predictions(getattr(member, part)) for member in (own, joint))
    assert found.image_id.tolist() == whole.image_id.tolist()
    split_of = {"oof": "validation", "test": "test", "audit": "train"}[part]
    known = read_manifest(paths.manifest(split_of)).set_index("image_id")["known"].loc[found.image_id]
    shown = known.isin(groups).to_numpy()
    assert (answered(found.probability) == shown).all()
    mine = label_table()["group"].isin(groups).to_numpy()
    assert (~np.isnan(found.probability[shown]) == mine).all()
    assert not np.isnan(whole.probability).any()
    cube = assemble_cube({"joint": whole, name: found}, found.image_id)
    assert np.isnan(cube[:, 1]).any()


def test_it_is_scored_on_its_rows(params: Params) -> None:
    own, rows = base_model("sleeves"), stacking_rows(params)
    mine = rows.of_groups(SLEEVES)
    P = read_predictions(own.oof).rows_of(mine.row_id)
    columns = label_table()["group"].isin(SLEEVES).to_numpy()
    accuracy = (P[:, columns].argmax(axis=1) == mine.Y[:, columns].argmax(axis=1)).mean()
    found = json.loads(own.scores.read_text())
    assert found["samples_f1_cross_fitted"] == pytest.approx(accuracy, abs=1e-6)
    sets = read_predictions(own.cross_fitted)
    given = sets.rows_of(mine.row_id)
    assert (given.sum(axis=1) == 1).all()
    assert sets.probability.sum() == given.sum()
    assert mine.maybe is not None
    assert mine.known is not None
    group = label_table()["group"].to_numpy(np.str_)
    AttributePrecision(letters_of(mine.Y, mine.maybe), np.nan_to_num(P), mine.known, group).score()


def test_what_is_new_to_it_is_scored_on_its_rows(params: Params) -> None:
    audit, own = read_audit(), base_model("sleeves")
    assert audit is not None
    asked = read_asked("all").audit
    assert asked is not None
    assert asked.of_groups(SLEEVES).tolist() == audit.of_groups(SLEEVES).row_id.tolist()
    found = audit_scores(params, own, audit, label_table())
    mine, columns = audit.of_groups(SLEEVES), label_table()["group"].isin(SLEEVES).to_numpy()
    P = read_predictions(own.audit).rows_of(mine.row_id)[:, columns]
    assert found["audit_samples_f1"] == pytest.approx((P.argmax(1) == mine.Y[:, columns].argmax(1)).mean())
    answers = read_test_answers(label_table())
    assert answers is not None
    test = known_rows(read_predictions(own.test))
    there = np.isin(answers[0], test.image_id)
    told = answered_rows(label_table())
    assert told is not None
    told = told.where(np.isin(told.row_id, test.image_id))
    given = answers[0][there], answers[1][there]
    scored = scores_of_test(params, test, load_decision(own.rule), given, label_table(), told)
    true = answers[1][there][:, columns]
    assert (true.sum(axis=1) == 1).all()
    accuracy = (test.rows_of(answers[0][there])[:, columns].argmax(axis=1) == true.argmax(axis=1)).mean()
    assert scored["test_samples_f1"] == pytest.approx(accuracy)


def test_every_member_is_listed(params: Params) -> None:
    assert [member.name for member in base_models(params)] == ["joint", "sleeves", "necks"]
    listed = json.loads(Path("data/members/base_models.json").read_text())
    assert [name for name, _ in listed["predictions"]] == ["joint", "sleeves", "necks"]
