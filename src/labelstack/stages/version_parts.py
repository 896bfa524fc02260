"""What a version is made of, and digests of it; a stage and `labelstack register --member` make versions of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from labelstack.ensemble.folder import EnsembleSettings, Heat, NetworkPart, Parts, View
from labelstack.ensemble.image_sources import fetch_settings
from labelstack.ensemble.record import Record
from labelstack.ensemble.region_form import RegionForm
from labelstack.params import Params, digest
from labelstack.params.blend import BLEND
from labelstack.params.prediction_views import OneView, single_views
from labelstack.params.region_view import PLAIN
from labelstack.params.second_round import CropSection
from labelstack.params.task import MULTI
from labelstack.registry.versions import DATA_TAG, METRIC_TAG, SCORE_TAG, SUBMISSION_TAG, TASK_TAG
from labelstack.stages import paths
from labelstack.stages.category_names import category_names
from labelstack.stages.members import ALL, THE_BLEND, Network, network_members, stackers
from labelstack.stages.rows import label_table
from labelstack.stages.version_record import test_boxes
from labelstack.support import storage
from labelstack.tracking.lineage import EXPERIMENT
from labelstack.tracking.run_file import read_run_json

# Kept with the model for rebuilding; absent ones (a folder without git or DVC) are left out.
FILES = ("params.yaml", "dvc.lock", "dvc.yaml", "requirements.lock")


def parts(params: Params) -> Parts:
    """Everything that predicts: files of stage outputs and how images are read."""
    labels = label_table()
    return Parts(
        models={
            one.name: [network_part(params, network) for network in one.networks] for one in network_members(params)
        },
        stackers={one.name: one.learnt for one in stackers(params)},
        blend=THE_BLEND.learnt,
        thresholds=THE_BLEND.rule,
        labels=list(zip(labels["label_id"].tolist(), labels["name"].tolist(), strict=True)),
        settings=settings_of(params),
        files={name: Path(name) for name in FILES if Path(name).exists()},
        second_round=list(params.second_round),
        students=params.flattered,
        heatmaps=registered_heatmaps(params),
        regions=registered_regions(params),
        segmenters=segmenters(params),
    )


def registered_regions(params: Params) -> RegionForm | None:
    """How regions are found and cut out of photos, and when attributes are written; None: photos are the rows."""
    rows, found = params.rows_of_regions, params.regions_section
    if rows is None or found is None:
        return None
    folds = list(params.networks)
    first = paths.segmenter(params.region_segmenters[0], folds[0])
    ids = np.array(storage.read_json(first / "classes.json")["categories"], np.int64)
    names = category_names(params, ids)
    return RegionForm.model_validate(
        {
            "segmenters": dict.fromkeys(params.region_segmenters, folds),
            "found": found.model_dump(mode="json") | {"segmenters": []},
            "categories": [{"id": int(one), "name": name} for one, name in zip(ids, names, strict=True)],
            "rows": [one for one in storage.read_json(paths.METRICS / "region_rows.json")["categories"] if one in ids],
            "margin": rows.margin,
            "background": rows.background,
            "mask": rows.mask,
            "context": rows.context,
            "jpeg_quality": params.images.jpeg_quality,
            "attributes": storage.read_json(paths.attribute_rule(params.submission.directory)),
        }
    )


def segmenters(params: Params) -> dict[tuple[str, str], Path]:
    """The folders of the segmenters that a version finds regions with, by name and fold."""
    if params.rows_of_regions is None:
        return {}
    return {(name, fold): paths.segmenter(name, fold) for name in params.region_segmenters for fold in params.networks}


def registered_heatmaps(params: Params) -> dict[str, Heat]:
    """Second-round models that see of a new image what another model looks at."""
    cropped = {name: section for name, section in params.second_round.items() if isinstance(section, CropSection)}
    return {
        name: Heat(section.after[0], section.heatmap.threshold, section.margin)
        for name, section in cropped.items()
        if section.heatmap is not None
    }


def settings_of(params: Params) -> EnsembleSettings:
    """How images are fetched, read and predicted."""
    return EnsembleSettings(
        tta=tuple(view.as_json() for view in shared_views(params)),
        batch_size=params.prediction.batch_size,
        store_size=params.images.store_size,
        jpeg_quality=params.images.jpeg_quality,
        damaged=params.images.damaged,
        fetch=fetch_settings(params.images),
        task=params.dataset.task,
        combine=params.prediction.combine,
        dtype=params.prediction.dtype,
    )


def network_part(params: Params, network: Network) -> NetworkPart:
    """A network's file and how it sees images."""
    made = params.network(network.model, network.fold)
    views = tuple(params.views_of(network.model, network.fold).values())
    own = () if views == shared_views(params) else views
    return NetworkPart(
        network.fold, network.weights, View(made.image_size, made.resize, tta=own, region=made.region_view)
    )


def shared_views(params: Params) -> tuple[OneView, ...]:
    """The test-time views of networks that have none of their own."""
    return tuple(single_views(params.prediction.tta, params.prediction.views, params.seed).values())


def digests(params: Params, ensemble: Parts) -> dict[str, str]:
    """A digest of every part, of what it has learnt and not of file bytes, which hold dates."""
    members = [one for one in [*network_members(params), *stackers(params)] if one.name in ensemble.names]
    found = {one.name: read_run_json(one.run_file)[one.digest_key] for one in members}
    found |= {file.name: storage.sha256(file) for file in (ensemble.blend, ensemble.thresholds)}
    views = {name: _views(networks) for name, networks in ensemble.models.items()}
    # What is not stated is multi_label and a mean of probabilities, as ensembles of before had it: the same digest.
    usual = {"task": MULTI, "combine": "probability", "dtype": "float32"}
    settings = {
        key: value
        for key, value in asdict(ensemble.settings).items()
        if key not in ("batch_size", "fetch") and usual.get(key) != value
    }
    if ensemble.second_round:  # what new images show is whole; the submission's parts of images are the version's too
        found["boxes"] = digest({name: test_boxes(name) for name in ensemble.second_round})
    if heatmaps := ensemble.heatmaps_there:
        found["heatmaps"] = digest({name: asdict(heat) for name, heat in heatmaps.items()})
    if ensemble.regions is not None:
        unstated: dict[str, Any] = {"mask": "none", "context": 0.0}  # as versions of before: the same digest
        form = ensemble.regions.model_dump(mode="json")
        found["regions"] = digest({key: value for key, value in form.items() if unstated.get(key) != value})
        found |= {
            f"segmenter {name} {fold}": read_run_json(folder / "run.json")["weights_digest"]
            for (name, fold), folder in ensemble.segmenters.items()
        }
    return found | {"labels": digest(ensemble.labels), "settings": digest([settings, views])}


def _views(networks: Sequence[NetworkPart]) -> Any:
    """Of one network its view; of several one for each fold."""
    views = {
        network.fold: [
            network.view.image_size,
            network.view.resize,
            # What is not stated is all of the pixels and nothing else, as it was before: the same digest.
            *([] if network.view.region == PLAIN else [network.view.region._asdict()]),
            *(one.as_json() for one in network.view.tta),
        ]
        for network in networks
    }
    return views[ALL] if list(views) == [ALL] else views


def version_tags(blended: Mapping[str, str], kept: Record, task: str) -> dict[str, str]:
    """Tags of a version: where it comes from, its task, what it was scored on, its score, the submission it stands for.

    ``blended`` are the tags of the blend's run.
    """
    primary, scores = kept.evaluation["primary"], kept.evaluation["scores"][BLEND]
    kept_keys = ("git.", "params.", EXPERIMENT)  # the DVC hashes stand on the run and on the card
    return {key: value for key, value in blended.items() if key.startswith(kept_keys)} | {
        TASK_TAG: task,
        DATA_TAG: kept.scored.digest,
        SUBMISSION_TAG: str(kept.submission["sha256"]),
        METRIC_TAG: primary,
        SCORE_TAG: " ".join(f"{scores[key]:.6f}" for key in (primary, f"{primary}_low", f"{primary}_high")),
    }
