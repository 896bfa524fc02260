"""What reruns what: code, params and data against tables, in memory and through the real DVC."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from labelstack.commands import graph
from labelstack.params import Params, load_params
from labelstack.stages import code
from labelstack.stages.settings import UNDECIDING, settings
from labelstack.support.closure import Sources, sources
from tiny import REPOSITORY, Workspace, environment

SECOND_LEVEL = {"score", "second_score", "stack", "blend"}
NETWORKS = {"train", "second"}
REGIONS = {"region_rows", "submit_masks"}
PIXELS = {"segment", "regions"}
ALL = set(code.ROOTS)
# Room → stages that a line in one of its files may rerun.
ROOMS: dict[str, set[str]] = {
    "ensemble": {"register"},
    "formats": ALL - {"sample", "regions", "members", "needs"},
    "images": NETWORKS | PIXELS | {"region_rows", "views", "predict", "register", "report"},  # boxes of views
    "images/fetching": NETWORKS | PIXELS | {"ingest", "download", "region_rows", "predict", "register", "report"},
    "images/pixels": NETWORKS | PIXELS | {"download", "region_rows", "predict", "report"},
    "images/shards": ALL - {"sample", "ingest", "members", "needs"},
    "masks": PIXELS | {"sample", "ingest", "submit", "register", "report"} | REGIONS,
    "networks": NETWORKS | PIXELS | {"predict"},
    "networks/backbones": NETWORKS | PIXELS | {"predict"},
    "networks/losses": NETWORKS | PIXELS,  # their entry
    "predictions.py": SECOND_LEVEL | {"predict", "second", "evaluate", "submit", "submit_masks", "register", "report"},
    "registry": {"register"},
    "report": {"report"},
    "sample": {"sample"},
    "segmentation": PIXELS | {"submit_masks", "report"},
    "scoring": SECOND_LEVEL | NETWORKS | PIXELS | REGIONS | {"evaluate", "submit", "register", "report"},
    # a model registered alone answers by its own rule
    "stacking": SECOND_LEVEL
    | {
        "photo_folds",
        "segment",
        "ingest",
        "split",
        "second",
        "evaluate",
        "submit",
        "submit_masks",
        "register",
        "report",
    },
    "stacking/deciding": SECOND_LEVEL | {"second", "evaluate", "submit", "submit_masks", "register", "report"},
    "stacking/stackers": SECOND_LEVEL | {"second"},
    "stages": ALL,
    "stages/second_kinds": {"views", "second"},
    "stages/work": SECOND_LEVEL | NETWORKS | PIXELS | REGIONS | {"photo_folds", "split", "predict", "evaluate"},
    "support": ALL,
    "tracking": {"register"},
}
# Key of params.yaml → stages that depend on it; a section stands for all its keys that are not named.
PHOTOS = ("segmenters", "regions")
PARAMS: dict[str, set[str]] = {
    "seed": NETWORKS | PIXELS | {"sample", "ingest", "split", "submit_masks", "register", "report"},
    "dataset": {"ingest"},
    "dataset.instances.on_top": PIXELS | {"ingest", "submit_masks"},
    "dataset.audit": {"split"},
    "dataset.root": {"sample", "ingest", "download", "views", "register", "report"},
    "sample": {"sample"},
    "images": {"download"},
    "images.store_size": {"download", "register"},
    "images.jpeg_quality": {"download", "region_rows", "register"},
    "images.shard_rows": {"download", "region_rows"},
    "images.damaged": {"download", "register"},
    "augment": {"train"},
    "training": NETWORKS,
    "training.holdout": NETWORKS | {"segment", "split"},
    "training.holdout_max": NETWORKS | {"segment", "split"},
    "base_models": ALL
    - REGIONS
    - {"sample", "download", "photo_folds", "segment", "views", "second", "members", "submit"},
    "models": {"train"},
    "models.*.backbone": {"train", "predict"},
    "models.*.image_size": {"train", "predict", "register"},
    "models.*.resize": {"train", "predict", "register"},
    "second_round": {"needs", "members", "blend", "register"},  # and what is made for the names in it
    "second_round.closer": {"second"},
    "second_round.closer.after": {"needs", "second"},
    "second_round.closer.boxes": {"views", "second"},
    "second_round.closer.units": {"views", "second"},
    "second_round.closer.margin": {"views", "second"},
    "second_round.closer.image_size": {"second", "register"},
    "second_round.closer.resize": {"second", "register"},
    "models.*.tta": {"predict", "register"},
    "second_round.closer.tta": {"second", "register"},
    "prediction": {"predict", "second", "register"},
    "prediction.dtype": SECOND_LEVEL | {"predict", "second", "register"},
    "prediction.tta": {"predict", "register"},  # with a second round `second` as `predict`
    "prediction.views": set(),  # as long as no list names them
    "folds": {"split"},
    "folds.k": {"ingest", "photo_folds", "split", "blend", "submit_masks"},
    "folds.seed": {"photo_folds", "split"},
    "folds.nested": {"stack", "blend"},
    "folds.column": {"ingest", "photo_folds", "split"},
    "folds.group_by": {"ingest", "photo_folds", "split"},
    "stackers": {"stack"},
    "blend": {"blend"},
    "metric": SECOND_LEVEL | {"train", "evaluate", "register", "report"},  # with a second round `second` as `train`
    "thresholds": SECOND_LEVEL | {"register"},
    "thresholds.strategy": SECOND_LEVEL | {"evaluate", "submit", "register", "report"},
    "thresholds.fixed": SECOND_LEVEL | {"evaluate", "submit", "register", "report"},
    "submission": {"submit", "register"},
    "submission.missing": {"evaluate", "submit", "register"},
    "tracking": {"register"},
}


def stage_digests(source: Sources) -> dict[str, str]:
    """Stage (with names for its nouns) → digest of its code."""
    variants = [(stage, names) for stage in code.ROOTS for names in [(), *code.variants(stage)]]
    return {f"{stage}@{' '.join(names)}": code.code_digest(stage, *names, source=source) for stage, names in variants}


def with_a_line_more(whole: Sources, module: str) -> Sources:
    """The same sources after a line was added to one file; what was read of the others is not read again."""
    file = whole.modules[module]
    text = file.read_text()
    file.write_text(f"{text}\n_CHANGED = True\n")
    source = Sources(whole.package)
    near = module if file.name == "__init__.py" else f"{module}."
    source._trees |= {name: tree for name, tree in whole._trees.items() if name != module}
    source._digests |= {name: value for name, value in whole._digests.items() if name != module}
    source._imports |= {name: found for name, found in whole._imports.items() if not f"{name}.".startswith(near)}
    source.digest([module])
    file.write_text(text)
    return source


def test_the_page_says_what_the_code_and_dvc_yaml_say() -> None:
    page = graph.page(graph.stages(REPOSITORY / "dvc.yaml"))
    assert (REPOSITORY / "docs/graph.md").read_text() == page, "run `labelstack graph`"


@pytest.mark.parametrize("stage", code.ROOTS)
def test_no_work_reaches_what_logs_or_shows_it(stage: str) -> None:
    assert code.strangers(stage) == []


def test_training_reaches_nothing_of_the_second_level() -> None:
    reached = {module for names in code.variants("train") for module in code.modules("train", *names)}
    rooms = {graph.room_of(module) for module in reached}
    assert rooms == {
        "formats", "images", "images/fetching", "images/pixels", "images/shards", "networks", "networks/backbones",
        "networks/losses", "scoring", "stages", "stages/work", "support",
    }  # fmt: skip


def test_tables_of_what_does_not_count_name_modules_that_there_are() -> None:
    for name in [*code.APART, *code.NEVER]:
        assert name in sources().modules


def test_a_line_in_any_file_reruns_what_the_table_of_rooms_says(tmp_path: Path) -> None:
    whole = Sources(shutil.copytree(sources().package, tmp_path / "labelstack"))
    before = stage_digests(whole)
    found: dict[str, set[str]] = {}
    for module in [name for name in sources().modules if "." in name]:
        source = with_a_line_more(whole, module)
        after = stage_digests(source)
        changed = {name.partition("@")[0] for name, value in after.items() if value != before[name]}
        found.setdefault(graph.room_of(module), set()).update(changed)
    assert {room: stages for room, stages in found.items() if stages} == ROOMS


def test_a_stacker_backbone_loss_or_format_of_another_name_reruns_nothing() -> None:
    for stage, nouns in code.VARIANTS.items():
        common = set(code.modules(stage))  # a view that stands beside what calls all views
        for names in code.variants(stage):
            reached = set(code.modules(stage, *names))
            for noun, name in zip(nouns, names, strict=True):
                places = {own: code.places_of(noun, own)[0].partition(":")[0] for own in code.NOUNS[noun][0].own}
                others = set(places.values()) - {places[name]}
                needed = {m for m in others if m in sources().closure([places[name]])}  # silhouette builds upon pixels
                assert places[name] in reached
                assert not reached & (others - needed - common), name


def test_every_name_of_our_own_is_among_the_variants_of_its_stages() -> None:
    for stage, nouns in code.VARIANTS.items():
        for place, noun in enumerate(nouns):
            assert {names[place] for names in code.variants(stage)} == set(code.NOUNS[noun][0].own)


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; a list is a value."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, content


CLOSER: dict[str, Any] = {
    "kind": "crop",
    "after": ["plain_cnn"],
    "boxes": "boxes.csv",
    "units": "share",
    "margin": 0.1,
    "image_size": 96,
    "resize": "stretch",
    "batch_size": 16,
    "epochs": 3,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "mixup_per": "image",
    "cutmix": 0.0,
    "hard_examples": 0.0,
    "ema": None,
    "schedule": {"kind": "cosine", "warmup_epochs": 1},
    "loss": "bce",
    "augment": False,
    "seed": 3,
    "tta": ["identity"],
}
OTHERS: dict[str, list[Any]] = {
    "thresholds.rows": [1000],
    "blend.weights": ["shared"],
    "prediction.dtype": ["float16"],
    "blend.calibration": ["none"],
    "augment.resized_crop": [{"area": [0.5, 1]}],
    "augment.crop_if_needed": [{"sides": 3}],
    "augment.rect_crop": [{"chance": 0.5}],
    "augment.scaled_crop": [{"chance": 0.5}],
    "augment.one_of": [[{"of": {"clahe": {}}}]],
    "augment.erase": [{"chance": 0.3}],
    "second_round": [{"closer": CLOSER}],
    "second_round.closer.after": [["silhouette_pixels"]],
    "models.efficientnet.phases": [[{"epochs": 20, "train": "head"}]],
    "second_round.closer.boxes": ["other.csv"],
    "second_round.closer.units": ["pixels"],
    "base_models": [[0, 1, 2, 3, 4]],
    "folds.method": ["rarest_first"],
    "dataset.root": ["data"],
    "dataset.answers": [None],
    "dataset.corrections": ["corrections.csv"],
    "dataset.label_ids": [[0, 9]],
    "dataset.table.separator": ["|"],
    "dataset.instances.labels": ["attributes"],
    "dataset.instances.outside": ["clip"],
    "dataset.instances.on_top": ["smallest"],
    "engine.scheduler": ["tcp://127.0.0.1:1"],
    "engine.workspace": ["/somewhere"],
    "images.damaged": ["keep"],
    "images.s3_endpoint_url": ["http://127.0.0.1:9"],
    "engine.s3_endpoint_url": ["http://127.0.0.1:9"],
    "images.allow_schemes": [["file"]],
    "images.allow_hosts": [["10.0.0.1"]],
    "prediction.tta": [["identity"]],
    "prediction.views": [{"close": {"crop": "center"}}],
    "notify.ends": [["train"]],
    "notify.failures": [["train"]],
    "second_round.closer.tta": [["hflip"]],
    "thresholds.candidates": [["global"]],
    "thresholds.limits": [{"tag": [0, 3]}],
    "stackers.cnn.structure": ["published"],
    "blend.members": [["ridge"]],
    "submission.filename": ["other.csv"],
    "tracking.alone": [["plain_cnn"]],
    "tracking.uri": ["http://127.0.0.1:9"],
    "tracking.artifacts": ["s3://bucket/prefix"],
}


DECIDING = (
    *("dataset.format", "dataset.into", "dataset.task", "region_rows", "training.monitor"),
    "thresholds.prior_bias",
)
WORDS = [
    "average",
    "flatten",
    "max",
    "adam",
    "adamw",
    "sgd",
    "constant",
    "cosine",
    "plateau",
    "none",
    "letterbox",
    "stretch",
    "samples",
    "micro",
    "macro",
    "fixed",
    "global",
    "equal",
    "greedy",
    "platt",
    "probability",
    "bce",
    "focal",
    "prior",
    "blank",
    "own",
    "all",
    "logit",
    "batch",
    "both",
    "mean",
    "same",
    "resnet50",
    "small_cnn",
    "other",
]


def other_values(key: str, value: Any) -> list[Any]:
    """What may stand for a key instead; the first that is valid is taken."""
    if key in OTHERS:
        return OTHERS[key]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, value * 0.9, value * 0.5 + 0.05, 1]
    if isinstance(value, list):
        numbers = all(isinstance(v, int | float) for v in value)
        return [[v * 0.5 for v in value], [*value, 1], [0, 1]] if numbers else [["x"]]
    if isinstance(value, dict):
        return [{"batch_norm_momentum": 0.5}]
    return [word for word in WORDS if word != value] if isinstance(value, str) else [3, 0.5, "x", 10.0]


def changed_settings(stated: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Settings with one key changed to something else that is valid."""
    *path, last = key.split(".")
    section = stated
    for part in path:
        section = section[part]
    for other in (other for other in other_values(key, value) if other != value):
        section[last] = other
        try:
            return settings(Params.model_validate(stated))
        except ValidationError:
            continue
        finally:
            section[last] = value
    raise AssertionError(f"{key}: no other valid value is known for {value!r}; add one to OTHERS")


def expected_for(key: str) -> set[str]:
    parts = key.split(".")
    general = ".".join([parts[0], "*", *parts[2:]]) if parts[0] in ("models", "stackers") else key
    return next(PARAMS[name] for name in (general, key, ".".join(parts[:2]), parts[0]) if name in PARAMS)


def test_every_param_reruns_what_the_table_says() -> None:
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    table = graph.stages(REPOSITORY / "dvc.yaml")
    before = settings(load_params(REPOSITORY / "params.yaml"))
    for key, value in list(leaves(stated)):
        if key in (
            "dataset.format",
            "dataset.into",
            "dataset.task",
            "region_rows",
            "training.monitor",
            "thresholds.prior_bias",
            *PHOTOS,
        ) or (key.startswith("stackers.") and key.endswith(".kind")):
            continue  # those decide what is valid beside them, or are of one format; a kind takes its section's keys
        after = changed_settings(stated, key, value)
        if any(key == name or key.startswith(f"{name}.") for name in UNDECIDING):
            assert after == before, key
            continue
        assert {stage for stage in table if keys_changed(table[stage], before, after)} == expected_for(key), key


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("segmenters.plain.weight_decay", 0.02, {"segment"}),
        ("segmenters.plain.phases", [{"epochs": 3}], {"segment"}),
        ("segmenters.plain.backbone", "resnet34", PIXELS),  # whose layers a saved network holds
        ("regions.garments.smallest", 0.01, {"regions", "register"}),
        ("regions.garments.segmenters", ["plain"], {"regions", "register"}),
        ("dataset.instances.on_top", "smallest", PIXELS | {"ingest", "submit_masks"}),
    ],
)
def test_keys_of_segmenters_and_regions_rerun_their_stages(key: str, value: Any, expected: set[str]) -> None:
    def with_photos() -> dict[str, Any]:
        stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        stated["dataset"] |= {"format": "imaterialist2019", "answers": None}
        segmenters = {"plain": {"backbone": "small_cnn"}, "other": {"backbone": "resnet34"}}
        own = {"base_models": [0, 1, 2, 3, 4], "segmenters": segmenters, "regions": {"garments": {}}}
        return dict(stated | own)

    before, stated = settings(Params.model_validate(with_photos())), with_photos()
    *path, last = key.split(".")
    section = stated
    for part in path:
        section = section[part]
    section[last] = value
    after, table = settings(Params.model_validate(stated)), graph.stages(REPOSITORY / "dvc.yaml")
    assert {stage for stage in table if keys_changed(table[stage], before, after)} == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("region_rows.garments.margin", 0.2, {"region_rows", "submit_masks", "register"}),
        ("region_rows.garments.mask", "none", {"region_rows", "submit_masks", "register"}),
        ("region_rows.garments.context", "photo", {"region_rows", "submit_masks", "register"}),
        ("models.plain_cnn.mask", "grey", {"train", "predict", "register"}),
        ("models.plain_cnn.sees", "region", {"train", "predict", "register"}),
    ],
)
def test_keys_of_rows_that_are_regions_rerun_their_stages(key: str, value: Any, expected: set[str]) -> None:
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    stated["dataset"] |= {
        "format": "imaterialist2019", "into": "data/photos", "answers": None, "instances": {"labels": "attributes"}
    }  # fmt: skip
    stated |= {
        "base_models": [0, 1, 2, 3, 4],
        "segmenters": {"plain": {"backbone": "small_cnn"}},
        "regions": {"garments": {}},
        "region_rows": {"garments": {"mask": "stored"}},
    }
    before, table = settings(Params.model_validate(stated)), graph.stages(REPOSITORY / "dvc.yaml")
    path, last = key.rsplit(".", 1)
    section = stated
    for part in path.split("."):
        section = section[part]
    section[last] = value
    after = settings(Params.model_validate(stated))
    before["models"] = {name: {"all": of["0"]} for name, of in before["models"].items()}
    after["models"] = {name: {"all": of["0"]} for name, of in after["models"].items()}
    assert {stage for stage in table if keys_changed(table[stage], before, after)} == expected


def test_another_task_reruns_all_that_learns_decides_or_answers() -> None:
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    stated["thresholds"]["calibration"] = "none"  # fits both
    before = settings(Params.model_validate(stated))
    stated["dataset"]["task"] = "single_label"
    after, table = settings(Params.model_validate(stated)), graph.stages(REPOSITORY / "dvc.yaml")
    reran = {stage for stage in table if keys_changed(table[stage], before, after)}
    assert reran == SECOND_LEVEL | {"ingest", "train", "second", "evaluate", "submit", "register", "report"}


def test_every_key_of_a_second_round_reruns_what_the_table_says() -> None:
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text()) | {"second_round": {"closer": dict(CLOSER)}}
    table = graph.stages(REPOSITORY / "dvc.yaml")
    before = settings(Params.model_validate(stated))
    for key, value in [leaf for leaf in leaves(stated) if leaf[0].startswith("second_round.closer.")]:
        if key.endswith("closer.kind"):
            continue
        after = changed_settings(stated, key, value)
        assert {stage for stage in table if keys_changed(table[stage], before, after)} == expected_for(key), key
    for name, expected in (("plain_cnn", {"train", "second"}), ("efficientnet", {"train"})):
        after = changed_settings(stated, f"models.{name}.head.dropout", 0.4)
        assert {stage for stage in table if keys_changed(table[stage], before, after)} == expected, name


def keys_changed(stage: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a key that a stage (or one of its `foreach`) takes of the settings differs."""
    keys = graph.params_of(stage).get("data/settings.json", [])
    sections = ("models", "stackers", "second_round", "segmenters", "regions")
    names = [*(name for section in sections for name in before[section]), "base_models", "second_round"]
    networks = {
        key.replace("${item.model}", m).replace("${item.segmenter}", m).replace("${item.fold}", "all")
        for key in keys
        for m in [*before["models"], *before["segmenters"]]
    }
    every = {key.replace("${key}", name) for key in networks for name in names}

    def value(content: Any, key: str) -> Any:
        for part in key.split("."):
            content = content.get(part) if isinstance(content, dict) else None
        return content

    return any(value(before, key) != value(after, key) for key in every)


def test_other_views_of_a_model_rerun_its_prediction_and_no_training() -> None:
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    stated["prediction"]["views"] = {"near": {"random_crop": [0.6, 1], "n": 2}}
    table = graph.stages(REPOSITORY / "dvc.yaml")
    before = settings(Params.model_validate(stated))
    stated["models"]["efficientnet"]["tta"] = ["near"]
    with_views = settings(Params.model_validate(stated))
    stated["prediction"]["views"]["near"]["n"] = 3
    after = settings(Params.model_validate(stated))
    for one, other in ((before, with_views), (with_views, after)):
        assert {stage for stage in table if keys_changed(table[stage], one, other)} == PARAMS["models.*.tta"]
    assert [name for name in after["tta"] if after["tta"][name] != before["tta"][name]] == ["efficientnet"]


def test_a_default_that_is_written_out_changes_nothing(tmp_path: Path) -> None:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    written = load_params(REPOSITORY / "params.yaml").model_dump(mode="json")
    del content["sample"]["image_size"], content["folds"]["nested"], content["stackers"]["xgboost"]["base"]
    shorter, longer = tmp_path / "shorter.yaml", tmp_path / "longer.yaml"
    written["sample"]["image_size"], written["stackers"]["xgboost"]["base"] = 96, "prior"
    shorter.write_text(yaml.safe_dump(content, sort_keys=False))
    longer.write_text(yaml.safe_dump(written, sort_keys=False))
    assert settings(load_params(shorter)) == settings(load_params(longer))


# --- through the real DVC -----------------------------------------------------------------------------------------


@contextmanager
def one_byte_changed(file: Path) -> Iterator[None]:
    before = file.read_bytes()
    place = max(before.rfind(digit) for digit in b"0123456789") if file.suffix == ".json" else len(before) - 2
    file.unlink()  # it may be a link into DVC's cache
    file.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    try:
        yield
    finally:
        file.write_bytes(before)


MODELS = {"train@wide-all", "train@deep-all"}
PREDICTED = {"predict@wide-all", "predict@deep-all"}
SCORED = {"score@wide", "score@deep"}
STACKED = {"stack@cnn", "stack@xgboost"}
WHOLE = {"blend", "evaluate", "register", "report"}
INPUTS: dict[str, set[str]] = {
    "data/sample/test_answers.json": {"sample", "ingest"},
    "data/manifest/answers.parquet": {"ingest", "evaluate"},
    "data/manifest/local_files.json": {"ingest", "download@test"},  # the last digit is of the test images
    "data/manifest/beside.parquet": {"ingest", "split"},
    "data/manifest/instances.parquet": {"ingest"},
    "data/manifest/test_instances.parquet": {"ingest", "report"},
    "data/manifest/train.parquet": {"ingest", "download@train", "split", *MODELS, *SCORED, *STACKED, *WHOLE},
    "data/manifest/test.parquet": {"ingest", "download@test"},
    "data/manifest/submission.json": {"ingest", "submit", "register"},
    "data/images/train/shard-00000.parquet": {"download@train", "split", *MODELS, *PREDICTED, "report"},
    "data/folds/fit/all.parquet": {"split", *MODELS},
    "data/folds/predict/all.parquet": {"split", *PREDICTED},
    "data/folds/stacking.parquet": {"split", *SCORED, *STACKED, *WHOLE},
    "data/images/test/shard-00000.parquet": {"download@test", *PREDICTED, "register"},
    "models/networks/wide/all/model.keras": {
        "train@wide-all",
        "predict@wide-all",
        "score@wide",
        "needs",
        "members@base_models",
    },
    "models/networks/wide/all/history.csv": {"train@wide-all", "score@wide", "needs", "members@base_models"},
    "data/network_predictions/wide/all/test.npy": {"predict@wide-all", "score@wide", "needs"},
    "data/predictions/wide/test.npy": {"score@wide", "members@base_models"},
    "data/stacked/cnn/nested.npy": {"stack@cnn", "members@stackers"},
    "models/stackers/cnn/thresholds.json": {"stack@cnn", "members@stackers"},
    "models/ensemble/blend.json": {"blend", "register", "report"},
    "data/ensemble/test.npy": {"blend", "evaluate", "submit", "register", "report"},
    "metrics/submission.json": {"submit", "register"},
}


def test_a_byte_in_any_input_is_seen_by_who_reads_it_and_by_nobody_else(copied: Workspace) -> None:
    assert copied.changed() == set()
    for name, expected in INPUTS.items():
        with one_byte_changed(copied.root / name):
            assert copied.changed() == expected, name


def test_other_answers_are_scored_and_nothing_else_is_done(copied: Workspace) -> None:
    file = copied.root / "data/sample/test_answers.json"
    answers = json.loads(file.read_text())
    for answer in answers["annotations"]:
        answer["label_id"] = answer["label_id"][:1]
    before = json.loads((copied.root / "metrics/evaluation.json").read_text())["scores"]["blend"]["test_samples_f1"]
    file.unlink()
    file.write_text(json.dumps(answers))
    copied.run("labelstack", "stage", "ingest")
    assert copied.changed() == {"sample", "ingest", "evaluate"}
    copied.run("labelstack", "stage", "evaluate")
    after = json.loads((copied.root / "metrics/evaluation.json").read_text())["scores"]["blend"]["test_samples_f1"]
    assert after != before


CODE: list[tuple[str, str, set[str]]] = [
    ("tracking/outbox.py", "\nCHANGED = True\n", set()),
    ("stages/train.py", "\nCHANGED = True\n", set()),
    ("networks/training.py", "\n# said otherwise\n", set()),
    ("networks/backbones/small_resnet.py", "\nCHANGED = True\n", {"train@deep-all", "predict@deep-all"}),
    ("images/pixels/augment.py", "\nCHANGED = True\n", MODELS | PREDICTED),  # one loader reads for both
    ("stacking/stackers/xgb.py", "\nCHANGED = True\n", {"stack@xgboost"}),
    ("formats/submission.py", "\nCHANGED = True\n", {"ingest", "submit", "register"}),
]


def test_a_line_of_code_reruns_the_stages_whose_results_it_may_change(copied: Workspace) -> None:
    for name, line, expected in CODE:
        file = copied.root / "src/labelstack" / name
        text = file.read_text()
        file.write_text(text + line)
        here = environment() | {"PYTHONPATH": str(copied.root / "src")}
        subprocess.run(["labelstack", "stage", "settings"], cwd=copied.root, env=here, check=True, capture_output=True)
        assert copied.changed() == expected, name
        file.write_text(text)


def reordered(content: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(content.items()))


def without_deep(content: dict[str, Any]) -> dict[str, Any]:
    return {name: section for name, section in content.items() if name != "deep"}


def test_reordered_and_removed_models_reach_the_registry_whole(copied: Workspace) -> None:
    after = {*STACKED, "members@stackers", "blend", "evaluate", "register", "report"}
    changes: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str, set[str]]] = [
        (reordered, "2", {"settings", "members@base_models", *after, "submit"}),
        (without_deep, "3", {"settings", "members@base_models", *after, "submit"}),
    ]
    for change, version, expected in changes:
        content = yaml.safe_load((copied.root / "params.yaml").read_text())
        copied.params({**content, "models": change(content["models"])})
        assert copied.repro() == expected
        evaluation = json.loads((copied.root / "metrics/evaluation.json").read_text())
        assert list(evaluation["scores"])[: len(change(content["models"]))] == list(change(content["models"]))
        rebuilt = copied.root / f"rebuilt-{version}"
        said = copied.run("labelstack", "rebuild", version, "--to", str(rebuilt), "--verify", "--submit").stdout
        assert "maximum absolute difference 0" in said
        (submission,) = (rebuilt / "submission").glob("*.csv")
        assert submission.read_bytes() == copied.submission()
    shutil.rmtree(copied.root / "data/predictions/deep")
    assert copied.repro() == {"members@base_models"}
