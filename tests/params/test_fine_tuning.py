"""`phases` and what goes with them: what is read, what is refused, and what overrides of folds make of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from labelstack.params import Params
from labelstack.params.models import ModelSection
from labelstack.rehearsal.shrink import shrink
from params.test_losses import content, model, problems

HEAD = {"epochs": 4, "train": "head"}
LAST = {"epochs": 2, "train": "last_3", "learning_rate": 1e-4, "schedule": {"kind": "constant"}}
KEPT: dict[str, Any] = {"phases": [HEAD, LAST], "features": {"variants": 3}, "batch_norm": "frozen"}


def test_epochs_are_those_of_the_phases() -> None:
    assert model(phases=[HEAD, LAST]).epochs == 6
    assert model(phases=[HEAD, LAST], epochs=6) == model(phases=[HEAD, LAST])
    section = model(**KEPT)
    assert ModelSection.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"phases": [HEAD, LAST], "epochs": 5}, "models.a: epochs: is 5, and phases take 6: leave it out or write 6"),
        ({"phases": [HEAD | {"train": "last_0"}]}, "models.a.phases.0.train: must be head, all or last_<k>"),
        ({"phases": [{"train": "all"}]}, "models.a.phases.0.epochs: is missing and has no default"),
        ({"features": {"variants": 1}}, "models.a: features: are kept of a frozen backbone: let phases begin with"),
        (KEPT | {"phases": [LAST]}, "models.a: features: are kept of a frozen backbone"),
        (KEPT | {"batch_norm": "moving"}, "models.a: phases.0: statistics of batch normalization would move"),
        (
            KEPT | {"phases": [HEAD, HEAD | {"batch_norm": "moving"}]},
            "models.a: phases.1: statistics of batch normalization would move",
        ),
        ({"group_rates": 0}, "models.a.group_rates: must be a factor above 0 and at most 10, or a list of such, not 0"),
        ({"group_rates": [0.1, True]}, "models.a.group_rates: must be a factor"),
        ({"clip_norm": 0}, "models.a.clip_norm: input should be greater than 0"),
        ({"schedule": {"kind": "cosine", "reload": True}}, "models.a.schedule: reload: is for kind plateau"),
        ({"schedule": {"kind": "one_cycle", "warmup_epochs": 2}}, "models.a.schedule: warmup_epochs: one_cycle warms"),
        (KEPT | {"mixup": 0.2, "cutmix": 1}, "models.a: cutmix: mixes images, and the head learns from kept features"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any], told: str, tmp_path: Any) -> None:
    assert any(problem.startswith(told) for problem in problems(tmp_path, content(**keys)))


def test_reload_needs_rows_that_are_held_out(tmp_path: Any) -> None:
    schedule = {"kind": "plateau", "reload": True}
    for keys in ({"schedule": schedule}, {"phases": [HEAD | {"schedule": schedule}]}):
        stated = content(**keys)
        Params.model_validate(stated)
        told = problems(tmp_path, stated | {"training": {"holdout": 0}})
        assert told == ["models.a: schedule.reload needs held-out rows: set training.holdout above 0"]


def test_factors_are_written_and_read_again() -> None:
    for rates in (1, 0.5, [0.1, 0.3, 0.5, 1]):
        section = model(group_rates=rates)
        written = section.model_dump(mode="json")
        assert written["group_rates"] == rates
        assert ModelSection.model_validate(written) == section


def test_a_fold_may_have_other_phases_or_none() -> None:
    section = model(phases=[HEAD, LAST], by_fold={"0": {"phases": [HEAD]}, "1": {"phases": [], "epochs": 3}})
    assert [section.of_fold(fold).epochs for fold in ("0", "1", "2")] == [4, 3, 6]
    with pytest.raises(ValidationError, match="epochs: is 3, and phases take 6"):
        model(phases=[HEAD, LAST], by_fold={"0": {"epochs": 3}}).of_fold("0")


def test_a_second_round_takes_phases_of_its_own_or_those_of_the_first() -> None:
    from labelstack.params.second_round import CropSection

    crop = {"kind": "crop", "after": ["a"], "boxes": "boxes.csv"}
    first = model(phases=[HEAD, LAST])
    assert CropSection(**crop).network([first]).phases == first.phases
    own = CropSection(**crop, phases=[HEAD]).network([first])
    assert (own.epochs, len(own.phases)) == (4, 1)
    kept = model(phases=[HEAD], batch_norm="frozen", features={"variants": 2})
    alone = CropSection(**crop, epochs=3).network([kept])
    assert (alone.epochs, alone.phases, alone.features.variants) == (3, (), 0)
    assert CropSection(**crop).network([kept]) == kept
    all_of_it = CropSection(**crop, phases=[{"epochs": 2, "train": "all"}]).network([kept])
    assert (all_of_it.epochs, all_of_it.features.variants) == (2, 0)
    written = CropSection(**crop, phases=[HEAD]).model_dump(mode="json")
    assert CropSection(**written).network([first]) == own


def test_a_rehearsal_has_an_epoch_of_each_phase() -> None:
    losses = {"kind": "phases", "of": [{"loss": "bce", "epochs": 3}, {"loss": "focal"}]}
    for stated in (
        KEPT | {"group_rates": [0.1] * 3 + [1.0]},
        KEPT | {"phases": [HEAD], "loss": losses, "by_fold": {"0": {"epochs": 4, "loss": "bce"}}},
    ):
        whole = content(**stated) | ({"base_models": [0, 1, 2], "folds": {"k": 3}} if "by_fold" in stated else {})
        small = shrink(whole, Params.model_validate(whole))
        made = Params.model_validate(small).models["a"]
        assert made.epochs == 2
        assert made.features.variants == 1
        assert made.group_rates in (0.5, 1)
        assert [phase.train for phase in made.phases] == ["head", "last_2"][: len(stated["phases"])]
        assert made.of_fold("0").phases[0].epochs in (1, 2)
