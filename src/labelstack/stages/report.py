"""Stage `report`: one self-contained HTML page, and the same figures as files and MLflow artifacts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.shard_files import images_by_id
from labelstack.params import Params, load_params
from labelstack.predictions import read_predictions
from labelstack.report import figures
from labelstack.report.content import (
    GalleryItem,
    MLflowHint,
    ReportContent,
    ServedRow,
    ThresholdCurve,
    gallery_item,
    pick_gallery,
)
from labelstack.report.html import write_report
from labelstack.scoring import metrics
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.stages.attribute_pages import attributes, crops
from labelstack.stages.board import comparison_rows, decision_rows, fixed_threshold, leaderboard_rows, scored_images
from labelstack.stages.common import done
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import THE_BLEND, network_members
from labelstack.stages.region_pages import region_report
from labelstack.stages.rows import Split, label_table
from labelstack.support import storage
from labelstack.support.credentials import without_credentials
from labelstack.support.spreadsheet import read_table
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect

GALLERY_SIZE = 24


def gallery(params: Params, labels: pd.DataFrame) -> list[GalleryItem]:
    """Validation images spread evenly from the best to the worst, with true and predicted labels."""
    rows = stacking_rows(params)
    P = read_predictions(THE_BLEND.oof).rows_of(rows.row_id)
    chosen = load_decision(THE_BLEND.rule).decide(P)
    f1 = metrics.f_beta_per_image(rows.Y, chosen, beta=metric_of(params.metric).fits.beta)
    picked = pick_gallery(f1, GALLERY_SIZE)
    jpegs = images_by_id(paths.shards(rows.split), rows.image_id[picked])
    names, called = labels["name"].tolist(), image_names(rows.split, rows.image_id[picked])
    return [
        gallery_item(int(i), jpegs[int(i)], names, rows.Y[row], chosen[row], P[row], float(f1[row]), called.get(int(i)))
        for i, row in zip(rows.image_id[picked], picked, strict=True)
    ]


def image_names(split: Split, image_id: NDArray[np.int64]) -> dict[int, str]:
    """What may be shown of the names of images, int64 [n], by id; empty where images have no names but their ids."""
    manifest = read_manifest(paths.manifest(split))
    if "name" not in manifest:
        return {}
    here = manifest[manifest["image_id"].isin(image_id)]
    return {int(i): without_credentials(name) for i, name in zip(here["image_id"], here["name"], strict=True)}


def threshold_curve(params: Params) -> ThresholdCurve | None:
    """The blend's scores over one threshold, as `evaluate` tabulated them; None where no label is given by one."""
    if params.thresholds.exclusive:
        return None
    table = pd.read_csv(paths.PLOTS / "thresholds.csv")
    scores = {str(name): table[name].to_numpy() for name in table.columns if name != "threshold"}
    return ThresholdCurve.of(metric_of(params.metric), table["threshold"].to_numpy(), scores, params.thresholds.fixed)


def content(params: Params, tracker: Any) -> ReportContent:
    """Everything the report shows, read from stage outputs."""
    labels = label_table()
    evaluation = storage.read_json(paths.EVALUATION)
    run = read_run_json(THE_BLEND.run_file)
    registration = storage.read_json(paths.ENSEMBLE / "registration.json")
    per_label = read_table(paths.PLOTS / "per_label.csv").rename(columns={"name": "label"})
    rows = leaderboard_rows(params, evaluation, tracker=tracker)
    sizes = storage.read_json(paths.METRICS / "ingest.json")
    rows_of = stacking_rows(params)
    called = image_names(rows_of.split, rows_of.image_id)
    P = read_predictions(THE_BLEND.oof).rows_of(rows_of.row_id)
    return ReportContent(
        title="labelstack report",
        generated_from={
            "data set": params.dataset.root,
            "images": ", ".join(f"{sizes['images'][s]:,} {s}" for s in paths.SPLITS),
            "labels": len(labels),
            "registry version": f"{registration['name']} v{registration['version']}",
            "ensemble digest": registration["digest"][:16],
            "git commit": run["tags"].get("git.commit", "not in git")[:12],
            "seed": params.seed,
        },
        leaderboard=rows,
        per_label=per_label,
        curves={one.name: pd.read_csv(one.history) for member in network_members(params) for one in member.networks},
        threshold_curve=threshold_curve(params),
        blend_weights=storage.read_json(THE_BLEND.learnt)["weights"],
        gallery=gallery(params, labels),
        mlflow=MLflowHint(tracker.public_uri, tracker.experiment),
        n_validation=evaluation["n_validation"],
        images=scored_images(evaluation),
        notes=notes(params, evaluation),
        decisions=decision_rows(params, evaluation),
        comparisons=comparison_rows(evaluation),
        served=[ServedRow(name, **row) for name, row in registration.get("served", {}).items()],
        attributes=attributes(rows_of, P, labels, called),
        crops=crops(params, rows_of, called),
        regions=region_report(params),
        metric=metric_of(params.metric),
        fixed_threshold=fixed_threshold(params),
    )


def notes(params: Params, evaluation: dict[str, Any]) -> list[str]:
    """What a reader must know to read the numbers rightly."""
    said = [
        "Cross-fitted: weights, decision rule and thresholds are chosen on all folds but one and scored on that one.",
        "Per-label figures are cross-fitted; the gallery uses the final decision rule.",
    ]
    said += evaluation["caveats"]
    if evaluation.get("n_audit"):
        said.append(f"Audit: {evaluation['n_audit']:,} images that nothing was learned from or chosen by.")
    if evaluation["n_test"]:
        said.append(f"Test: {evaluation['n_test']:,} images whose answers are read by the evaluation alone.")
    return said


def run() -> None:
    """Write report/index.html and report/figures; store them with the ensemble's run."""
    params = load_params()
    tracker = connect(params.tracking)
    shown = content(params, tracker)
    write_report(paths.REPORT / "index.html", shown)
    drawn = {
        "leaderboard": figures.leaderboard(shown.leaderboard, shown.metric),
        "per_label_f1": figures.per_label_f1(shown.per_label, score_name=shown.metric.fits.name),
        "training_curves": figures.training_curves(shown.curves),
        "blend_weights": figures.blend_weights(shown.blend_weights),
    }
    if shown.threshold_curve is not None:
        drawn["threshold_curves"] = figures.threshold_curves(shown.threshold_curve)
    with storage.replacing_dir(paths.REPORT / "figures") as folder:
        for key, figure in drawn.items():
            (folder / f"{key}.png").write_bytes(figures.figure_png(figure))
    ensemble = read_run_json(THE_BLEND.run_file)
    with tracker.run(*THE_BLEND.run_name, run_id=ensemble["run_id"]) as run_:
        run_.log_artifacts(paths.REPORT / "figures", "plots")
        run_.log_artifact(paths.REPORT / "index.html", "report")
    done("report", f"{len(shown.leaderboard)} rows, {len(shown.gallery)} images", paths.REPORT / "index.html")
