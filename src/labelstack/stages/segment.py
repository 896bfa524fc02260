"""Stage `segment@{segmenter}-{fold}`: a network that gives every pixel a class, one MLflow run."""

from __future__ import annotations

import math
import shutil
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from labelstack.params import Params, load_params
from labelstack.report.figures import figure_png, training_curves
from labelstack.stages import paths
from labelstack.stages.category_names import category_names
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.logged_data import photo_data
from labelstack.stages.photo_maps import PhotoSet, photo_categories
from labelstack.stages.photos import photo_places
from labelstack.stages.weights_content import weights_sha256
from labelstack.stages.work.train_segmenter import TrainedSegmenter, compute, fitted_photos
from labelstack.support.errors import UserError
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run import Run
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect

if TYPE_CHECKING:
    import keras

    from labelstack.params.segmenters import SegmenterSection

_SHOWN, _HEIGHT = 4, 240  # photos in the picture of an epoch, and how high each is in pixels


def run(name: str, fold: str | None = None) -> None:
    """Train ``segmenters.<name>`` without a fold of the photos, or one after another without each.

    Writes models/segmenters/<name>/<fold>; a killed attempt is taken up where it stopped.
    """
    params = load_params()
    known(name, params.segmenters, "segmenter")
    if fold is not None and fold not in params.networks:
        raise UserError(f"{fold}: {name} has no network of this fold (there are: {', '.join(params.networks)})")
    for one in [fold] if fold is not None else params.networks:
        _train(params, name, one)


def _train(params: Params, name: str, fold: str) -> None:
    section, places, full = params.segmenters[name], photo_places(params), f"{name}-{fold}"
    sections: dict[str, Any] = {
        "segmenter": section,
        "on_top": params.dataset.instances.on_top,
        "holdout": {key: getattr(params.training, key) for key in ("monitor", "holdout", "holdout_max")},
        "seed": params.seed,
    }
    if (begun_with := weights_sha256(section.weights, fetch=True)) is not None:
        sections["weights_sha256"] = begun_with
    inputs = [places.shards("train"), places.instances, paths.PHOTO_FOLDS]
    tags = lineage(inputs, {**sections, "fold": fold})
    work = work_folder("segment", full, tags, kept_code_digest("segment", *chosen(params, "segment", name)))
    names = category_names(params, photo_categories(params))
    with connect(params.tracking).run(
        "segment", full, params=flat(sections), tags=tags, run_id=run_id_of(work)
    ) as run_:
        keep_run_id(work, run_.run_id)
        run_.log_datasets(*photo_data(params, fitted_photos(params, int(fold))))
        pictures = _Pictures(run_, names)
        trained = compute(params, name, fold, work, pictures)
        scores = _log(run_, params, name, fold, trained, names)
    shutil.rmtree(work)
    seconds, epochs = trained.history["seconds"].sum(), len(trained.history)
    told = f"mean IoU {scores['mean_iou']:.4f}, pixel accuracy {scores['pixel_accuracy']:.4f} of photos left out"
    done("segment", f"{full}: {epochs} epochs, {seconds:.0f} s, {told}", paths.segmenter(name, fold))


class _Pictures:
    """Logs each epoch's scores, and a picture of what it says of some photos, beside what is true."""

    def __init__(self, run_: Run, names: list[str]) -> None:
        self._run, self._names = run_, names

    def __call__(
        self, epoch: int, scores: dict[str, float], model: keras.Model, section: SegmenterSection, shown: PhotoSet
    ) -> None:
        """Called when an epoch is finished."""
        from labelstack.segmentation.overlay import below_each_other, beside_each_other, png
        from labelstack.segmentation.segmenter import class_maps_of
        from labelstack.segmentation.unet_training import place_of

        self._run.log_history([{key: value for key, value in scores.items() if math.isfinite(value)}])
        places = range(min(_SHOWN, len(shown.photos)))
        photos, true = [shown.photos[i] for i in places], [shown.maps[i] for i in places]
        phase = section.phases[place_of(section, epoch - 1)[0]]
        given = class_maps_of(_traced(model), photos, phase.image_size, phase.batch_size)
        rows = [
            beside_each_other(photo, maps, section.background_class, self._names, _HEIGHT)
            for photo, *maps in zip(photos, true, given, strict=True)
        ]
        self._run.log_bytes(png(below_each_other(rows)), f"pictures/epoch-{epoch:04d}.png")


@lru_cache(maxsize=1)
def _traced(model: keras.Model) -> Any:
    from labelstack.segmentation.unet_training import forward_of

    return forward_of(model)


def _log(
    run_: Run, params: Params, name: str, fold: str, trained: TrainedSegmenter, names: list[str]
) -> dict[str, float]:
    """Log what training gave, and write run.json; scores of the photos that were left out."""
    from labelstack.segmentation.confusion import class_iou, pixel_scores

    history, folder, full = trained.history, paths.segmenter(name, fold), f"{name}-{fold}"
    # An attempt killed between its checkpoint and its log left a gap; steps already there are kept.
    logged = history.drop(columns="seconds").replace({np.nan: None})
    run_.log_history({str(key): value for key, value in row.items()} for row in logged.to_dict("records"))
    run_.log_bytes(figure_png(training_curves({full: history})), "plots/training_curves.png")
    shape = tensor_signature([-1, -1, -1, 3], [-1, -1, -1, len(names) + 1], "uint8")
    run_.log_model(full, folder / "model.keras", "segmenter", flat({"segmenter": params.segmenters[name]}), shape)
    for file in ("history.csv", "segmenter.json", "classes.json"):
        run_.log_artifact(folder / file, "")
    scores = pixel_scores(trained.counts, len(names))
    per_class = dict(zip(names, class_iou(trained.counts).tolist(), strict=False))
    summary = {"epochs": float(len(history)), "train_seconds": float(history["seconds"].sum())}
    summary |= {f"left_out_{key}": value for key, value in scores.items()}
    summary |= {f"left_out_iou/{key}": value for key, value in per_class.items()}
    summary = {key: value for key, value in summary.items() if math.isfinite(value)}
    run_.log_metrics(summary)
    write_run_json(folder / "run.json", run_, summary, extra={"weights_digest": trained.weights_digest})
    return scores
