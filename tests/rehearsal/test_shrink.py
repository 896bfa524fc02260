"""A recipe's params made small: what changes, what is kept, and that nothing is made up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from labelstack.params import Params, load_params
from labelstack.rehearsal.shrink import kept_models, kept_stackers, shrink
from labelstack.support.fashionai_values import VALUES
from labelstack.support.yaml_file import read_yaml
from tiny import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


def small(content: dict[str, Any]) -> dict[str, Any]:
    return shrink(content, Params.model_validate(content))


def recipe(**sections: Any) -> dict[str, Any]:
    return {"models": {"a": {"backbone": "resnet50"}}, "stackers": {"s": {"kind": "ridge"}}} | sections


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_small_recipe_is_valid_and_shows_all_that_the_recipe_shows(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    untouched = copy.deepcopy(content)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shrink(content, load_params(file))))
    assert content == untouched
    whole, tiny = load_params(file), load_params(tmp_path / "params.yaml")
    for shown in ("backbone", "loss", "optimizer", "resize"):
        assert {getattr(m, shown) for m in tiny.models.values()} == {getattr(m, shown) for m in whole.models.values()}
    assert {s.kind for s in tiny.stackers.values()} == {s.kind for s in whole.stackers.values()}
    assert tiny.folds.k == 3
    assert tiny.folds.nested is whole.folds.nested
    assert not tiny.training.mixed_precision
    assert not tiny.training.multi_gpu
    for name, model in tiny.models.items():
        assert (model.weights, model.epochs) == ("none", max(len(whole.models[name].phases), 1))
        assert model.image_size <= 75
        assert max(model.head.units, default=0) <= 64
        assert model.head.pooling == whole.models[name].head.pooling
        assert model.augment == whole.models[name].augment


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_small_recipe_states_the_sections_and_keys_that_the_recipe_states(file):
    """Otherwise a key that DVC will miss after thirty hours is not missed in the rehearsal."""
    content = yaml.safe_load(file.read_text())
    result = shrink(content, load_params(file))
    assert set(result) == set(content)
    for section in set(content) - {"models", "stackers", "seed", "base_models"}:
        assert set(result[section]) == set(content[section]), section


def test_a_key_that_is_missing_stays_missing():
    result = small(recipe(tracking={"experiment": "x"}, images={"store_size": 331}))
    assert "probe_images" not in result["tracking"]
    assert result["images"] == {"store_size": 80}
    assert "folds" not in result


def test_of_each_backbone_at_most_two_models_are_kept_and_as_few_as_show_everything():
    models = {
        "plain": {"backbone": "small_cnn"},
        "again": {"backbone": "small_cnn", "seed": 1, "learning_rate": 0.01, "epochs": 99},
        "focal": {"backbone": "small_cnn", "loss": "focal"},
        "letterbox": {"backbone": "small_cnn", "resize": "letterbox", "loss": "focal"},
        "sgd": {"backbone": "small_cnn", "optimizer": "sgd"},
        "other": {"backbone": "pixels"},
    }
    kept = kept_models(Params.model_validate(recipe(models=models)))
    assert [name for name in kept if models[name]["backbone"] == "small_cnn"] == ["plain", "letterbox"]
    assert "other" in kept


def test_few_folds_show_every_network_that_is_made_in_another_way():
    content = recipe(
        base_models=[0, 1, 2, 3, 4],
        folds={"k": 5},
        models={"a": {"backbone": "resnet50", "by_fold": {"3": {"backbone": "pixels"}, "4": {"epochs": 9}}}},
    )
    result = small(content)
    assert result["base_models"] == [0, 1, 2]
    tiny = Params.model_validate(result)
    assert [tiny.network("a", fold).backbone for fold in tiny.networks] == ["pixels", "resnet50", "resnet50"]
    assert {tiny.network("a", fold).epochs for fold in tiny.networks} == {1}
    assert tiny.network("a", "0").weights == "none"


def test_a_model_is_kept_for_what_its_network_of_one_fold_shows():
    models = {"a": {"backbone": "small_cnn"}, "b": {"backbone": "small_cnn", "by_fold": {"1": {"loss": "focal"}}}}
    kept = kept_models(Params.model_validate(recipe(base_models=[0, 1, 2, 3, 4], models=models)))
    assert "b" in kept


def test_of_each_kind_at_most_two_stackers_are_kept():
    stackers = {f"{kind}_{n}": {"kind": kind} for n in range(3) for kind in ("ridge", "logistic", "mean")}
    kept = kept_stackers(Params.model_validate(recipe(stackers=stackers)))
    assert kept == [name for name in stackers if not name.endswith("_2")]


def test_the_blend_names_only_what_is_kept():
    models = {name: {"backbone": "pixels", "seed": seed} for seed, name in enumerate(["a", "b", "c"])}
    result = small(recipe(models=models, blend={"members": ["c", "s", "a"], "step": 0.01}))
    assert list(result["models"]) == ["a"]
    assert result["blend"] == {"members": ["s", "a"], "step": 0.25}


def test_heads_shrink_and_keep_their_number_of_layers():
    models = {
        "default": {"backbone": "resnet50", "weights": "imagenet"},
        "own": {"backbone": "pixels", "head": {"units": [500, 8], "pooling": "average"}},
        "none": {"backbone": "descriptors", "head": {"units": []}},
    }
    heads = {name: model["head"] for name, model in small(recipe(models=models))["models"].items()}
    assert heads == {
        "default": {"units": [64, 64]},
        "own": {"units": [64, 8], "pooling": "average"},
        "none": {"units": []},
    }


def test_few_trees_epochs_and_seeds():
    stackers = {
        "trees": {"kind": "xgboost", "device": "cuda"},
        "net": {"kind": "cnn", "filters": [8, 16, 32], "batch_size": None, "epochs": 30, "seeds": 5},
        "greedy": {"kind": "greedy"},
    }
    result = small(recipe(stackers=stackers))["stackers"]
    assert result["trees"]["n_estimators"] <= 3
    assert result["trees"]["device"] == "cpu"
    assert result["net"]["filters"] == [4, 4, 4]
    assert result["net"]["batch_size"] is None
    assert (result["net"]["epochs"], result["net"]["seeds"]) == (1, 1)
    assert result["greedy"]["step"] == 0.25


def test_nothing_of_the_users_is_reached():
    result = small(
        recipe(
            tracking={"uri": "http://tracking.example.org", "artifacts": "s3://bucket/artifacts"},
            engine={"scheduler": "tcp://10.0.0.1:8786"},
            dataset={"root": "/home/ann/photos", "answers": "/home/ann/photos/answers.json"},
        )
    )
    assert result["tracking"] == {"uri": "sqlite:///mlflow.db", "artifacts": None}
    assert "engine" not in result
    assert result["dataset"] == {"root": "data/rehearsal", "answers": "data/rehearsal/test_answers.json"}


def test_sections_that_share_an_anchor_are_not_tied_together():
    content = yaml.safe_load(
        "models:\n"
        "  a: {backbone: silhouette, head: &head {units: [500]}}\n"
        "  b: {backbone: silhouette, resize: letterbox, loss: focal, head: *head}\n"
        "  c: {backbone: pixels, head: *head}\n"
        "stackers: {s: {kind: ridge}}\n"
    )
    result = small(content)
    assert len(result["models"]) == 3
    assert "&" not in yaml.safe_dump(result)


def test_every_phase_of_a_loss_is_rehearsed() -> None:
    phases = {"kind": "phases", "of": [{"loss": "bce", "epochs": 12}, {"loss": {"kind": "f_beta", "beta": 2}}]}
    models = {
        "a": {"backbone": "small_resnet", "epochs": 20, "loss": phases},
        "b": {"backbone": "small_cnn", "epochs": 20, "by_fold": {"1": {"loss": phases}}},
    }
    content = {"models": models, "stackers": {"mean": {"kind": "mean"}}, "base_models": [0, 1, 2], "folds": {"k": 3}}
    small = Params.model_validate(shrink(content, Params.model_validate(content)))
    for network in (small.network("a", "0"), small.network("b", "0")):
        assert network.epochs == 2
        assert [phase.epochs for phase in network.loss.of] == [1, None]
    assert small.network("b", "1").epochs == 1


def test_every_label_group_stays_with_a_model() -> None:
    """Separate networks are fewer in a rehearsal; a joint one beside them would know all."""
    file = REPOSITORY / "recipes/fashionai2018.yaml"
    content, params = read_yaml(file), load_params(file)
    small = Params.model_validate(shrink(content, params))
    known = [group for model in small.models.values() for group in model.groups]
    assert sorted(known) == sorted(VALUES)
    assert len(small.models) < len(params.models)
    content["models"]["joint"] = {"backbone": "small_cnn"}
    small = Params.model_validate(shrink(content, Params.model_validate(content)))
    assert sum(len(model.groups) for model in small.models.values()) < len(VALUES)


def test_folds_whose_networks_are_made_alike_come_once_and_students_stay():
    other, third = {"backbone": "pixels"}, {"backbone": "small_resnet"}
    by_fold = {"1": other, "3": third, "4": other, "5": third}
    content = {
        "base_models": list(range(6)),
        "folds": {"k": 6},
        "models": {"a": {"backbone": "small_cnn", "head": {"pooling": "average"}, "by_fold": by_fold}},
        "second_round": {
            "small": {"kind": "student", "after": ["a"], "scale": 0.5, "epochs": 40},
            "closer": {"kind": "crop", "after": ["a"], "boxes": "boxes.csv"},
        },
        "stackers": {"mean": {"kind": "mean"}},
        "tracking": {"alone": ["closer"]},
    }
    small = shrink(content, Params.model_validate(content))
    params = Params.model_validate(small)
    backbones = [params.network("a", fold).backbone for fold in params.networks]
    assert sorted(backbones) == ["pixels", "small_cnn", "small_resnet"]
    assert list(params.second_round) == ["small"]
    assert params.second_round["small"].scale == 0.5
    assert params.network("small", "0").epochs == 1
