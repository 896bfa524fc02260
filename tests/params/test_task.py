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
