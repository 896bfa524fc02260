"""`prediction.views` and the lists that name them: what they stand for, and what is said of wrong ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstack.params import Params, load_params
from labelstack.params.prediction_views import OneView, ViewSection, one_view, single_views
from labelstack.rehearsal.shrink import shrink
from labelstack.stages.settings import settings
from labelstack.support.errors import InputProblems
from tiny import REPOSITORY, merged

SHIPPED = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
VIEWS: dict[str, Any] = {
    "nine": {"crop": "nine", "scale": 1.25, "flip": "both"},
    "near": {"random_crop": [0.6, 1], "n": 3, "seed": 4},
    "close": {"crop": "top", "share": 0.5, "flip": True},
}


def stated(change: dict[str, Any]) -> dict[str, Any]:
    """The shipped params with the views above and a change; what it says of models is put into them."""
    own = {name: {**model, **change.get("models", {}).get(name, {})} for name, model in SHIPPED["models"].items()}
    return merged(copy.deepcopy(merged(SHIPPED, {"prediction": {"views": VIEWS}})), change | {"models": own})


def problems(folder: Path, change: dict[str, Any]) -> list[str]:
    """What `labelstack check` says of the shipped params with a change."""
    (folder / "params.yaml").write_text(yaml.safe_dump(stated(change), sort_keys=False))
    with pytest.raises(InputProblems) as caught:
        load_params(folder / "params.yaml")
    return list(caught.value.problems)


def shown(names: Sequence[str]) -> list[Any]:
    views = {name: ViewSection(**section) for name, section in VIEWS.items()}
    return [view.as_json() for view in single_views(names, views, 100).values()]


def test_names_stand_for_single_views_in_order() -> None:
    assert shown(["hflip", "close", "identity"]) == [
        "hflip", {"crop": "top", "share": 0.5, "flip": True}, "identity",
    ]  # fmt: skip
    nine = shown(["nine"])
    assert len(nine) == 18
    assert nine[:2] == [{"crop": "center", "scale": 1.25}, {"crop": "center", "scale": 1.25, "flip": True}]
    assert len({view["crop"] for view in nine}) == 9
    drawn = {"area": [0.6, 1.0], "ratio": [0.8, 1.25], "seed": 104}
    assert shown(["near"]) == [{**drawn, "number": number} for number in range(3)]


def test_ten_crops_are_centre_and_corners_each_mirrored_too() -> None:
    found = shown(["ten_crops"])
    places = ("center", "top_left", "top_right", "bottom_left", "bottom_right")
    plain = [{"crop": place, "share": 0.875} for place in places]
    assert found == [view for part in plain for view in (part, {**part, "flip": True})]


def test_several_views_of_a_name_are_numbered_and_a_name_may_count_twice() -> None:
    views = {"near": ViewSection(random_crop=(0.5, 1), n=2), "close": ViewSection(crop="top")}
    assert list(single_views(["near", "close", "close"], views, 0)) == ["near#0", "near#1", "close", "close@2"]


def test_single_views_come_back_from_json() -> None:
    views = {name: ViewSection(**section) for name, section in VIEWS.items()}
    for view in single_views(["identity", "hflip", "ten_crops", *VIEWS], views, 7).values():
        assert one_view(view.as_json()) == view
    assert one_view("hflip") == OneView(flip=True)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"crop": "centre"}, "prediction.views.x.crop: unknown crop 'centre'; did you mean 'center'? (known: center, "),
        ({"crop": "center", "share": 1.2}, "prediction.views.x.share: input should be less than or equal to 1, not"),
        ({"crop": "center", "share": 0}, "prediction.views.x.share: input should be greater than 0, not 0"),
        ({"scale": 0.9}, "prediction.views.x.scale: input should be greater than or equal to 1, not 0.9"),
        ({"crop": "top", "share": 0.5, "scale": 2}, "prediction.views.x: share and scale both say how large"),
        ({"share": 0.5}, "prediction.views.x: share is of a crop"),
        ({"crop": "top", "random_crop": [0.5, 1]}, "prediction.views.x: a view has either crop (or scale) or random_"),
        ({"flip": True}, "prediction.views.x: a view has either crop (or scale) or random_crop, and neither"),
        ({"random_crop": [0.5, 1.5]}, "prediction.views.x.random_crop: must be [low, high] with 0 < low"),
        ({"crop": "top", "ratio": [1, 2]}, "prediction.views.x: ratio is of random_crop"),
        ({"crop": "nine", "n": 4}, "prediction.views.x: n and seed are for what is random"),
        ({"crop": "nine", "seed": 4}, "prediction.views.x: n and seed are for what is random"),
        ({"crop": "nine", "flip": "odd"}, "prediction.views.x.flip: must be true, false or both, not 'odd'"),
        ({"corp": "nine"}, "prediction.views.x.corp: unknown key; did you mean 'crop'?"),
    ],
)
def test_a_view_that_cannot_be_is_refused(tmp_path: Path, section: dict[str, Any], told: str) -> None:
    assert any(line.startswith(told) for line in problems(tmp_path, {"prediction": {"views": {"x": section}}}))


def test_all_unknown_names_are_told_at_once_also_beside_other_faults(tmp_path: Path) -> None:
    change = {
        "prediction": {"tta": ["vflip"], "views": {"hflip": {"crop": "top"}, "Odd name": {"crop": "top"}}},
        "models": {"pixels": {"tta": ["clos"], "epochs": 0}, "efficientnet": {"tta": ["identity", "nien"]}},
    }
    found = "\n".join(problems(tmp_path, change))
    known = "(known: identity, hflip, ten_crops, nine, near, close"
    assert f"prediction.tta.0: unknown view 'vflip'; did you mean 'hflip'? {known}" in found
    assert "models.pixels.tta.0: unknown view 'clos'; did you mean 'close'?" in found
    assert "models.efficientnet.tta.1: unknown view 'nien'; did you mean 'nine'?" in found
    assert "prediction.views.hflip: is there already" in found
    assert "prediction.views.Odd name: a name is lower-case letters" in found
    assert "models.pixels.epochs" in found


def test_lists_of_folds_and_of_a_second_round_are_checked_too(tmp_path: Path) -> None:
    crop = {"kind": "crop", "after": ["efficientnet"], "boxes": "boxes.csv", "tta": ["gone"]}
    change = {
        "base_models": [0, 1, 2, 3, 4],
        "models": {"pixels": {"by_fold": {"3": {"tta": ["away"]}}}},
        "second_round": {"closer": crop},
    }
    found = problems(tmp_path, change)
    assert [line.partition(":")[0] for line in found] == ["second_round.closer.tta.0", "models.pixels.by_fold.3.tta.0"]


def test_more_views_than_a_network_may_have_are_refused(tmp_path: Path) -> None:
    views = {"many": {"random_crop": [0.5, 1], "n": 64, "flip": "both"}}
    change = {"prediction": {"views": views, "tta": ["many", "many", "hflip"]}}
    assert problems(tmp_path, change) == ["prediction.tta: 257 views of each image; at most 256 are possible"]


def test_a_models_own_list_goes_before_that_of_all_and_second_rounds_take_it_on() -> None:
    crop = {"kind": "crop", "after": ["efficientnet"], "boxes": "boxes.csv"}
    own = {"second_round": {"named": {**crop, "tta": ["hflip"]}, "taken": crop}}
    by_fold = {
        "base_models": [0, 1, 2, 3, 4],
        "models": {"efficientnet": {"tta": ["near"], "by_fold": {"2": {"tta": ["nine"]}}}},
    }
    params = Params.model_validate(stated({**own, **by_fold}))
    names = {name: [params.view_names(name, fold) for fold in ("1", "2")] for name in params.cube_columns}
    assert names == {
        "plain_cnn": [["identity", "hflip"]] * 2,
        "efficientnet": [["near"], ["nine"]],
        "pixels": [["identity", "hflip"]] * 2,
        "silhouette_pixels": [["identity", "hflip"]] * 2,
        "named": [["hflip"]] * 2,
        "taken": [["near"], ["nine"]],
    }
    assert params.views_of("efficientnet", "1")["near#1"].seed == params.seed + 4


def test_how_a_network_predicts_is_no_matter_of_its_training() -> None:
    before, after = (Params.model_validate(stated(c)) for c in ({}, {"models": {"pixels": {"tta": ["close"]}}}))
    assert before.models["pixels"].as_trained() == after.models["pixels"].as_trained()
    assert settings(before)["models"] == settings(after)["models"]
    assert settings(after)["tta"]["pixels"] == {"all": [{"crop": "top", "share": 0.5, "flip": True}]}
    assert settings(before)["tta"]["pixels"] == {"all": ["identity", "hflip"]}


def test_what_is_named_otherwise_or_by_no_list_decides_nothing() -> None:
    params = Params.model_validate(stated({"prediction": {"tta": ["close"]}}))
    content = stated({"prediction": {"tta": ["nearer"]}})
    content["prediction"]["views"]["nearer"] = content["prediction"]["views"].pop("close")
    del content["prediction"]["views"]["nine"]
    assert settings(Params.model_validate(content)) == settings(params)


def test_a_rehearsal_shows_few_views_by_the_same_names() -> None:
    content = stated({"prediction": {"tta": ["nine", "near"]}, "models": {"pixels": {"tta": ["near", "close"]}}})
    given = copy.deepcopy(content)
    small = Params.model_validate(shrink(content, Params.model_validate(content)))
    assert content == given
    assert list(small.views_of("plain_cnn", "all")) == ["nine#0", "nine#1", "near#0", "near#1"]
    assert list(small.views_of("pixels", "all")) == ["near#0", "near#1", "close"]
