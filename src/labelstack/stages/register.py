"""Stage `register`: the ensemble as one version in the MLflow registry, and models alone that params.yaml names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labelstack.ensemble.log import log_ensemble
from labelstack.ensemble.record import Record
from labelstack.ensemble.speed import Measured, measured
from labelstack.params import Params, load_params
from labelstack.params.blend import BLEND
from labelstack.registry.card import LIMIT, card
from labelstack.registry.promotion import promote_if_better
from labelstack.registry.versions import describe, ensemble_digest, read_version, register
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.stages.card_facts import card_facts
from labelstack.stages.common import done
from labelstack.stages.member_version import member_alone, parts_alone, register_alone
from labelstack.stages.members import THE_BLEND
from labelstack.stages.version_parts import digests, parts, version_tags
from labelstack.stages.version_record import record
from labelstack.support import storage
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import Tracker, connect


def run() -> None:
    """Register the ensemble unless it is there already, promote it if it is better; write registration.json."""
    params = load_params()
    tracker = connect(params.tracking)
    ensemble = parts(params)
    kept = record(params)
    whole = ensemble_digest(digests(params, ensemble) | {"submission.csv": str(kept.submission["sha256"])})
    blended = read_run_json(THE_BLEND.run_file)
    metric = metric_of(params.metric)
    with tracker.run(*THE_BLEND.run_name, run_id=blended["run_id"]) as run_:
        version = register(
            tracker,
            params.tracking.registered_model,
            whole,
            lambda: log_ensemble(run_, replace(ensemble, record=kept), requirements=Path("requirements.lock")),
            tags=version_tags(blended["tags"] | run_.tags, kept, params.dataset.task),
        )
        run_.set_tags({"labelstack.registry_version": f"{version.name}/{version.version}"})
        flattered = params.training.monitor == "fold"
        promotion = promote_if_better(
            tracker, version.name, version.version, metric, run_.log_metrics, flattered=flattered
        )
        found = read_version(tracker, version.name, version.version)
        if not found.description:
            facts = card_facts(params, ensemble, kept, blended, version, found.tags, promotion.sentence)
            run_.log_bytes(card(facts).encode(), "model_card.md")
            describe(tracker, version.name, version.version, card(facts, LIMIT))
    storage.write_json(
        paths.ENSEMBLE / "registration.json",
        {
            "name": version.name,
            "version": version.version,
            "uri": version.uri,
            "digest": whole,
            "run_id": version.run_id,
            **_alone(params, tracker, kept),
        },
    )
    state = "new version" if version.created else "registered before"
    done("register", f"{version.name} v{version.version} ({state}), digest {whole}", version.uri)
    print(f"promotion: {promotion.sentence}", flush=True)


def _alone(params: Params, tracker: Tracker, whole: Record) -> dict[str, Any]:
    """Register the models of ``tracking.alone``: their versions, and how large and fast they and the ensemble are."""
    if not params.tracking.alone:
        return {}
    speeds = speeds_of(params, params.tracking.alone, whole)
    made = {name: register_alone(params, tracker, name, whole, speeds) for name in params.tracking.alone}
    for version in made.values():
        print(f"register: {version.name} v{version.version}, digest {version.digest} → {version.uri}", flush=True)
    uris = {name: {"uri": version.uri} for name, version in made.items()}
    return {"served": {name: uris.get(name, {}) | asdict(speed) for name, speed in speeds.items()}}


def speeds_of(params: Params, names: Sequence[str], whole: Record) -> dict[str, Measured]:
    """How large and how fast some members and the ensemble are, on the probe images."""
    images, found = list(whole.probe.jpeg), {}
    with TemporaryDirectory(prefix="labelstack-") as temporary:
        for name in names:
            folder = Path(temporary) / name
            folder.mkdir()
            found[name] = measured(parts_alone(params, member_alone(params, name), folder), images)
    return found | {BLEND: measured(parts(params), images)}


def run_alone(name: str) -> None:
    """Register one model of images alone; what the stages made must lie here."""
    params = load_params()
    member_alone(params, name)
    tracker, whole = connect(params.tracking), record(params)
    speeds = speeds_of(params, [name], whole)
    version = register_alone(params, tracker, name, whole, speeds)
    state = "new version" if version.created else "registered before"
    mine, all_ = speeds[name], speeds[BLEND]
    done("register", f"{version.name} v{version.version} ({state}), digest {version.digest}", version.uri)
    primary, scores = whole.evaluation["primary"], whole.evaluation["scores"]
    for key, speed in ((name, mine), (BLEND, all_)):
        told = f"{primary} {scores[key][primary]:.4f}" + (", flattered" if scores[key].get("flattered") else "")
        print(f"{key}: {told}, {speed.bytes / 1e6:.1f} MB, {speed.images_per_second:.0f} images/s", flush=True)
