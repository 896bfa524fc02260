"""Photos in, regions out: the pipeline's numbers, the served form, the files of a version, what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from ensemble.region_parts import CATEGORIES, FOLDS, LABELS, QUALITY, ROWS, STORE, form, parts, photo
from labelstack.commands import kernel
from labelstack.commands.predicted_regions import picture_name, predict_regions, told
from labelstack.commands.rebuild_folder import _submit_masks
from labelstack.ensemble import record
from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import ONLY, EnsembleSettings, NetworkPart, Parts, View, assemble_folder, read_spec
from labelstack.ensemble.record import ProbeImages, RecordedPhotos
from labelstack.ensemble.region_form import REGIONS
from labelstack.formats.mask_submission import NOTHING
from labelstack.images.pixels.decode import decode, read_pixels, to_stored_jpeg
from labelstack.images.pixels.tta import TRANSFORMS
from labelstack.images.region_crops import CropStyle, crops
from labelstack.masks.region_table import read_regions
from labelstack.masks.region_writer import region_rows, write_regions
from labelstack.masks.run_geometry import boxes
from labelstack.masks.run_text import read_runs, write_runs
from labelstack.params.models import ModelSection
from labelstack.predictions import Predictions
from labelstack.registry.verification import recompute
from labelstack.scoring.attribute_rule import chance_of
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages.work.rows_of_regions import PREDICTED, region_id
from labelstack.support.errors import InputProblems, UserError

PHOTOS = [photo(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made: Parts) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    assemble_folder(folder, made)
    return folder


@pytest.fixture(scope="module")
def ensemble(folder: Path) -> Ensemble:
    return Ensemble.load(folder)


def by_hand(made: Parts, given: list[bytes]) -> list[list[dict[str, Any]]]:
    """The regions of photos as the stages find, cut and predict them one after another."""
    from labelstack.networks.inference import compile_predict, load_model, predict
    from labelstack.segmentation.regions import find_regions
    from labelstack.segmentation.segmenter import Segmenter

    stored = [to_stored_jpeg(data, STORE, QUALITY)[0] for data in given]
    photos = [read_pixels(data) for data in stored]
    maps = [list(Segmenter.load(made.segmenters["plain", fold]).predict_proba(photos)) for fold in FOLDS]
    network = load_model(made.models["one"][0].file)
    views, forward = [TRANSFORMS["identity"], TRANSFORMS["hflip"]], compile_predict(network, "probability")
    told = []
    for one, other, jpeg in zip(*maps, stored, strict=True):
        mean = cv2.resize(one + other, (56, 40), interpolation=cv2.INTER_LINEAR) / np.float32(2)
        found = find_regions(mean, len(CATEGORIES), form().found)
        regions = []
        for i, class_ in enumerate(found.class_.tolist()):
            category, mask = CATEGORIES[class_], found.masks.take([i])
            P = np.zeros(0, np.float32)
            if category[0] in ROWS:
                (crop,) = crops(jpeg, mask, CropStyle(0.1, False, QUALITY))
                batches = [(np.array([1]), decode(crop.jpeg, 16)[None])]
                P = predict(network, batches, views, forward=forward)[1][0]
            worn = np.flatnonzero(P >= 0.5).tolist() if category[0] == 3 else []
            regions.append(
                {
                    "category_id": category[0],
                    "category": category[1],
                    "score": float(found.score[i]),
                    "attributes": [LABELS[label][1] for label in worn],
                    "probability": [float(P[label]) for label in worn],
                    "probabilities": P.tolist(),
                    "box": boxes(mask)[0].tolist(),
                    "runs": write_runs(mask)[0],
                }
            )
        told.append(regions)
    return told


def test_networks_are_given_the_masks_of_regions_that_are_found(tmp_path: Path, made: Parts) -> None:
    from labelstack.networks.inference import compile_predict, load_model, save_model
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label

    section = ModelSection(
        backbone="small_cnn", image_size=16, mask="channel", options={"filters": [8]}, head={"units": [8], "dropout": 0}
    )
    network = build_model(section, multi_label(section, len(LABELS)))
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 0.3, weight.shape) ** 2 for weight in network.get_weights()])
    save_model(network, tmp_path / "masked" / "model.keras")
    view, tta = View(16, region=section.region_view), EnsembleSettings(("identity",), 4, STORE, QUALITY)
    part = NetworkPart(ONLY, tmp_path / "masked" / "model.keras", view)
    assemble_folder(
        tmp_path / "ensemble", replace(made, models={"one": [part]}, regions=form(mask="stored"), settings=tta)
    )
    assert read_spec(tmp_path / "ensemble").views["one"][ONLY] == view
    ensemble = Ensemble.load(tmp_path / "ensemble")
    forward, seen, apart = compile_predict(load_model(part.file)), 0, 0.0
    for jpeg, regions in zip(PHOTOS, ensemble.regions(PHOTOS, all_probabilities=True)["regions"], strict=True):
        stored = to_stored_jpeg(jpeg, STORE, QUALITY)[0]
        for region in regions:
            if region["category_id"] in ROWS:
                masks, *_ = read_runs([region["runs"]], *[[one] for one in region["size"]])
                (crop,) = crops(stored, masks, CropStyle(0.1, False, QUALITY, True))
                pixels = decode(crop.jpeg, 16, view=section.region_view)
                assert np.allclose(forward(pixels[None])[0], region["probabilities"], atol=1e-5)
                pixels[..., 3] = 0
                apart = max(apart, float(np.abs(forward(pixels[None])[0] - region["probabilities"]).max()))
                seen += 1
    assert seen > 2
    assert apart > 1e-3
    (row,) = ensemble.predict([PHOTOS[0]])["error"]
    assert "no mask lies beside the image" in row


def test_regions_are_those_that_the_stages_find_and_label(ensemble: Ensemble, made: Parts) -> None:
    given = [PHOTOS[0], b"broken!", *PHOTOS[1:]]
    rows = ensemble.regions(given, all_probabilities=True)
    assert list(rows.columns) == ["regions", "error"]
    assert [bool(error) for error in rows["error"]] == [False, True, False, False, False, False, False]
    assert rows["regions"][1] == []
    named, with_attributes = set(), 0
    for expected, regions in zip(by_hand(made, PHOTOS), rows["regions"].drop(1), strict=True):
        assert len(regions) == len(expected)
        for one, by in zip(regions, expected, strict=True):
            assert {key: one[key] for key in ("category_id", "category", "attributes", "box", "runs")} == {
                key: by[key] for key in ("category_id", "category", "attributes", "box", "runs")
            }
            for key in ("score", "probability", "probabilities"):
                np.testing.assert_allclose(one[key], by[key], atol=1e-5)
            assert one["size"] == [40, 56]
            (mask, faults, _) = read_runs([one["runs"]], [40], [56])
            assert not faults
            assert boxes(mask)[0].tolist() == one["box"]
            assert bool(one["probabilities"]) == (one["category_id"] in ROWS)
            named.add(one["category"])
            with_attributes += bool(one["attributes"])
    assert len(named) > 1  # else the test says little
    assert with_attributes


def test_attributes_are_given_where_the_rule_gives_them(ensemble: Ensemble) -> None:
    def under(**change: Any) -> Any:
        return Ensemble(replace(ensemble.spec, regions=form(**change)), ensemble.rooms, ensemble.sources)

    whole = under().regions(PHOTOS, all_probabilities=True)
    regions = [one for row in whole["regions"] for one in row if one["category_id"] == 3]
    P = np.array([one["probabilities"] for one in regions], np.float32)
    chance = chance_of(P >= 0.5, P)
    least = float(np.median(chance))
    some = under(attributes={"3": {"set": "decided", "least": least}}).regions(PHOTOS)
    told = [bool(one["attributes"]) for row in some["regions"] for one in row if one["category_id"] == 3]
    assert told == ((chance >= least) & (P >= 0.5).any(axis=1)).tolist()
    none = under(attributes={}).regions(PHOTOS)
    assert not any(one["attributes"] for row in none["regions"] for one in row)
    assert "probabilities" not in none["regions"][0][0]


def test_over_http_photos_have_lists_of_regions(folder: Path, ensemble: Ensemble) -> None:
    """The entry point of MLflow, whose answer is JSON as its server writes it."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import predictions_to_json

    from labelstack.ensemble.log import _signature
    from labelstack.ensemble.pyfunc_model import EnsembleModel

    context = SimpleNamespace(artifacts={"ensemble": str(folder)})
    model = EnsembleModel()
    model.load_context(context)
    found = model.predict(context, pd.DataFrame({"image": [PHOTOS[0], b""]}), {"all_probabilities": True})
    output = io.StringIO()
    predictions_to_json(found, output)
    (first, second) = json.loads(output.getvalue())["predictions"]
    expected = ensemble.regions([PHOTOS[0]], all_probabilities=True)["regions"][0]
    assert len(first["regions"]) == len(expected)
    assert first["regions"][0]["runs"] == expected[0]["runs"]
    assert second == {"regions": [], "error": "the image is empty"}
    with pytest.raises(MlflowException, match="attributes: this version tells all attributes"):
        model.predict(context, pd.DataFrame({"image": [PHOTOS[0]]}), {"attributes": "x"})
    assert _signature(regions=True).outputs.input_names() == ["regions", "error"]


def test_a_version_without_segmenters_finds_no_regions(made: Parts, tmp_path: Path) -> None:
    assemble_folder(tmp_path / "plain", replace(made, regions=None, segmenters={}))
    plain = Ensemble.load(tmp_path / "plain")
    assert plain.spec.regions is None
    assert not (tmp_path / "plain" / REGIONS).exists()
    assert len(plain.predict([PHOTOS[0]])["error"]) == 1
    with pytest.raises(UserError, match="this version has no segmenters"):
        plain.regions([PHOTOS[0]])


def test_the_files_of_a_version_hold_its_segmenters(folder: Path) -> None:
    listed = json.loads((folder / "checksums.json").read_text())
    wanted = {f"segmenters/plain/{fold}/{name}" for fold in FOLDS for name in ("model.keras", "segmenter.json")}
    assert wanted | {"regions.json"} <= set(listed)
    assert read_spec(folder).regions == form()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"segmenters": {}}, "segmenters: .*at least 1"),
        ({"segmenters": {"../plain": ["0"]}}, r"segmenters.*pattern"),
        ({"segmenters": {"plain": []}}, "segmenters.plain: names no fold"),
        ({"categories": []}, "categories"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "an id stands there twice"),
        ({"rows": [4]}, "there is no category 4"),
        ({"attributes": {"44": {"set": "decided", "least": 0.5}}}, "there is no category 44"),
        ({"attributes": {"3": {"set": "best", "least": 0.5}}}, "attributes.3.set"),
        ({"attributes": {"3": {"set": "decided", "least": 2}}}, "attributes.3.least"),
        ({"margin": -1}, "margin"),
        ({"extra": 1}, "extra"),
        ({"segmenters": {"plain": ["0", "7"]}}, "segmenters/plain/7/model.keras: not found"),
    ],
)
def test_ill_formed_files_are_named(folder: Path, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / REGIONS
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputProblems, match=f"(?s){sentence}"):
        read_spec(tmp_path / "copy")


def test_a_missing_segmenter_is_named(made: Parts, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    gone = replace(made, segmenters={**made.segmenters, ("plain", "1"): tmp_path / "gone"})
    with pytest.raises(InputProblems, match=r"gone/model.keras: not found(?s:.*)gone/segmenter.json: not found"):
        assemble_folder(tmp_path / "to", gone)


# The command.


def test_regions_are_told_as_json_and_drawn(
    ensemble: Ensemble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, data in enumerate(PHOTOS[:2]):
        (tmp_path / f"ph ö{number}.jpg").write_bytes(data)
    given = [str(tmp_path / "ph ö0.jpg"), "gone.jpg", str(tmp_path / "ph ö1.jpg")]
    failed = predict_regions(ensemble, given, given, all_probabilities=True, as_json=True, draw=tmp_path / "drawn")
    assert failed == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == given
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    one = next(one for one in rows[0]["regions"] if one["category_id"] in ROWS)
    assert set(one["probabilities"]) == {"2", "5", "9"}
    assert set(one) >= {"category", "score", "attributes", "probability", "box", "size", "runs"}
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == ["0001-ph-0.jpg", "0003-ph-1.jpg"]
    picture = cv2.imread(str(tmp_path / "drawn" / "0001-ph-0.jpg"))
    assert max(picture.shape[:2]) == 640


def test_regions_are_told_as_a_table_and_as_csv(
    ensemble: Ensemble, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.jpg").write_bytes(PHOTOS[0])
    given = [str(tmp_path / "a.jpg"), "[bold]gone.jpg"]
    predict_regions(ensemble, given, given)
    text = capsys.readouterr().out
    (regions,) = ensemble.regions([PHOTOS[0]])["regions"]
    assert all(f"{one['category']} {one['score']:.2f}" in text for one in regions)
    assert "[bold]gone.jpg: neither" in text
    predict_regions(ensemble, given, given, out=tmp_path / "out.csv", all_probabilities=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["runs"] for row in rows] == [*(one["runs"] for one in regions), ""]
    assert rows[0]["box"] == " ".join(map(str, regions[0]["box"]))
    assert rows[-1]["error"].startswith("[bold]gone.jpg: neither")


def test_pictures_have_plain_names_and_regions_one_line() -> None:
    assert told({"category": "a", "score": 0.5, "attributes": ["b", "c"]}) == "a 0.50 · b, c"
    assert picture_name(1, "a/b c.jpg") == "0001-b-c.jpg"
    assert picture_name(12, "https://u:p@x.org/../k%20é.png?token=1") == "0012-k-20.jpg"
    assert picture_name(3, "x" * 5000) == "0003.jpg"
    assert picture_name(4, "毛衣.jpg") == "0004.jpg"


# The record.


@pytest.fixture
def recorded(tmp_path: Path, made: Parts, ensemble: Ensemble) -> Path:
    """An ensemble's folder whose record knows the regions of six photos, found four together and two."""
    batch = np.array([0, 0, 0, 0, 1, 1])
    stored = [to_stored_jpeg(data, STORE, QUALITY)[0] for data in PHOTOS]
    find = ensemble.rooms.regions
    assert find is not None
    found = [*find(stored[:4]), *find(stored[4:])]
    rows = [region_rows(10 + i, one.category.astype(np.int32), one.score, one.masks) for i, one in enumerate(found)]
    write_regions(tmp_path / "test.parquet", rows)
    kept = RecordedPhotos(
        ProbeImages(np.arange(10, 16), stored, batch),
        tmp_path / "test.parquet",
        np.arange(10, 18),
        [f"{i}.jpg" for i in range(8)],
        {"filename": "masks.csv", "sha256": "0" * 64, "side": 64},
    )
    from ensemble.records import record as small_record

    to = tmp_path / "version"
    to.mkdir()
    whole = small_record(tmp_path / "labels", photos=kept)
    assemble_folder(to, replace(made, record=whole))
    return to


def test_the_record_is_read_as_written(recorded: Path) -> None:
    kept = record.read_photos(recorded)
    assert kept.image_id.tolist() == list(range(10, 18))
    assert kept.name[7] == "7.jpg"
    assert kept.probe.batch.tolist() == [0, 0, 0, 0, 1, 1]
    assert kept.submission == {"filename": "masks.csv", "sha256": "0" * 64, "side": 64}
    assert "record/regions.parquet" in json.loads((recorded / "checksums.json").read_text())


def test_a_kernel_of_it_is_refused_with_what_to_do_instead(recorded: Path, tmp_path: Path) -> None:
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises(UserError, match=r"finds regions in photos, and a kernel labels whole images") as error:
        kernel.run(str(recorded), tmp_path / "kernel.py")
    assert "`labelstack predict FOLDER --json` gives regions of photos" in str(error.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_segmenters_find_the_recorded_regions_again_or_are_told(recorded: Path) -> None:
    row = recompute(recorded, here=record.read_machine(recorded)).rows[0]
    assert (row.kind, row.member, row.images, row.difference, row.problem) == ("segmenters", "regions", 6, 0.0, "")
    other, own = (recorded / f"segmenters/plain/{fold}/model.keras" for fold in FOLDS)
    own.unlink()
    shutil.copyfile(other, own)
    row = recompute(recorded, here=record.read_machine(recorded)).rows[0]
    assert "photos have other regions, in up to" in row.problem
    own.write_bytes(b"no network")
    row = recompute(recorded, here=record.read_machine(recorded)).rows[0]
    assert row.difference is None
    assert row.problem


def test_the_file_of_masks_is_written_again_from_the_record(recorded: Path, tmp_path: Path) -> None:
    kept, spec = record.read_photos(recorded), read_spec(recorded)
    table = read_regions(kept.regions, kept.image_id).select(["image_id", "region", "category"]).to_pylist()
    shown = [one for one in table if one["category"] in ROWS]
    ids = np.array([region_id(one["image_id"], PREDICTED, one["region"]) for one in shown], np.int64)
    P = np.random.default_rng(0).random((len(ids), len(LABELS)), np.float32)
    (tmp_path / "workspace/submission").mkdir(parents=True)
    blended, decision = Predictions(ids, P), Decision.from_dict(spec.decision)
    path, sha256 = _submit_masks(recorded, spec, tmp_path / "workspace", blended, decision)
    assert (path.name, sha256) == ("masks.csv", "0" * 64)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ImageId"] for row in rows if (row["EncodedPixels"], row["ClassId"]) == NOTHING][-2:] == [
        "6.jpg",
        "7.jpg",
    ]
    given: dict[str, set[str]] = {name: set() for name in kept.name}
    for row in rows:
        given[row["ImageId"]].add(row["ClassId"])
    worn = {
        "_".join(map(str, [3, *(label for (label, _), p in zip(LABELS, own, strict=True) if p >= 0.5)]))
        for one, own in zip(shown, P, strict=True)
        if one["category"] == 3
    }
    assert {text for own in given.values() for text in own} <= worn | {"7", "8", NOTHING[1]}
    assert any("_" in text for own in given.values() for text in own)
