"""`loss` as a name and as a section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstack.params import Params, load_params
from labelstack.params.models import ModelSection, put_in
from labelstack.stages import code
from labelstack.stages.settings import settings
from labelstack.support.errors import InputProblems

F2 = {"kind": "f_beta", "beta": 2.0}
MIX = {"kind": "mix", "of": [{"loss": "bce", "weight": 1.0}, {"loss": F2, "weight": 0.3}]}
PHASES = {"kind": "phases", "of": [{"loss": MIX, "epochs": 3}, {"loss": "focal", "epochs": None}]}


def model(**keys: Any) -> ModelSection:
    return ModelSection(backbone="small_cnn", **keys)


def content(**keys: Any) -> dict[str, Any]:
    return {"models": {"a": {"backbone": "small_cnn", **keys}}, "stackers": {"mean": {"kind": "mean"}}}


def problems(tmp_path: Path, stated: dict[str, Any]) -> list[str]:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(stated))
    with pytest.raises(InputProblems) as caught:
        load_params(tmp_path / "params.yaml")
    return caught.value.problems


@pytest.mark.parametrize("loss", ["bce", "f_beta", F2, MIX, PHASES], ids=str)
def test_what_is_written_is_read_again(loss: Any) -> None:
    section = model(loss=loss)
    written = section.model_dump(mode="json")
    assert written["loss"] == loss
    assert ModelSection.model_validate(written) == section
    assert hash(section.loss) == hash(ModelSection.model_validate(written).loss)


@pytest.mark.parametrize("loss", [{"kind": "focal"}, {"kind": "focal", "gamma": 2, "alpha": None}])
def test_options_that_are_the_usual_ones_are_the_name(loss: dict[str, Any]) -> None:
    assert model(loss=loss).loss == "focal"
    assert model(loss={"kind": "bce"}).loss == "bce"
    assert settings(Params.model_validate(content(loss=loss))) == settings(Params.model_validate(content(loss="focal")))


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"kind": "fokal"}, "models.a.loss.kind: unknown loss 'fokal'; did you mean 'focal'?"),
        ({"kind": "focal", "gama": 1}, "models.a.loss.gama: unknown key; did you mean 'gamma'?"),
        ({"kind": "bce", "beta": 1}, "models.a.loss.beta: unknown key (known here: kind)"),
        ({"kind": "f_beta", "beta": 0}, "models.a.loss.beta: input should be greater than 0, not 0"),
        ("mix", "models.a.loss: mix is made of other losses: write {kind: mix, of: […]}"),
        (3, "models.a.loss: must be a loss's name, or a section with the key kind, not 3"),
        ({"gamma": 1}, "models.a.loss: must be a loss's name, or a section with the key kind, not {'gamma': 1}"),
        ({"kind": "mix", "of": []}, "models.a.loss.of: must hold two losses or more, not 0"),
        (
            {"kind": "mix", "of": [{"loss": "bce", "wait": 1}, {"loss": "focal"}]},
            "models.a.loss.of.0.wait: unknown key; did you mean 'weight'?",
        ),
        (
            {"kind": "mix", "of": [{"loss": "bce"}, {"loss": {"kind": "f_beta", "beta": -1}}]},
            "models.a.loss.of.1.loss.beta: input should be greater than 0",
        ),
        (
            {"kind": "mix", "of": [{"loss": PHASES}, {"loss": "bce"}]},
            "models.a.loss.of.0.loss: a mix cannot hold phases: put them outside",
        ),
        (
            {"kind": "phases", "of": [{"loss": "bce"}, {"loss": "focal"}]},
            "models.a.loss.of: every phase but the last needs epochs",
        ),
        (
            {"kind": "phases", "of": [{"loss": "bce", "epochs": 10}, {"loss": "focal"}]},
            "models.a: the phases before the last of loss take 10 epochs, and epochs is 10",
        ),
    ],
)
def test_what_is_wrong_is_named(loss: Any, told: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, content(loss=loss))
    assert found.startswith(told)


def test_another_loss_takes_no_options_of_the_one_before() -> None:
    assert put_in({"loss": MIX}, {"loss": F2})["loss"] == F2
    by_fold = model(loss=MIX, by_fold={"1": {"loss": {"kind": "focal", "gamma": 1.0}}})
    assert by_fold.of_fold("1").model_dump()["loss"] == {"kind": "focal", "gamma": 1.0, "alpha": None}


def test_each_loss_of_a_mix_must_fit_the_task(tmp_path: Path) -> None:
    wrong = content(loss={"kind": "mix", "of": [{"loss": "cross_entropy"}, {"loss": F2}]})
    assert [told.partition(":")[0] for told in problems(tmp_path, wrong | {"dataset": {"task": "single_label"}})] == [
        "models.a.loss.of.1.loss.kind"
    ]
    assert [told.partition(":")[0] for told in problems(tmp_path, wrong)] == ["models.a.loss.of.0.loss"]
    single = content(loss={"kind": "phases", "of": [{"loss": "cross_entropy", "epochs": 1}, {"loss": "cross_entropy"}]})
    assert Params.model_validate(single | {"dataset": {"task": "single_label"}})


def test_the_loss_of_a_second_round_must_fit_the_task_too(tmp_path: Path) -> None:
    second = {"kind": "crop", "after": ["a"], "boxes": "boxes.csv", "loss": {"kind": "focal", "gamma": 1}}
    (told,) = problems(tmp_path, content() | {"dataset": {"task": "single_label"}, "second_round": {"closer": second}})
    assert told.startswith("second_round.closer.loss.kind: focal is for multi_label")
    del second["loss"]
    assert Params.model_validate(content() | {"dataset": {"task": "single_label"}, "second_round": {"closer": second}})


def test_a_second_round_learns_by_what_it_names_or_by_the_first_networks_loss() -> None:
    first = content(loss=PHASES, epochs=8)
    named = {"kind": "crop", "after": ["a"], "boxes": "boxes.csv", "epochs": 4}
    for own, expected in (({}, PHASES), ({"loss": F2}, F2), ({"loss": MIX}, MIX), ({"loss": "bce"}, "bce")):
        params = Params.model_validate(first | {"second_round": {"closer": named | own}})
        assert params.network("closer", "all").model_dump(mode="json")["loss"] == expected
        assert Params.model_validate(params.model_dump(mode="json")) == params


def test_the_code_of_all_losses_of_a_mix_counts_and_of_no_other() -> None:
    params = Params.model_validate(content(loss=PHASES))
    chosen = code.chosen(params, "train", "a", "all")
    assert chosen == ("small_cnn", "bce+f_beta+focal")
    reached = {name for name in code.modules("train", *chosen) if ".networks.losses." in name}
    room = "labelstack.networks.losses."
    assert reached == {f"{room}{name}" for name in ("bce", "f_beta", "focal", "known", "combined")}
    digests = {code.code_digest("train", "small_cnn", name) for name in ("bce", "f_beta", "bce+f_beta")}
    assert len(digests) == 3
