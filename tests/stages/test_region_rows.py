"""Regions of photos as rows: which there are, what they look like, who learns from them, what is handed in of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from found_regions import write_found
from labelstack.commands import audit
from labelstack.formats.manifest import label_matrix, read_manifest
from labelstack.images.pixels.decode import read_pixels, read_seen
from labelstack.images.shards.shard_files import images_by_id, ok_ids, status_frame
from labelstack.masks.class_map_table import class_map_groups, map_categories
from labelstack.masks.instance_table import masks_of, read_instances, write_instances
from labelstack.masks.region_table import read_regions
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import decode
from labelstack.params import Params
from labelstack.params.region_view import RegionView
from labelstack.params.sample import SampleSection
from labelstack.predictions import write_predictions
from labelstack.sample import draw_instances
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import download, ingest, paths, region_rows, split, submit_masks
from labelstack.stages.fold_files import read_asked, read_audit, read_fitted, read_stacking
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import THE_BLEND
from labelstack.stages.rows import label_table
from labelstack.stages.work.rows_of_regions import PREDICTED, TRUE, region_id
from labelstack.support.errors import UserError
from tiny import REPOSITORY, TINY, merged

WIDE = TINY["models"]["wide"]
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "imaterialist2019",
        "into": "data/photos",
        "answers": "data/sample/test_answers.csv",
        "validation": 0.2,
        "instances": {"labels": "attributes"},
    },
    "sample": {"n_train": 60, "n_test": 20, "image_size": 64},
    "images": {"store_size": 64, "shard_rows": 25, "workers": 1},
    "base_models": [0, 1, 2],
    "folds": {"k": 3},
    "models": {"wide": WIDE},
    "stackers": {"mean": {"kind": "mean"}},
    "segmenters": {"plain": {"backbone": "small_cnn", "decoder": {"filters": [16, 8], "middle": False}}},
    "regions": {"garments": {"size": 64}},
    "region_rows": {"garments": {"size": 128}},
}


def content(**change: Any) -> dict[str, Any]:
    whole = merged(yaml.safe_load((REPOSITORY / "params.yaml").read_text()), merged(TINY, CHANGE))
    return merged(whole, change)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which regions are rows and have their folds."""
    root = tmp_path_factory.mktemp("regions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Path("params.yaml").write_text(yaml.safe_dump(content()))
        draw_instances("data/sample", SampleSection(**content()["sample"]), 2018)
        ingest.run()
        for name in paths.SPLITS:
            download.run(name)
        write_found(root)
        region_rows.run("garments")
        split.run()
        yield root


def beside() -> pd.DataFrame:
    return pd.read_parquet(paths.BESIDE).set_index("row_id")


def test_photos_and_their_regions_lie_apart(project: Path) -> None:
    photos = read_manifest("data/photos/manifest/train.parquet")
    assert len(photos) + len(read_manifest("data/photos/manifest/validation.parquet")) == 60
    assert np.array_equal(ok_ids("data/photos/images/train"), photos["image_id"])
    for name in paths.SPLITS:
        rows = read_manifest(paths.manifest(name))
        assert len(rows)
        assert np.array_equal(ok_ids(paths.shards(name)), rows["image_id"])


def test_true_regions_are_all_of_categories_with_attributes(project: Path) -> None:
    train = read_manifest("data/photos/manifest/train.parquet")["image_id"]
    table = read_instances("data/photos/manifest/instances.parquet", train).to_pandas()
    table["number"] = table.groupby("image_id").cumcount()
    worn = table["attributes"].map(len) > 0
    expected = table[table["category"].isin(table.loc[worn, "category"])]
    rows, of = read_manifest(paths.manifest("train")).set_index("image_id"), beside()
    true = rows[(of.loc[rows.index, "part"] == TRUE).to_numpy()]
    ids = [region_id(photo, TRUE, n) for photo, n in zip(expected["image_id"], expected["number"], strict=True)]
    assert sorted(true.index) == sorted(ids)
    labels = dict(zip(ids, expected["attributes"], strict=True))
    assert all(list(true.loc[one, "label_id"]) == list(labels[one]) for one in ids)
    assert set(label_table()["label_id"]) == {one for labels in expected["attributes"] for one in labels}
    counts = [sum(label in one for one in labels.values()) for label in label_table()["label_id"]]
    assert label_table()["n_train"].tolist() == counts


def test_predicted_regions_have_the_attributes_of_the_instance_that_they_are(project: Path) -> None:
    """The helper's regions are instances moved by a pixel: their numbers are known, and false ones come last."""
    for name in ("train", "validation", "test"):
        photos = read_manifest(f"data/photos/manifest/{name}.parquet")["image_id"].to_numpy()
        truth = "test_instances" if name == "test" else "instances"
        labelled = paths.ANSWERS if name == "test" else paths.manifest(name)
        rows = read_manifest(labelled).set_index("image_id")["label_id"]
        true = read_instances(f"data/photos/manifest/{truth}.parquet", photos).to_pandas()
        seen = 0
        for photo, own in true.groupby("image_id"):
            found = read_regions(paths.regions(name), [photo]).to_pandas()
            for number, category in zip(found["region"], found["category"], strict=True):
                row = region_id(int(photo), PREDICTED, number)
                if row in rows.index:
                    seen += 1
                    near = [list(a) for a, c in zip(own["attributes"], own["category"], strict=True) if c == category]
                    known = set(label_table()["label_id"])
                    assert list(rows[row]) in [[a for a in one if a in known] for one in near]
        assert seen > 10


def test_every_test_region_of_such_a_category_is_asked_for(project: Path) -> None:
    photos = read_manifest("data/photos/manifest/test.parquet")["image_id"].to_numpy()
    found = read_regions(paths.regions("test"), photos).to_pandas()
    categories = json.loads(Path("metrics/region_rows.json").read_text())["categories"]
    asked = found[found["category"].isin(categories)]
    ids = {region_id(photo, PREDICTED, n) for photo, n in zip(asked["image_id"], asked["region"], strict=True)}
    rows = read_manifest(paths.manifest("test"))
    assert set(rows["image_id"]) == ids
    assert rows["label_id"].isna().all()
    assert set(json.loads(paths.SUBMISSION_FORM.read_text())["image_id"]) == ids


def test_a_fold_learns_from_true_regions_of_other_photos_and_predicts_found_ones_of_its_own(project: Path) -> None:
    rows, of = read_stacking(Params.model_validate(content())), beside()
    folds = pd.read_parquet(paths.PHOTO_FOLDS).set_index("image_id")["fold"]
    asked: list[int] = []
    for fold in range(3):
        fitted, parts = read_fitted(str(fold)), read_asked(str(fold))
        learnt = np.concatenate([fitted.fit, fitted.holdout])
        assert set(of.loc[learnt, "part"]) == {TRUE}
        assert set(of.loc[parts.oof.row_id, "part"]) == {PREDICTED}
        assert set(of.loc[parts.oof.row_id, "fold"]) == {fold}
        assert fold not in set(of.loc[learnt, "fold"])
        kinds = (fitted.fit, fitted.holdout, parts.oof.row_id)
        photos = [set(of.loc[ids, "group"]) for ids in kinds]
        assert not photos[0] & photos[1]
        assert not (photos[0] | photos[1]) & photos[2]
        assert all(folds[int(photo)] == fold for photo in photos[2])
        asked += parts.oof.row_id.tolist()
    assert sorted(asked) == sorted(rows.rows.row_id)
    audit = read_audit()
    assert audit is not None
    assert set(audit.row_id) == set(of.index[of["split"] == "validation"])


def blended(right: float, seed: int = 0) -> None:
    """The blend's files as if networks had said so: the true attributes with this chance, else others."""
    labels, rng = label_table()["label_id"].to_numpy(), np.random.default_rng(seed)
    train = read_manifest(paths.manifest("train")).set_index("image_id")
    stacking = pd.read_parquet(paths.STACKING)["row_id"].to_numpy()
    answers = read_manifest(paths.ANSWERS).set_index("image_id")["label_id"]
    test = read_manifest(paths.manifest("test"))["image_id"].to_numpy()
    sets = {
        THE_BLEND.oof: (stacking, train.loc[stacking, "label_id"].tolist()),
        THE_BLEND.test: (test, [answers.get(one, []) for one in test]),
    }
    for path, (ids, known) in sets.items():
        Y = label_matrix(known, labels).astype(bool)
        wrong = rng.random(len(Y)) >= right
        Y[wrong] = ~Y[wrong]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, ids, np.where(Y, 0.9, 0.1))
        if path == THE_BLEND.oof:
            write_predictions(THE_BLEND.cross_fitted, ids, Y.astype(np.float32))
    rule = Decision("fixed", thresholds=np.full(len(labels), 0.5, np.float32))
    save_decision(THE_BLEND.rule, labels, rule)


def test_right_attributes_are_written_and_gain(project: Path) -> None:
    blended(1.0)
    submit_masks.run("garments")
    told = json.loads(Path("metrics/masks.json").read_text())
    for scores in (told["out_of_fold"], told["test"]):
        with_, without, alone = (
            scores[name]["score"] for name in ("with_attributes", "without_attributes", "categories_alone")
        )
        assert without < with_ <= alone
        assert scores["gain"]["low"] > 0
    assert told["with_attributes"] > 0
    assert told["rule"]
    scores = told["out_of_fold"]  # a category that the other folds lack gets no attributes
    assert scores["with_attributes"]["score"] == pytest.approx(scores["as_decided"]["score"], abs=0.01)


def test_wrong_attributes_stay_out(project: Path) -> None:
    blended(0.0)
    submit_masks.run("garments")
    told = json.loads(Path("metrics/masks.json").read_text())
    assert told["rule"] == {}
    assert told["with_attributes"] == 0
    assert told["test"]["with_attributes"] == told["test"]["without_attributes"]
    again = Path("submission/masks.csv").read_bytes()
    submit_masks.run("garments")
    assert Path("submission/masks.csv").read_bytes() == again


def test_class_maps_of_test_photos_are_scored_where_the_answers_are_known(project: Path) -> None:
    """By a plain loop over pixels; without answers there is no score."""
    blended(1.0)
    submit_masks.run("garments")
    told = json.loads(Path("metrics/masks.json").read_text())["test_segmentation"]
    categories = map_categories(paths.CLASS_MAPS).tolist()
    right, of_truth, hit = 0, 0, Counter[int]()
    union = Counter[int]()
    photos = [one for group in class_map_groups(paths.CLASS_MAPS) for one in group]
    for photo, given in photos:
        true = read_instances("data/photos/manifest/test_instances.parquet", [photo])
        pixels = decode(resized(masks_of(true), 64, 64))
        for y, x in np.ndindex(64, 64):
            under = [c for c, mask in zip(true["category"].to_pylist(), pixels, strict=True) if mask[y, x]]
            known = [c for c in under if c in categories]
            truth = categories.index(known[-1]) if known else len(categories)  # on_top: last
            right += truth == given[y, x] != len(categories)
            of_truth += truth != len(categories)
            hit[truth] += int(truth == given[y, x])
            union.update({truth, int(given[y, x])})
    assert told["photos"] == len(photos) == 20
    assert told["pixel_accuracy"] == pytest.approx(right / of_truth, abs=1e-6)
    iou = list(told["class_iou"].values())
    for class_, value in enumerate(iou):
        assert value == (pytest.approx(hit[class_] / union[class_], abs=1e-6) if union[class_] else None)
    low, high = told["intervals"]["mean_iou"]
    assert low <= told["mean_iou"] <= high
    assert 0.3 < told["mean_iou"] < 1  # masks are moved by a pixel

    true_file = Path("data/photos/manifest/test_instances.parquet")
    before = true_file.read_bytes()
    try:
        write_instances(true_file, None)
        submit_masks.run("garments")
    finally:
        true_file.write_bytes(before)
    without = json.loads(Path("metrics/masks.json").read_text())
    assert without["test"] is without["test_segmentation"] is None


def test_an_audit_of_regions_is_refused_before_anything_is_read(project: Path, tmp_path: Path) -> None:
    """What it would list are ids of regions, which nothing could correct."""
    with pytest.raises(UserError, match=r"^audit: with region_rows the rows are regions, .* Mend that file itself"):
        audit.run(to=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_crops_are_the_boxes_with_their_margin(project: Path) -> None:
    train = read_manifest("data/photos/manifest/train.parquet")["image_id"].to_numpy()
    table = read_instances("data/photos/manifest/instances.parquet", train).to_pandas()
    table["number"] = table.groupby("image_id").cumcount()
    sides = status_frame("data/images/train").set_index("image_id")
    stored = status_frame("data/photos/images/train").set_index("image_id")
    rows = set(sides.index)
    ids = [region_id(p, TRUE, n) for p, n in zip(table["image_id"], table["number"], strict=True)]
    seen = 0
    for one, (_, row) in zip(ids, table.iterrows(), strict=True):
        if one not in rows:
            continue
        seen += 1
        photo = stored.loc[row["image_id"]]
        x, y = photo["width"] / row["width"], photo["height"] / row["height"]
        pad_x, pad_y = 0.1 * x * (row["right"] - row["left"]), 0.1 * y * (row["bottom"] - row["top"])
        width = min(np.ceil(row["right"] * x + pad_x), photo["width"]) - max(np.floor(row["left"] * x - pad_x), 0)
        height = min(np.ceil(row["bottom"] * y + pad_y), photo["height"]) - max(np.floor(row["top"] * y - pad_y), 0)
        assert (sides.loc[one, "width"], sides.loc[one, "height"]) == (width, height)
    assert seen > 30
    assert len(images_by_id("data/images/train", np.array(ids))) == seen


def test_no_region_to_learn_from_is_said(project: Path, tmp_path: Path) -> None:
    before = paths.regions("test").read_bytes()
    table = read_regions(paths.regions("test"), read_manifest("data/photos/manifest/test.parquet")["image_id"])
    import pyarrow.parquet as pq

    try:
        pq.write_table(table.slice(0, 0), paths.regions("test"))
        with pytest.raises(UserError, match="no region of the test photos may carry attributes"):
            region_rows.run("garments")
    finally:
        paths.regions("test").write_bytes(before)
        region_rows.run("garments")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": {"into": "data"}}, "dataset.into: with region_rows data holds the regions"),
        ({"dataset": {"instances": {"labels": "both"}}}, "set dataset.instances.labels to attributes, not both"),
        ({"base_models": ["all"]}, "set base_models to the folds' numbers"),
        ({"folds": {"group_by": {"blocks": 4}}}, "folds.group_by: blocks are runs of rows"),
        ({"segmenters": None, "regions": None}, "comes of regions, and there are none"),
        ({"dataset": {"audit": 0.1}}, "dataset.audit: with region_rows the validation photos are the audit"),
        ({"dataset": {"corrections": "a.csv"}}, "dataset.corrections: changes labels of whole photos"),
        ({"region_rows": {"b": {}}}, "one section says how regions become rows, and there are b, garments"),
        ({"region_rows": {"garments": {"match": 0.4}}}, "region_rows.garments.match"),
        (
            {"models": {"wide": WIDE | {"mask": "channel"}}},
            "models.wide.mask: channel needs what region_rows",
        ),
        ({"models": {"wide": WIDE | {"by_fold": {"1": {"sees": "region"}}}}}, "models.wide.sees: region needs what"),
        ({"models": {"wide": WIDE | {"mask": ["grey"]}}}, "models.wide.mask"),
        ({"region_rows": {"garments": {"context": "photo"}}}, "garments.context: goes with mask: stored"),
        (
            {"region_rows": {"garments": {"context": 1, "mask": "stored", "background": "grey"}}},
            "region_rows.garments.background: grey hides context",
        ),
        ({"region_rows": {"garments": {"context": 11, "mask": "stored"}}}, "from 0 to 10, not 11"),
        ({"region_rows": {"garments": {"context": "all"}}}, "garments.context: must be photo, or a share"),
    ],
)
def test_params_that_do_not_fit_are_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    from labelstack.params import load_params

    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content(**change).items() if value is not None}))
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        load_params(file)


def test_photos_are_rows_without_region_rows(tmp_path: Path) -> None:
    from labelstack.params import load_params

    file, whole = tmp_path / "params.yaml", content()
    whole["region_rows"] = {}
    file.write_text(yaml.safe_dump(whole))
    with pytest.raises(UserError, match="without region_rows photos are the rows"):
        load_params(file)


def test_masks_are_kept_where_the_params_say_so_and_the_pixels_stay(project: Path) -> None:
    before = {name: paths.manifest(name).read_bytes() for name in paths.SPLITS}
    plain = {name: images_by_id(paths.shards(name), ok_ids(paths.shards(name))) for name in paths.SPLITS}
    Path("params.yaml").write_text(yaml.safe_dump(content(region_rows={"garments": {"mask": "stored"}})))
    try:
        region_rows.run("garments")
        assert {name: paths.manifest(name).read_bytes() for name in paths.SPLITS} == before
        for name in paths.SPLITS:
            with_masks = images_by_id(paths.shards(name), ok_ids(paths.shards(name)))
            assert list(with_masks) == list(plain[name])
            for row, data in with_masks.items():
                seen = read_seen(data, None, RegionView("channel"))
                assert np.array_equal(seen[..., :3], read_pixels(plain[name][row]))
                assert set(np.unique(seen[..., 3]).tolist()) in ({0, 255}, {255})
    finally:
        Path("params.yaml").write_text(yaml.safe_dump(content()))
        region_rows.run("garments")


@pytest.mark.slow
def test_networks_stackers_and_blend_run_on_regions(project: Path) -> None:
    """Every stage from training to the masks, in this process; nothing in them knows of regions."""
    from labelstack.stages import blend, evaluate, members, needs, predict, score, settings, stack, submit, train

    settings.run()
    for fold in ("0", "1", "2"):
        train.run("wide", fold)
        predict.run("wide", fold)
    score.run("wide")
    needs.run()
    members.run("base_models")
    members.run("second_round")
    stack.run("mean")
    members.run("stackers")
    blend.run()
    evaluate.run()
    submit.run()
    submit_masks.run("garments")
    scores = json.loads(Path("metrics/evaluation.json").read_text())["scores"]["blend"]
    assert {"samples_f1_cross_fitted", "audit_samples_f1", "test_samples_f1"} <= scores.keys()
    told = json.loads(Path("metrics/masks.json").read_text())
    assert told["out_of_fold"]["categories_alone"]["score"] >= told["out_of_fold"]["with_attributes"]["score"] > 0
    rows = Path(yaml.safe_load(Path("params.yaml").read_text())["submission"]["directory"]).glob("iMaterialist*.csv")
    assert len(next(rows).read_text().splitlines()) == 1 + len(read_manifest(paths.manifest("test")))
