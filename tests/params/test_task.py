"""What `dataset.task` means to the other sections of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstack.params import Params, load_params
from labelstack.stages.settings import settings
from labelstack.support.errors import InputProblems
from tiny import REPOSITORY, merged

MODEL = {"backbone": "small_cnn"}
SINGLE: dict[str, Any] = {
    "dataset": {"task": "single_label"},
    "models": {"a": MODEL, "b": MODEL | {"loss": "cross_entropy"}},
    "stackers": {"mean": {"kind": "mean"}},
}


def told(tmp_path: Path, content: dict[str, Any]) -> list[str]:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputProblems) as caught:
        load_params(tmp_path / "params.yaml")
    return caught.value.problems


@pytest.mark.parametrize("thresholds", [None, {}, {"strategy": "auto"}, {"strategy": "argmax", "calibration": "none"}])
def test_what_is_not_stated_is_what_one_label_needs(thresholds: dict[str, Any] | None) -> None:
    params = Params.model_validate(SINGLE | ({} if thresholds is None else {"thresholds": thresholds}))
    assert params.thresholds.exclusive
    assert params.thresholds.calibration == (thresholds or {}).get("calibration", "temperature")
    assert [params.network(name, "all").loss for name in "ab"] == ["cross_entropy"] * 2
    assert Params.model_validate(params.model_dump(mode="json")) == params


def test_what_is_for_any_number_of_labels_is_refused_all_at_once(tmp_path: Path) -> None:
    models = {"a": MODEL | {"loss": "bce"}, "b": MODEL | {"by_fold": {"1": {"loss": "focal"}}}}
    thresholds = {"strategy": "per_label", "calibration": "platt"}
    change = {"models": models, "thresholds": thresholds, "base_models": [0, 1], "folds": {"k": 2}}
    assert told(tmp_path, SINGLE | change) == [
        "thresholds.strategy: per_label gives any number of labels, and dataset.task is single_label: use argmax (or "
        "auto, which means it)",
        "thresholds.calibration: platt would not keep the sum of an image's probabilities at 1, and dataset.task is "
        "single_label: use temperature or none",
        "models.a.loss: bce is for multi_label, and dataset.task is single_label: use cross_entropy",
        "models.b.by_fold.1.loss: focal is for multi_label, and dataset.task is single_label: use cross_entropy",
    ]


def test_what_is_for_one_label_is_refused_for_many(tmp_path: Path) -> None:
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    change = {"thresholds": {"strategy": "argmax", "calibration": "temperature"}}
    content = merged(shipped, change)
    content["models"]["pixels"]["loss"] = "cross_entropy"
    assert [problem.partition(",")[0] for problem in told(tmp_path, content)] == [
        "thresholds.strategy: argmax gives exactly one label",
        "thresholds.calibration: temperature is for labels that sum to 1",
        "models.pixels.loss: cross_entropy is for single_label",
    ]


def test_for_many_labels_nothing_is_put_in() -> None:
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params = Params.model_validate(shipped)
    assert {model.loss for model in params.models.values()} == {"bce"}
    assert (params.thresholds.strategy, params.thresholds.calibration) == ("auto", "platt")


def test_settings_say_what_is_meant() -> None:
    content = settings(Params.model_validate(SINGLE))
    assert content["thresholds"]["strategy"] == "argmax"
    assert content["models"]["a"]["all"]["loss"] == "cross_entropy"
    stated = settings(Params.model_validate(SINGLE | {"thresholds": {"strategy": "argmax"}}))
    assert stated == content


def test_groups_of_a_model(tmp_path: Path) -> None:
    model = {"backbone": "small_cnn"}
    fashion = {"format": "fashionai2018", "task": "single_label", "label_ids": None, "validation": 0.2}
    content: dict[str, Any] = SINGLE | {"dataset": fashion}
    sleeves = model | {"groups": ["sleeve_length_labels"]}
    second = {"closer": {"kind": "crop", "after": ["sleeves"], "boxes": "boxes.csv"}}
    content |= {"models": {"joint": model, "sleeves": sleeves}, "second_round": second}
    params = Params.model_validate(content)
    assert [params.groups_of(name) for name in ("joint", "sleeves", "closer", "blend")] == [
        [],
        ["sleeve_length_labels"],
        ["sleeve_length_labels"],
        [],
    ]
    assert params.network("closer", "all").groups == ["sleeve_length_labels"]
    del content["second_round"]
    content["models"] = {
        "twice": model | {"groups": ["collar_design_labels"] * 2},
    }
    assert "models.twice.groups: names collar_design_labels twice" in " ".join(told(tmp_path, content))
    content["models"] = {
        "sleeves": model | {"groups": ["sleeve"]},
        "other": model | {"by_fold": {"0": {"groups": ["collar_design_labels"]}}},
    }
    said = told(tmp_path, content)
    no_group = "models.sleeves.groups: there is no label group sleeve; there are coat_length_labels, collar"
    assert any(line.startswith(no_group) for line in said)
    assert "models.other.by_fold.0.groups: the networks of a model know the same label groups" in said
    content |= {"dataset": {"task": "single_label"}, "models": {"sleeves": sleeves}}
    alone = "models.sleeves.groups: is for rows that know one label group each, which dataset.format fashionai2018 has"
    assert any(line.startswith(alone) for line in told(tmp_path, content))
