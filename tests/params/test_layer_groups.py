"""Groups of layers that a network does not have are refused before it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labelstack.params import Params
from labelstack.params.backbone_names import OWN
from labelstack.params.layer_groups import GroupCount, group_count
from params.test_losses import content, problems


def phases(*trained: str) -> list[dict[str, Any]]:
    return [{"epochs": 1, "train": train} for train in trained]


CUT = {"backbone": "resnet50", "options": {"until": "conv3_block4_out"}}


def asks(k: int, network: str, n: int) -> str:
    return f"last_{k} asks for {k} groups of layers, and {network} {n}, head included: name at most last_{n}, or all"


def names(n: int, network: str) -> str:
    return (
        f"models.a: group_rates: names {n} factors, and {network} groups of layers, head included: name one for each, "
        "from the first to the head, or a single factor"
    )


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"phases": phases("head", "last_5", "last_9")},  # small_cnn: 3, and the head
            [f"models.a: phases.{place}: {asks(k, 'small_cnn has', 4)}" for place, k in ((1, 5), (2, 9))],
        ),
        (
            {"options": {"filters": [8, 8]}, "phases": phases("last_3")},
            [f"models.a: phases.0: {asks(3, 'small_cnn has', 2)}"],
        ),
        ({"group_rates": [0.1, 1]}, [names(2, "small_cnn has 4")]),
        (
            CUT | {"group_rates": [0.1] * 7, "phases": phases("last_7")},
            [f"models.a: phases.0: {asks(7, 'resnet50 has at most', 6)}", names(7, "resnet50 has at most 6")],
        ),
    ],
    ids=["phases", "filters", "rates", "cut off"],
)
def test_more_groups_than_there_are_and_other_many_factors_are_refused(
    keys: dict[str, Any], told: list[str], tmp_path: Path
) -> None:
    assert problems(tmp_path, content(**keys)) == told


@pytest.mark.parametrize(
    "keys",
    [
        {"phases": phases("head", "last_4", "all"), "group_rates": [0.1, 0.2, 0.5, 1]},
        {"backbone": "pnasnet5_large", "phases": phases("last_6"), "group_rates": [0.1] * 6},
        {"backbone": "descriptors", "phases": phases("last_1"), "group_rates": [0.1]},
        CUT | {"group_rates": [0.1] * 4},  # fewer: how many there are is seen when it is built
    ],
    ids=str,
)
def test_as_many_as_there_are_may_be_named(keys: dict[str, Any]) -> None:
    Params.model_validate(content(**keys))


def test_a_fold_and_a_second_round_are_checked_with_the_network_that_they_have(tmp_path: Path) -> None:
    last = phases("head", "last_6")
    of_fold = content(backbone="resnet34", phases=last, by_fold={"1": {"backbone": "small_resnet"}})
    of_fold |= {"base_models": [0, 1, 2], "folds": {"k": 3}}
    (told,) = problems(tmp_path, of_fold)
    assert told.startswith("models.a.by_fold.1.phases.1: last_6 asks for 6 groups of layers, and small_resnet has 4")
    closer = {"kind": "crop", "after": ["a"], "boxes": "boxes.csv", "phases": last}
    (told,) = problems(tmp_path, content() | {"second_round": {"closer": closer}})
    assert told.startswith("second_round.closer.phases.1: last_6 asks for 6 groups of layers, and small_cnn has 4")


def test_every_backbone_of_our_own_is_known_and_no_other() -> None:
    assert [name for name in OWN if group_count(name, {}) is None] == []
    assert group_count("somebodys", {}) is None
    assert group_count("silhouette_pixels", {"centre": 0.2}) is None
    assert group_count("mobilenet", {"alpha": 0.25}) == GroupCount(5)
    assert group_count("mobilenet", {"until": "conv_pw_2_relu"}) == GroupCount(5, exact=False)
