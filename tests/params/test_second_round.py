"""`second_round` in params.yaml: what a model takes from the first network, and what is said of misfits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstack.params import Params, load_params
from labelstack.params.backbone_names import BACKBONES
from labelstack.params.dvc_file import read_pipeline
from labelstack.params.second_round import SECOND_ROUND, SecondRoundSection, second_section_of
from labelstack.stages.second_kinds.kind import SecondKind, kind_of, view_of
from labelstack.support.errors import InputProblems
from tiny import REPOSITORY

FIRST: dict[str, Any] = {
    "backbone": "small_cnn",
    "weights": "imagenet",
    "epochs": 8,
    "schedule": {"kind": "constant", "warmup_epochs": 2},
    "augment": {"flip": 0.1},
    "by_fold": {"2": {"image_size": 32}},
}
CROP: dict[str, Any] = {"kind": "crop", "after": ["plain"], "boxes": "boxes.csv"}
STUDENT: dict[str, Any] = {"kind": "student", "after": ["plain", "net"]}
SECTIONS: dict[str, Any] = {"crop": CROP, "student": STUDENT, "pseudo": STUDENT | {"kind": "pseudo"}} | {
    "neighbours": {"kind": "neighbours", "after": ["plain"]}
}
KINDS = ", ".join(SECOND_ROUND.names())
CONTENT: dict[str, Any] = {
    "base_models": [0, 1, 2],
    "folds": {"k": 3},
    "models": {"plain": FIRST, "net": {"backbone": "mobilenet"}},
    "stackers": {"trees": {"kind": "xgboost"}},
}


def with_second(**models: Any) -> Params:
    return Params.model_validate(CONTENT | {"second_round": models})


def said_of(tmp_path: Path, **models: Any) -> list[str]:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(CONTENT | {"second_round": models}, sort_keys=False))
    with pytest.raises(InputProblems) as raised:
        load_params(tmp_path / "params.yaml")
    return raised.value.problems


def test_what_is_not_named_is_as_in_the_first_network_of_the_fold() -> None:
    params = with_second(closer=CROP | {"epochs": 2, "schedule": {"warmup_epochs": 0}, "ema": 0.9})
    first, own = params.network("plain", "2"), params.network("closer", "2")
    changed = {key for key, value in own.model_dump().items() if value != first.model_dump()[key]}
    assert changed == {"weights", "epochs", "schedule", "ema"}
    assert (own.weights, own.epochs, own.image_size, own.ema) == ("none", 2, 32, 0.9)
    assert (own.schedule.kind, own.schedule.warmup_epochs) == ("constant", 0)
    assert params.network("closer", "0").image_size == 64


def test_a_null_that_is_written_counts_and_params_written_out_stay_the_same() -> None:
    content = CONTENT | {"models": {"plain": FIRST | {"ema": 0.5}}, "second_round": {"closer": CROP | {"ema": None}}}
    params = Params.model_validate(content)
    assert params.network("closer", "0").ema is None
    again = Params.model_validate(params.model_dump(mode="json"))
    assert again.model_dump(mode="json") == params.model_dump(mode="json")
    assert again.network("closer", "0") == params.network("closer", "0")


def test_they_come_after_base_models_for_stackers_and_last_for_the_blend() -> None:
    params = with_second(closer=CROP, wider=CROP | {"after": ["net"]})
    assert params.cube_columns == ["plain", "net", "closer", "wider"]
    assert params.blend_members() == ["trees", "plain", "net", "closer", "wider"]
    assert with_second().blend_members() == ["trees", "plain", "net"]


def test_names_stand_once_and_only_base_models_come_before(tmp_path: Path) -> None:
    assert said_of(
        tmp_path,
        plain=CROP,
        trees=CROP | {"after": ["trees"]},
        blend=CROP | {"after": ["blend"]},
        Big=CROP | {"after": ["closer"]},
        closer=CROP | {"after": ["plane"]},
    ) == [
        "second_round.Big: a name is lower-case letters, digits and _ and starts with a letter",
        "blend is what the ensemble itself is called in tables and files: rename the model or stacker",
        "the name(s) plain stand under models and under second_round: rename one",
        "the name(s) trees stand under second_round and under stackers: rename one",
        "second_round.trees.after: must name base models (plain, net), and trees is a second-round model",
        "second_round.blend.after: must name base models (plain, net), and blend is a second-round model",
        "second_round.Big.after: must name base models (plain, net), and closer is a second-round model",
        "second_round.closer.after: unknown base model 'plane'; did you mean 'plain'? (known: plain, net)",
    ]
    stacked = said_of(tmp_path, closer=CROP | {"after": ["trees"]}, other=CROP | {"after": ["blend"]})
    assert stacked == [
        "second_round.closer.after: must name base models (plain, net), and trees is a stacker",
        "second_round.other.after: must name base models (plain, net), and blend is the ensemble itself",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "crap"}, f"closer.kind: unknown second-round kind 'crap'; did you mean 'crop'? (known: {KINDS})"),
        ({"after": []}, "closer.after: list should have at least 1 item"),
        ({"after": ["plain", "net"]}, "exactly one base model, and 2 are named"),
        ({"after": ["plain", "plain"]}, "closer.after: names plain twice"),
        ({"boxes": "../boxes.csv"}, "closer.boxes: must be a path below dataset.root"),
        ({"units": "inches"}, "closer.units: input should be 'share' or 'pixels', not 'inches'"),
        ({"margin": -0.1}, "closer.margin: input should be greater than or equal to 0"),
        ({"epoch": 3}, "closer.epoch: unknown key; did you mean 'epochs'?"),
        ({"backbone": "pixels"}, "closer.backbone: unknown key"),
        ({"schedule": {"kinds": "cosine"}}, "closer.schedule.kinds: unknown key; did you mean 'kind'?"),
        ({"after": ["net"], "image_size": 24}, "closer.image_size: 24 px is below the minimum of mobilenet"),
    ],
)
def test_misfits_are_told_with_their_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (problem,) = said_of(tmp_path, closer=CROP | change)
    assert problem.startswith("second_round.closer.")
    assert said in problem


def test_a_section_needs_a_kind_and_its_boxes(tmp_path: Path) -> None:
    assert said_of(tmp_path, closer={"after": ["plain"]}, other=3, bare={"kind": "crop", "after": ["plain"]}) == [
        f"second_round.closer: must be a section with the key kind ({KINDS})",
        f"second_round.other: must be a section with the key kind ({KINDS})",
        "second_round.bare: boxes (a file) or heatmap (the first network's own) says what is cut, and neither is there",
    ]


def test_dvc_yaml_has_the_stages_of_every_model_and_none_without() -> None:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())

    def stages(given: dict[str, Any]) -> set[str]:
        pipeline = read_pipeline(REPOSITORY / "dvc.yaml", given)
        assert pipeline.missing == {}
        return {stage.name for stage in pipeline.stages if stage.name.startswith(("views", "second"))}

    assert stages(content | {"second_round": {"closer": CROP}}) == {
        "views@closer", "second@closer", "second_score@closer",
    }  # fmt: skip
    assert stages(content) == set()
    del content["second_round"]  # a params.yaml of before
    assert stages(content) == set()


@pytest.mark.parametrize("kind", SECOND_ROUND.names())
def test_every_kind_names_what_does_its_work(kind: str) -> None:
    section = second_section_of(kind)
    assert issubclass(section, SecondRoundSection)
    assert section.takes
    if kind in SECTIONS:
        params = with_second(closer=SECTIONS[kind])
        assert isinstance(kind_of(params, params.second_round["closer"]), SecondKind)
        assert callable(view_of(params.second_round["closer"]))


def test_a_student_is_as_the_first_of_its_teachers_but_for_what_it_names() -> None:
    params = with_second(small=STUDENT | {"epochs": 3})
    first, own = params.network("plain", "2"), params.network("small", "2")
    changed = {key for key, value in own.model_dump().items() if value != first.model_dump()[key]}
    assert changed == {"epochs"}  # it begins as the first began, not where it ended
    other = with_second(small=STUDENT | {"backbone": "mobilenet", "weights": "imagenet", "image_size": 96})
    own = other.network("small", "0")
    assert (own.backbone, own.weights, own.image_size, own.epochs) == ("mobilenet", "imagenet", 96, 8)
    assert with_second(small=STUDENT | {"backbone": "pixels"}).network("small", "0").weights == "none"
    params = with_second(small=STUDENT | {"head": {"units": []}})
    assert params.network("small", "0").head == first.head.model_copy(update={"units": []})
    again = Params.model_validate(params.model_dump(mode="json"))
    assert again.model_dump(mode="json") == params.model_dump(mode="json")


def test_stackers_do_not_see_students_and_the_blend_does() -> None:
    params = with_second(small=STUDENT, closer=CROP, sure=STUDENT | {"kind": "pseudo", "test": 0.3})
    assert params.flattered == ["small", "sure"]
    assert params.cube_columns == ["plain", "net", "closer"]
    assert params.network_models == ["plain", "net", "small", "closer", "sure"]
    assert params.blend_members() == ["trees", "plain", "net", "small", "closer", "sure"]


def test_misfits_of_students_are_told(tmp_path: Path) -> None:
    assert said_of(tmp_path, a=STUDENT | {"backbone": "mobilnet"}) == [
        "second_round.a.backbone: unknown backbone 'mobilnet'; did you mean 'mobilenet'? (known: "
        + ", ".join(BACKBONES.names()) + ")"
    ]  # fmt: skip
    (told,) = said_of(tmp_path, a=STUDENT | {"scale": 1.5})
    assert told.startswith("second_round.a.scale: input should be less than or equal to 1")
    (told,) = said_of(tmp_path, a=STUDENT | {"kind": "pseudo", "test": 2.0})
    assert told.startswith("second_round.a.test: input should be less than or equal to 1")
    content = CONTENT | {
        "base_models": ["all"],
        "models": {"plain": {**FIRST, "by_fold": {}}, "net": {"backbone": "mobilenet"}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content | {"second_round": {"a": STUDENT}}))
    with pytest.raises(InputProblems, match=r"second_round.a: kind student learns from what networks of folds say"):
        load_params(tmp_path / "params.yaml")
    alone = CONTENT | {"second_round": {"a": STUDENT}, "blend": {"members": ["a"]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(alone))
    with pytest.raises(InputProblems, match=r"blend.members: needs one that is no student"):
        load_params(tmp_path / "params.yaml")


def test_of_neighbours_nothing_is_learned(tmp_path: Path) -> None:
    near = {"kind": "neighbours", "after": ["plain"]}
    params = with_second(near=near | {"tta": ["identity"]})
    assert params.cube_columns == ["plain", "net", "near"]
    (told,) = said_of(tmp_path, near=near | {"epochs": 3, "mixup": 0.2})
    assert told.startswith("second_round.near")
    assert "epochs: labels are looked up and nothing is learned: leave out epochs, mixup" in told
    (told,) = said_of(tmp_path, near=near | {"after": ["plain", "net"]})
    assert "neighbours within one base model's features, and 2 are named" in told


def test_boxes_come_from_a_file_or_from_heat(tmp_path: Path) -> None:
    plain = {"kind": "crop", "after": ["plain"]}
    heat = with_second(closer=plain | {"heatmap": {}}).second_round["closer"]
    assert heat.own() == {"boxes": None, "heatmap": {"threshold": 0.25}, "units": "share", "margin": 0.0}
    assert heat.files() == []
    for more, what in (({}, "neither is there"), ({"boxes": "b.csv", "heatmap": {}}, "both are there")):
        assert any(what in line for line in said_of(tmp_path, closer=plain | more))
    assert any("threshold" in line for line in said_of(tmp_path, closer=plain | {"heatmap": {"threshold": 1}}))


def test_heat_needs_whole_images_and_one_label_group(tmp_path: Path) -> None:
    closer = {"kind": "crop", "after": ["plain"], "heatmap": {}}
    content = CONTENT | {"models": {"plain": FIRST | {"resize": "letterbox"}}, "second_round": {"closer": closer}}
    with pytest.raises(ValueError, match=r"second_round\.closer\.heatmap: needs resize: stretch of plain"):
        Params.model_validate(content)
    fashion = {"format": "fashionai2018", "task": "single_label", "label_ids": None}
    content |= {"dataset": fashion, "models": {"plain": {"backbone": "small_cnn"}}}
    with pytest.raises(ValueError, match="needs a model that knows one label group, and plain knows all"):
        Params.model_validate(content)
    content["models"] = {"plain": {"backbone": "small_cnn", "groups": ["lapel_design_labels"]}}
    assert Params.model_validate(content).groups_of("closer") == ["lapel_design_labels"]
