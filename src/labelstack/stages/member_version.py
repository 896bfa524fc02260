"""One model of images as a registered version of its own, small and quick beside the ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labelstack.ensemble.folder import Parts
from labelstack.ensemble.log import log_ensemble
from labelstack.ensemble.record import Record
from labelstack.ensemble.speed import Measured
from labelstack.formats.submission import read_form
from labelstack.params import Params
from labelstack.params.blend import BLEND
from labelstack.predictions import Predictions, read_predictions
from labelstack.registry.card import LIMIT, card
from labelstack.registry.promotion import STUDENT, promote_if_better
from labelstack.registry.versions import Version, describe, ensemble_digest, read_version, register
from labelstack.scoring.metric import metric_of
from labelstack.stacking.blending import blend
from labelstack.stages import paths
from labelstack.stages.card_facts import card_facts
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import Member, network_members
from labelstack.stages.rows import label_table
from labelstack.stages.submit import write_labels
from labelstack.stages.version_parts import digests, parts, version_tags
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import Tracker


def registered_name(params: Params, name: str) -> str:
    """The registered model of one member's versions."""
    return f"{params.tracking.registered_model}-{name}"


def member_alone(params: Params, name: str) -> Member:
    """The member of a name; raise ``UserError`` where it is none that labels images by itself."""
    known = {one.name: one for one in network_members(params)}
    if name not in known:
        what = "a stacker, which needs the models before it" if name in params.stackers else "no such model"
        raise UserError(f"{name}: is {what}; base and second-round models can stand alone: {', '.join(known)}")
    return known[name]


def register_alone(
    params: Params, tracker: Tracker, name: str, whole: Record, speeds: Mapping[str, Measured]
) -> Version:
    """Make a version of one member, with its own decision rule and submission, unless there is one.

    Parameters
    ----------
    whole : the record of the ensemble that it is a member of
    speeds : of the member and of ``blend``, for its card
    """
    own = member_alone(params, name)
    run_json = read_run_json(own.run_file)
    with TemporaryDirectory(prefix="labelstack-") as temporary:
        folder = Path(temporary)
        made = parts_alone(params, own, folder)
        kept = _record(params, own, whole, folder)
        digest = ensemble_digest(digests(params, made) | {"submission.csv": str(kept.submission["sha256"])})
        with tracker.run(*own.run_name, run_id=run_json["run_id"]) as run_:
            version = register(
                tracker,
                registered_name(params, name),
                digest,
                lambda: log_ensemble(run_, replace(made, record=kept), requirements=Path("requirements.lock")),
                tags=version_tags(run_json["tags"] | run_.tags, kept, params.dataset.task),
            )
            run_.set_tags({"labelstack.registry_version": f"{version.name}/{version.version}"})
            metric, student = metric_of(params.metric), name in params.flattered
            flattered = student or params.training.monitor == "fold"
            why = {"sentence": STUDENT} if student else {}
            promotion = promote_if_better(
                tracker, version.name, version.version, metric, run_.log_metrics, flattered=flattered, **why
            )
            found = read_version(tracker, version.name, version.version)
            if not found.description:
                facts = card_facts(params, made, kept, run_json, version, found.tags, promotion.sentence)
                facts = replace(facts, views={name: facts.views[name]}, beside=beside(whole, name, speeds))
                run_.log_bytes(card(facts).encode(), "model_card.md")
                describe(tracker, version.name, version.version, card(facts, LIMIT))
    return version


def parts_alone(params: Params, own: Member, folder: Path) -> Parts:
    """What one member predicts with; what it lacks, a blend of itself, is written into ``folder``."""
    everything = parts(params)
    one = folder / "blend.json"
    storage.write_json(one, {"weights": {own.name: 1.0}})
    return replace(
        everything,
        models={own.name: everything.models[own.name]},
        stackers={},
        blend=one,
        thresholds=own.rule,
        second_round=[own.name] if own.kind == "second round" else [],
        students=[],  # there is no stacker that does not see it
        regions=None,  # it labels regions that are cut out already
        segmenters={},
    )


def beside(whole: Record, name: str, speeds: Mapping[str, Measured]) -> dict[str, dict[str, Any]]:
    """The member and the ensemble, each with its scores of the evaluation, bytes and images a second."""
    scores = whole.evaluation["scores"]
    return {key: {**scores[key], **asdict(speeds[key])} for key in (name, BLEND)}


def _record(params: Params, own: Member, whole: Record, folder: Path) -> Record:
    """That of the ensemble as far as it is the member's, who is its own blend."""
    test = read_predictions(own.test)
    blended = Predictions(
        test.image_id,
        as_kept(
            blend({own.name: test.probability}, {own.name: 1.0}, exclusive=params.thresholds.exclusive),
            params.prediction.dtype,
        ),
    )
    form, file = read_form(paths.SUBMISSION_FORM), folder / params.submission.filename
    _, missing = write_labels(file, params, blended, load_decision(own.rule), form, label_table())
    row = whole.evaluation["scores"][own.name]
    scored = whole.scored
    return replace(
        whole,
        predictions={own.name: test, BLEND: blended},
        scored=replace(
            scored,
            chosen=dict.fromkeys((own.name, BLEND), scored.chosen[own.name]),
            probability=dict.fromkeys((own.name, BLEND), scored.probability[own.name]) if scored.probability else {},
            counts=dict.fromkeys((own.name, BLEND), scored.counts[own.name]) if scored.counts else {},
        ),
        evaluation={
            **whole.evaluation,
            "scores": {own.name: row, BLEND: {**row, "kind": "blend"}},
            "comparisons": [],
            "decisions": {},
        },
        submission={**whole.submission, "sha256": storage.sha256(file), "not_downloaded": missing},
        boxes={key: boxes for key, boxes in whole.boxes.items() if key == own.name},
        photos=None,
    )
