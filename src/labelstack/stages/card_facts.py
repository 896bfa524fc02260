"""What the model card tells, gathered from params, stage outputs and the version's tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from labelstack.ensemble.folder import Parts
from labelstack.ensemble.record import Record
from labelstack.params import Params
from labelstack.params.blend import BLEND
from labelstack.registry.card import Facts
from labelstack.registry.versions import DIGEST_TAG, FILES_TAG, Version
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.support import storage
from labelstack.tracking.lineage import EXPERIMENT

_HARDWARE = ("cpu", "architecture", "flags", "gpu", "code")


def card_facts(
    params: Params,
    parts: Parts,
    kept: Record,
    blended: Mapping[str, Any],
    version: Version,
    tags: Mapping[str, str],
    promotion: str,
) -> Facts:
    """Facts about a registered version.

    Parameters
    ----------
    blended : content of the blend's run.json
    tags : of the version
    promotion : the decision on it in a sentence
    """
    machine = kept.machine
    return Facts(
        name=version.name,
        version=version.version,
        dataset=params.dataset.root,
        data_digest=kept.scored.digest,
        images=image_counts(),
        evaluation=with_intervals(params, kept),
        weights=storage.read_json(parts.blend)["weights"],
        decision=storage.read_json(parts.thresholds),
        labels=parts.labels,
        promotion=promotion,
        lineage=[
            *_git(tags),
            *([("DVC experiment", tags[EXPERIMENT])] if EXPERIMENT in tags else []),
            ("MLflow experiment", blended["experiment"]),
            ("MLflow run", version.run_id),
            ("params digest", blended["params_digest"]),
            ("seed", str(params.seed)),
            ("ensemble digest", tags.get(DIGEST_TAG, "")),
            ("files digest", tags.get(FILES_TAG, "")),
            ("submission SHA-256", str(kept.submission["sha256"])),
            ("machine", f"{machine.get('cpu', 'unknown')}, {machine.get('architecture', 'unknown')}"),
        ],
        inputs={key.removeprefix("dvc."): value for key, value in blended["tags"].items() if key.startswith("dvc.")},
        packages={name: text for name, text in machine.items() if name not in _HARDWARE},
        views=views_shown(params),
        combine=params.prediction.combine,
    )


def views_shown(params: Params) -> dict[str, list[dict[str, int]]]:
    """Of each model the views that its networks are shown, how many by name; of networks with equal ones once."""
    shown: dict[str, list[dict[str, int]]] = {}
    for name in params.network_models:
        for fold in params.networks:
            listed = dict(Counter(re.split("[#@]", key)[0] for key in params.views_of(name, fold)))
            if listed not in shown.setdefault(name, []):
                shown[name].append(listed)
    return shown


def with_intervals(params: Params, kept: Record) -> dict[str, Any]:
    """The evaluation, with intervals for the blend's cross-fitted scores by the rest of the metric's family too."""
    scores = dict(kept.evaluation["scores"])
    blend = dict(scores[BLEND])
    for metric in metric_of(params.metric).family:
        key, given = metric.cross_fitted, kept.scored.given(metric, BLEND)
        if f"{key}_low" not in blend and given is not None:
            _, low, high = bootstrap.interval(metric, kept.scored.truth, given)
            blend |= {f"{key}_low": low, f"{key}_high": high}
    return {**kept.evaluation, "scores": scores | {BLEND: blend}}


def image_counts() -> dict[str, tuple[int, int]]:
    """Images and how many of them were downloaded, for every split whose counts are there."""
    counts = {}
    for split in paths.SPLITS:
        file = paths.METRICS / "download" / f"{split}.json"
        if file.exists():
            content = storage.read_json(file)
            counts[split] = (int(content["images"]), int(content["ok"]))
    return counts


def _git(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    if "git.commit" not in tags:
        return [("git commit", "none: no git repository")]
    changed = " with changed files" if tags.get("git.dirty") == "true" else ""
    return [("git commit", tags["git.commit"] + changed)]
