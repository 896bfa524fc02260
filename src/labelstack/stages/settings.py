"""Stage `settings`: params.yaml with every default resolved, and digests of code, for the other stages to depend on."""

from __future__ import annotations

from typing import Any

from labelstack.params import Params, load_params
from labelstack.stages import paths
from labelstack.stages.code import ROOTS, chosen, keep, kept_code_digest, metric_digest
from labelstack.stages.common import done
from labelstack.support import storage

# Keys that decide no result, so that no stage may depend on them, and why.
UNDECIDING: dict[str, str] = {
    "engine": "where tasks run",
    "images.workers": "how many processes fetch",
    "images.concurrency": "how many images are under way",
    "images.concurrency_per_host": "as concurrency",
    "images.http2": "the protocol",
    "images.connect_timeout_s": "how long an attempt may take; what it left out, `labelstack images retry` fetches",
    "images.first_byte_timeout_s": "as connect_timeout_s",
    "images.timeout_s": "as connect_timeout_s",
    "images.retries": "as connect_timeout_s",
    "images.max_failures": "when a download gives up",
    "images.s3_endpoint_url": "where a bucket is reached",
    "training.workers": "how many processes decode",
    "tracking.uri": "where runs go",
    "tracking.experiment": "where runs go",
    "tracking.artifacts": "where artifacts go",
}


def run() -> None:
    """Write data/settings.json."""
    params = load_params()
    storage.write_json(paths.SETTINGS, settings(params))
    used = {(stage, *chosen(params, stage, name)) for stage in ROOTS for name in _members(params, stage)}
    keep({(stage, *names): kept_code_digest(stage, *names) for stage, *names in used})
    names = f"{len(params.models)} base models, {len(params.stackers)} stackers"
    done("settings", f"params with their defaults, code of {len(ROOTS)} stages, {names}", paths.SETTINGS)


def settings(params: Params) -> dict[str, Any]:
    """What decides results: resolved params, names of members in order, and a digest of code for every stage."""
    content = params.model_dump(mode="json")
    if (digest := metric_digest(params.metric)) is not None:
        content["metric"]["code"] = digest
    for name, model in params.models.items():
        own = params.policy(model)
        content["models"][name]["augment"] = None if own is None else own.model_dump(mode="json")
        content["models"][name]["monitor"] = content["metric"] if params.training.holdout else None
    del content["augment"]  # stands with every model that uses it
    for key in UNDECIDING:
        section, _, last = key.rpartition(".")
        (content[section] if section else content).pop(last)
    content["members"] = {
        "base_models": list(params.models),
        "stackers": list(params.stackers),
        "blend": params.blend_members(),
        "views": [[name, model.image_size, model.resize] for name, model in params.models.items()],
    }
    content["code"] = code(params)
    return content


def code(params: Params) -> dict[str, Any]:
    """A digest for every stage; of train, predict and stack one for each of the names in params.yaml."""
    digests = {
        stage: {name: kept_code_digest(stage, *chosen(params, stage, name)) for name in _members(params, stage)}
        for stage in ROOTS
    }
    return {stage: found.get("", found) for stage, found in digests.items()}


def _members(params: Params, stage: str) -> list[str]:
    """Names of what a stage makes each on its own; "" of a stage that runs once."""
    if stage in ("train", "predict"):
        return list(params.models)
    return list(params.stackers) if stage == "stack" else [""]
