import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labelstack.params import Params, digest, flatten, load_params
from labelstack.params.backbone_names import OWN
from labelstack.params.messages import explain
from labelstack.params.models import ModelSection
from labelstack.params.second_level_file import default_second_level
from labelstack.params.stackers import CNNStackerSection, XGBoostStackerSection
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.yaml_file import read_yaml

SHIPPED = read_yaml(Path(__file__).parents[2] / "params.yaml")

SMALLEST = {"models": {"plain": {"backbone": "small_cnn"}}, "stackers": {"trees": {"kind": "xgboost"}}}


def write(folder: Path, content: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True))
    return path


def problems(folder: Path, changes: dict) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        load_params(write(folder, SMALLEST | changes))
    return caught.value.problems


def only_problem(folder: Path, changes: dict) -> str:
    found = problems(folder, changes)
    assert len(found) == 1, found
    return found[0]


def with_model(**keys: object) -> dict:
    return {"models": {"plain": {"backbone": "small_cnn", **keys}}}


def with_stacker(**keys: object) -> dict:
    return {"stackers": {"trees": keys}}


def test_everything_but_models_and_stackers_has_a_default(tmp_path):
    params = load_params(write(tmp_path, SMALLEST))
    assert params.seed == 2018
    assert params.models["plain"].head.units == [2048, 2048]
    assert params.stackers["trees"] == XGBoostStackerSection()


def test_the_kind_decides_what_a_stacker_is(tmp_path):
    both = {"trees": {"kind": "xgboost", "max_depth": 6}, "conv": {"kind": "cnn", "epochs": 3}}
    params = load_params(write(tmp_path, SMALLEST | {"stackers": both}))
    assert params.stackers == {"trees": XGBoostStackerSection(max_depth=6), "conv": CNNStackerSection(epochs=3)}


@pytest.mark.parametrize(
    ("changes", "place", "nearest"),
    [
        (with_model(backbone="xeption"), "models.plain.backbone", "xception"),
        (with_model(loss="bec"), "models.plain.loss", "bce"),
        (with_stacker(kind="xgbost"), "stackers.trees.kind", "xgboost"),
        ({"blend": {"members": ["tree"]}}, "blend.members", "trees"),
        ({"modles": {}}, "modles", "models"),
        ({"images": {"concurency": 3}}, "images.concurency", "concurrency"),
        (with_model(learning_rat=0.1), "models.plain.learning_rat", "learning_rate"),
        (with_model(head={"unit": [3]}), "models.plain.head.unit", "units"),
        (with_model(schedule={"warm_up_epochs": 1}), "models.plain.schedule.warm_up_epochs", "warmup_epochs"),
        (with_model(augment={"rotat": [0, 1]}), "models.plain.augment.rotat", "rotate"),
        (with_stacker(kind="xgboost", max_dept=3), "stackers.trees.max_dept", "max_depth"),
        # A stacker may be named like a section.
        ({"stackers": {"metric": {"kind": "cnn", "filter": [1]}}}, "stackers.metric.filter", "filters"),
        ({"stackers": {"seed": {"kind": "cnn", "paddin": "fit"}}}, "stackers.seed.paddin", "padding"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest_valid_one(tmp_path, changes, place, nearest):
    problem = only_problem(tmp_path, changes)
    assert problem.startswith(f"{place}: unknown")
    assert f"did you mean {nearest!r}?" in problem


def test_an_unknown_name_like_nothing_else_is_answered_with_all(tmp_path):
    assert (
        only_problem(tmp_path, {"folds": {"zzz": 1}})
        == "folds.zzz: unknown key (known here: k, seed, nested, method, rare, column, group_by)"
    )


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"seed": -1}, "seed"),
        ({"sample": {"label_noise": 0.6}}, "sample.label_noise"),
        ({"images": {"jpeg_quality": 101}}, "images.jpeg_quality"),
        ({"images": {"timeout_s": float("nan")}}, "images.timeout_s"),
        ({"augment": {"rotate": [5, -5]}}, "augment.rotate"),
        ({"augment": {"rotate": [0, float("inf")]}}, "augment.rotate.1"),
        ({"augment": {"gaussian_blur": [-1, 1]}}, "augment.gaussian_blur"),
        ({"augment": {"scale": [0, 1]}}, "augment.scale"),
        ({"augment": {"crop": [0, 0.5]}}, "augment.crop"),
        ({"dataset": {"label_ids": [228, 1]}}, "dataset.label_ids"),
        ({"folds": {"k": 1}}, "folds.k"),
        ({"prediction": {"tta": []}}, "prediction.tta"),
        ({"prediction": {"tta": ["vflip"]}}, "prediction.tta.0"),
        ({"metric": {"primary": "weighted"}}, "metric.primary"),
        ({"submission": {"filename": "a/b.csv"}}, "submission.filename"),
        (with_model(head={"units": [0]}), "models.plain.head.units.0"),
        (with_model(augment={"crop": [0, 0.7]}), "models.plain.augment.crop"),
        (with_model(augment="yes please"), "models.plain.augment"),
        (with_model(options={"filters": {"a": 1}}), "models.plain.options.filters"),
        (with_stacker(kind="xgboost", learning_rate=0), "stackers.trees.learning_rate"),
        (with_stacker(max_depth=3), "stackers.trees"),
        ({"stackers": {}}, "stackers"),
        ({"models": None}, "models"),
    ],
)
def test_values_out_of_bounds_are_named(tmp_path, changes, place):
    assert only_problem(tmp_path, changes).startswith(f"{place}: ")


@pytest.mark.parametrize(("backbone", "minimum"), [(name, own.smallest) for name, own in sorted(OWN.items())])
def test_an_image_size_below_the_backbones_minimum_is_refused(tmp_path, backbone, minimum):
    assert load_params(write(tmp_path, SMALLEST | with_model(backbone=backbone, image_size=minimum)))
    problem = only_problem(tmp_path, with_model(backbone=backbone, image_size=minimum - 1))
    assert problem.startswith("models.plain.image_size: ")
    assert str(minimum) in problem


def test_the_default_image_size_is_checked_too(tmp_path):
    problem = only_problem(tmp_path, with_model(backbone="xception"))
    assert problem == "models.plain.image_size: 64 px is below the minimum of xception, which is 71 px"


def test_all_problems_are_reported_at_once(tmp_path):
    found = problems(
        tmp_path,
        {
            "seed": -1,
            "folds": {"k": 1},
            "models": {
                "same": {"backbone": "small_cnn", "epochs": 0, "image_size": 8},
                "Upper": {"backbone": "xception", "image_size": 32, "loss": "focall"},
            },
            "stackers": {"same": {"kind": "forest"}, "trees": {"kind": "xgboost", "max_depth": 0, "seed": -1}},
            "blend": {"members": ["trees", "nobody"], "step": 0},
        },
    )
    places = {problem.split(":")[0] for problem in found}
    assert places == {
        "seed",
        "folds.k",
        "models.same.epochs",
        "models.same.image_size",
        "models.Upper",
        "models.Upper.image_size",
        "models.Upper.loss",
        "stackers.same.kind",
        "stackers.trees.max_depth",
        "stackers.trees.seed",
        "blend.members",
        "blend.step",
        "the name(s) same stand under models and under stackers",
    }
    assert len(found) == len(places)


def test_names_alone_are_reported_once(tmp_path):
    found = problems(tmp_path, {"blend": {"members": ["nobody"]}, "stackers": {"plain": {"kind": "cnn"}}})
    assert len(found) == 2


def test_malformed_yaml_is_located(tmp_path):
    path = write(tmp_path, "seed: 1\nmodels: {a: [1, 2}\n")
    with pytest.raises(UserError, match=r"line 2, column 18: not valid YAML"):
        load_params(path)


@pytest.mark.parametrize("content", ["", "- a\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="expected a mapping of sections"):
        load_params(write(tmp_path, content))


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match=r"not found.*dvc\.yaml"):
        load_params(tmp_path / "params.yaml")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("seed: 1 # größer".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_params(path)


def test_yaml_cannot_make_python_objects(tmp_path):
    with pytest.raises(UserError, match=r"line 1, column 7: the tag '!!python/object/apply:os.getcwd'"):
        load_params(write(tmp_path, "seed: !!python/object/apply:os.getcwd []\n"))


def leaves(content: Any, *place: str | int) -> list[tuple[tuple[str | int, ...], Any]]:
    """Every value of nested sections and lists with its place; a backbone's options may be of any type."""
    if place and place[-1] == "options":
        return []
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return [leaf for key, value in pairs for leaf in leaves(value, *place, key)]
    return [(place, content)]


LEAVES = [(place, value) for place, value in leaves(SHIPPED) if value is not None]
TEXTS = st.sampled_from(["8", "0.5", "true", "yes", "null", "\n", "a\n", "", " ", "\x00", "\u2028"])
OF_OTHER_TYPES = {
    bool: st.integers() | st.floats() | TEXTS | st.lists(st.booleans(), min_size=1),
    int: st.booleans() | TEXTS | st.lists(st.integers(), min_size=1) | st.sampled_from([float("nan"), float("inf")]),
    float: st.booleans() | TEXTS | st.lists(st.floats(), min_size=1) | st.sampled_from([float("nan"), -float("inf")]),
    str: st.booleans() | st.integers() | st.floats() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LEAVES).flatmap(lambda leaf: st.tuples(st.just(leaf[0]), OF_OTHER_TYPES[type(leaf[1])])))
def test_a_value_of_another_type_is_refused_by_name(changed):
    place, value = changed
    content = copy.deepcopy(SHIPPED)
    section = content
    for part in place[:-1]:
        section = section[part]
    section[place[-1]] = value
    key = ".".join(map(str, place))
    with pytest.raises(ValidationError) as caught:
        Params.model_validate(content)
    found = explain(caught.value, Params)
    assert [problem for problem in found if problem.startswith(f"{key}: ") or problem.startswith(f"{key}.")]
    # a name that is no longer there may be missed elsewhere
    assert all(problem.startswith((key, "blend.members")) for problem in found)


SECTIONS = [*Params.model_fields, *ModelSection.model_fields, "plain", "kind", "pooling", "filters"]
CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.sampled_from(["cnn", "xgboost", "nasnet", "ä"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SECTIONS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=st.sampled_from(list(Params.model_fields)), content=CONTENT)
def test_content_is_kept_as_written_or_every_problem_is_in_its_section(tmp_path, section, content):
    path = write(tmp_path, SMALLEST | {section: content})
    params, found = None, []
    try:
        params = load_params(path)
    except InputProblems as error:
        found = error.problems
    if params is not None:
        assert contains(params.model_dump(mode="json")[section], content)
    else:
        assert found
        assert all(problem.startswith((section, "blend", "the name(s)")) for problem in found)
        assert not [problem for problem in found if "\n" in problem]


def contains(dumped: Any, given: Any) -> bool:
    """Whether all that was given stands in the section, a whole number perhaps as a float."""
    if isinstance(given, dict):
        return isinstance(dumped, dict) and all(key in dumped and contains(dumped[key], given[key]) for key in given)
    if isinstance(given, list):
        return isinstance(dumped, list) and len(dumped) == len(given) and all(map(contains, dumped, given))
    return bool(dumped == given) and isinstance(dumped, bool) == isinstance(given, bool)


@pytest.mark.parametrize("section", ["models", "stackers"])
@pytest.mark.parametrize("name", ["a\n", "a b", "A", "", "ä", "1a", "a.b", "${a}", "a" * 64])
def test_names_that_dvc_or_files_would_stumble_on_are_refused(tmp_path, section, name):
    content = next(iter(SMALLEST[section].values()))
    assert "a name is lower-case letters, digits and _" in only_problem(tmp_path, {section: {name: content}})


def test_problems_without_end_are_cut(tmp_path):
    found = problems(tmp_path, {"folds": {f"key{i}": i for i in range(4_000)}})
    assert len(found) == 201
    assert found[-1] == "… and 3,800 more"
    assert len(problems(tmp_path, {"seed": ["x" * 100_000] * 10})[0]) < 1000


def test_blend_members_default_to_all_stackers_and_models(tmp_path):
    assert load_params(write(tmp_path, SMALLEST)).blend_members() == ["trees", "plain"]
    chosen = load_params(write(tmp_path, SMALLEST | {"blend": {"members": ["plain"]}}))
    assert chosen.blend_members() == ["plain"]


def test_flatten_has_one_dotted_key_for_each_value():
    flat = flatten(ModelSection(backbone="small_cnn", options={"filters": [8, 16]}, augment=False))
    assert flat["head.units"] == "[2048, 2048]"
    assert flat["options.filters"] == "[8, 16]"
    assert flat["backbone"] == "small_cnn"
    assert flat["ema"] is None
    assert flatten({"a": {}, "b": {"c": {"d": 1}}}) == {"a": "{}", "b.c.d": 1}


KEYS = st.text("abc", min_size=1, max_size=3)
NESTED = st.dictionaries(
    KEYS,
    st.recursive(st.integers() | st.booleans(), lambda inner: st.dictionaries(KEYS, inner, min_size=1), max_leaves=8),
)


@given(NESTED)
def test_flatten_keeps_every_leaf(content):
    flat = flatten(content)
    rebuilt: dict = {}
    for key, value in flat.items():
        *folders, last = key.split(".")
        place = rebuilt
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    assert rebuilt == content


def test_digest_depends_on_content_not_on_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"b": [1, 2]}) != digest({"b": [2, 1]})
    assert digest(XGBoostStackerSection()) == digest(XGBoostStackerSection(max_depth=4))
    assert digest({"s": XGBoostStackerSection()}) == digest({"s": XGBoostStackerSection().model_dump(mode="json")})
    assert digest(XGBoostStackerSection()) != digest(XGBoostStackerSection(max_depth=5))
    assert len(digest({})) == 16
    with pytest.raises(TypeError, match="cannot digest set"):
        digest({"a": {1}})


def test_params_do_not_change_after_loading(tmp_path):
    params = load_params(write(tmp_path, SMALLEST))
    with pytest.raises(ValueError, match="frozen"):
        params.folds.k = 3


def test_the_shipped_second_level_is_that_of_params_yaml():
    shipped, default = load_params(Path(__file__).parents[2] / "params.yaml"), default_second_level()
    for section in ("folds", "stackers", "blend", "metric", "thresholds"):
        assert getattr(shipped, section) == getattr(default, section), section


@pytest.mark.parametrize("section", ["models", "stackers"])
def test_nothing_else_may_be_called_blend(tmp_path, section):
    changes = {section: {"blend": next(iter(SMALLEST[section].values()))}}
    assert "blend is what the ensemble itself is called" in only_problem(tmp_path, changes)
