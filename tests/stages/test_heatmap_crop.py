"""Crops about what the first networks look at: boxes of each row, the networks taught on them, and new photos."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import Parts, assemble_folder
from labelstack.formats.manifest import read_manifest
from labelstack.images.heat_table import read_heat
from labelstack.images.pixels.decode import decode
from labelstack.images.shards.shard_files import images_by_id, status_frame
from labelstack.images.view_table import read_view
from labelstack.networks.heatmaps import heat_box, heatmaps_of
from labelstack.networks.inference import load_model
from labelstack.params import Params, load_params
from labelstack.predictions import answered, read_predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import download, ingest, needs, paths, predict, sample, score, second, second_score, split, train
from labelstack.stages import views as view_stage
from labelstack.stages.attribute_pages import crops
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.members import Network, base_model, second_round_model, view_file
from labelstack.stages.rows import label_table
from labelstack.stages.version_parts import network_part, registered_heatmaps, settings_of
from labelstack.support.box import Box
from tiny import REPOSITORY, TINY, merged

pytestmark = pytest.mark.slow
GROUPS = ["neckline_design_labels"]
MODEL = TINY["models"]["deep"] | {"epochs": 1, "groups": GROUPS}
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "fashionai2018",
        "task": "single_label",
        "answers": None,
        "label_ids": None,
        "validation": 0,
    },
    "sample": {"n_train": 240, "n_test": 48, "image_size": 48},
    "base_models": [0, 1],
    "folds": {"k": 2},
    "models": {"necks": MODEL},
    "second_round": {
        "closer": {"kind": "crop", "after": ["necks"], "heatmap": {"threshold": 0.75}, "margin": 0.05, "epochs": 1}
    },
    "stackers": {"mean": {"kind": "mean"}},
    "thresholds": {"strategy": "argmax", "calibration": "temperature"},
    "training": {"holdout": 0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the second round has run."""
    folder = tmp_path_factory.mktemp("crop")
    content = merged(yaml.safe_load((REPOSITORY / "params.yaml").read_text()), merged(TINY, CHANGE))
    with chdir(folder):
        subprocess.run(["git", "init", "-q"], check=True)
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        for stage in (sample, ingest):
            stage.run()
        for part in paths.SPLITS:
            download.run(part)
        split.run()
        view_stage.run("closer")
        for of_model in (train, predict, score):
            of_model.run("necks")
        needs.run()
        second.run("closer")
        second_score.run("closer")
    return folder


@pytest.fixture
def params(made: Path) -> Iterator[Params]:
    with chdir(made):
        yield load_params()


def known(part: str) -> pd.Series[str]:
    return read_manifest(paths.manifest(part)).set_index("image_id")["known"]


def by_hand(part: str, row: int, folds: list[str]) -> Box | None:
    """The box of a row from the mean map of some folds' networks."""
    jpeg = images_by_id(paths.shards(part), np.array([row]))[row]
    pixels = decode(jpeg, 24)[None]
    heat = sum(heatmaps_of(load_model(Network("necks", fold).weights))(pixels)[0] for fold in folds)
    width, height = status_frame(paths.shards(part)).set_index("image_id").loc[row, ["width", "height"]]
    box = heat_box(heat, 24, width, height, 0.75)  # type: ignore[arg-type]
    return None if box is None else box.widened(0.05)


def test_a_row_of_train_is_cut_by_the_network_that_did_not_learn_from_it(params: Params) -> None:
    boxes = read_view(view_file("closer"), "train")
    mine = known("train").isin(GROUPS)
    assert 0 < len(boxes) <= mine.sum()
    assert mine.loc[list(boxes)].all()
    folds = pd.read_parquet(paths.STACKING).set_index("row_id")["fold"].loc[list(boxes)]
    differ = 0
    for fold, other in (("0", "1"), ("1", "0")):
        for row in folds.index[folds == int(fold)][:3].tolist():
            own = by_hand("train", row, [fold])
            assert boxes[row] == pytest.approx(own)
            differ += own != by_hand("train", row, [other])
    assert differ > 1
    assert len(set(boxes.values())) > 3


def test_new_rows_are_cut_by_the_mean_map(params: Params) -> None:
    boxes = read_view(view_file("closer"), "test")
    mine = known("test").isin(GROUPS)
    assert set(boxes) <= set(mine.index[mine])
    for row in list(boxes)[:2]:
        assert boxes[row] == pytest.approx(by_hand("test", row, params.networks))


def test_the_report_shows_where_the_first_networks_look(params: Params) -> None:
    rows = stacking_rows(params)
    shown = crops(params, rows, {})
    assert len(shown) == 6
    assert all(one.heat is not None for one in shown)
    heat = read_heat(paths.found_heat("closer"))
    assert set(read_view(view_file("closer"), "train")) <= set(heat)
    assert len(heat) == known("train").isin(GROUPS).sum()
    row = next(iter(heat))
    fold = str(pd.read_parquet(paths.STACKING).set_index("row_id")["fold"].loc[row])
    pixels = decode(images_by_id(paths.shards("train"), np.array([row]))[row], 24)[None]
    mine = heatmaps_of(load_model(Network("necks", fold).weights))(pixels)[0]
    assert heat[row] / 255 == pytest.approx(mine, abs=0.01)


def test_its_networks_are_members_and_say_what_they_know(params: Params) -> None:
    own, first = second_round_model("closer", params.networks), base_model("necks", params.networks)
    for part in ("oof", "test"):
        found, before = (read_predictions(getattr(member, part)) for member in (own, first))
        assert sorted(found.image_id) == sorted(before.image_id)
        same = before.rows_of(found.image_id)
        assert (np.isnan(found.probability) == np.isnan(same)).all()
        assert np.nan_to_num(np.abs(found.probability - same)).max() > 1e-4
    digests = json.loads(own.digests.read_text())
    assert set(digests) >= {"predictions", "views", "weights"}
    assert json.loads(own.scores.read_text())["samples_f1_cross_fitted"] >= 0


def test_a_registered_ensemble_cuts_new_photos_as_the_pipeline_does(params: Params, tmp_path: Path) -> None:
    """Stored bytes, so that nothing is resized again: what comes out are the test rows' predictions."""
    labels = label_table()
    files = tmp_path / "files"
    files.mkdir()
    (files / "blend.json").write_text(json.dumps({"weights": {"closer": 1.0}}))
    rule = {"strategy": "argmax", "thresholds": None, "decision": Decision("argmax").to_dict()}
    (files / "thresholds.json").write_text(json.dumps(rule))
    models = [base_model("necks", params.networks), second_round_model("closer", params.networks)]
    parts = Parts(
        {one.name: [network_part(params, network) for network in one.networks] for one in models},
        {},
        files / "blend.json",
        files / "thresholds.json",
        list(zip(labels["label_id"].tolist(), labels["name"].tolist(), strict=True)),
        settings_of(params),
        second_round=["closer"],
        heatmaps=registered_heatmaps(params),
    )
    assemble_folder(tmp_path / "ensemble", parts)
    ensemble = Ensemble.load(tmp_path / "ensemble")
    ensemble.rooms = replace(ensemble.rooms, blend=lambda members, _: np.nan_to_num(members["closer"]))
    expected = read_predictions(models[1].test)
    rows = expected.image_id[answered(expected.probability)]
    jpegs = images_by_id(paths.shards("test"), rows)
    seen: dict[str, Any] = {}
    inner = ensemble.rooms.models["closer"]
    ensemble.rooms.models["closer"] = lambda pixels: seen.setdefault("closer", inner(pixels))  # type: ignore[index]
    ensemble.predict([jpegs[int(row)] for row in rows], progress=False)
    np.testing.assert_allclose(seen["closer"], expected.rows_of(rows), atol=2e-3, equal_nan=True)
    assert not np.isnan(seen["closer"]).all(axis=1).any()
