"""Stage `settings`: params.yaml with every default resolved, and digests of code, for the other stages to depend on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labelstack.params import Params, load_params
from labelstack.params.second_round import SecondRoundSection
from labelstack.stages import paths
from labelstack.stages.code import ROOTS, chosen, keep, kept_code_digest, metric_digest
from labelstack.stages.common import done
from labelstack.stages.weights_content import weights_sha256
from labelstack.support import storage

# Keys that decide no result, so that no stage may depend on them, and why.
UNDECIDING: dict[str, str] = {
    "engine": "where tasks run",
    "images.verify": "how many shards are compared with their digests",
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
    "notify": "who is told of a stage",
    "training.workers": "how many processes decode",
    "tracking.uri": "where runs go",
    "tracking.experiment": "where runs go",
    "tracking.artifacts": "where artifacts go",
}


def run() -> None:
    """Write data/settings.json."""
    params = load_params()
    storage.write_json(paths.SETTINGS, settings(params))
    used = {(stage, *chosen(params, stage, *names)) for stage in ROOTS for names in _items(params, stage)}
    keep({(stage, *names): kept_code_digest(stage, *names) for stage, *names in used})
    second = f"{len(params.second_round)} of a second round, " if params.second_round else ""
    names = f"{len(params.models)} base models, {second}{len(params.stackers)} stackers"
    done("settings", f"params with their defaults, code of {len(ROOTS)} stages, {names}", paths.SETTINGS)


def settings(params: Params) -> dict[str, Any]:
    """What decides results: resolved params, names of members in order, and a digest of code for every stage."""
    content = params.model_dump(mode="json")
    if (digest := metric_digest(params.metric)) is not None:
        content["metric"]["code"] = digest
    content["models"] = {
        name: {fold: _network(params, name, fold, content["metric"]) for fold in params.networks}
        for name in params.models
    }
    content["second_round"] = {
        name: {
            "kind": section.kind,
            **_own(section),
            **({"metric": content["metric"]} if section.by_metric else {}),
            "networks": {fold: _network(params, name, fold, content["metric"]) for fold in params.networks},
            "tta": {fold: _views(params, name, fold) for fold in params.networks},
        }
        for name, section in params.second_round.items()
    }
    for segmenter, learnt in params.segmenters.items():
        if (begun_with := weights_sha256(learnt.weights, fetch=False)) is not None:
            content["segmenters"][segmenter]["weights_sha256"] = begun_with
    content["tta"] = {name: {fold: _views(params, name, fold) for fold in params.networks} for name in params.models}
    for key in ("tta", "views"):  # names, which decide nothing but what each network is shown
        del content["prediction"][key]
    content["audit"] = content["dataset"].pop("audit")  # of rows that are there; the data set is the same
    regions = params.rows_of_regions
    content["learn_from"] = None if regions is None else regions.learn_from  # by which rows are assigned
    del content["augment"]  # stands with every network that uses it
    for key in UNDECIDING:
        section, _, last = key.rpartition(".")
        (content[section] if section else content).pop(last)
    content["members"] = {
        "base_models": list(params.models),
        "second_round": list(params.second_round),
        "needs": {name: [section.after, list(section.takes)] for name, section in params.second_round.items()},
        "stackers": list(params.stackers),
        "segmenters": params.region_segmenters,
        "blend": params.blend_members(),
        "views": [
            [name, fold, network.image_size, network.resize, list(network.region_view), _views(params, name, fold)]
            for name in params.network_models
            for fold in params.networks
            for network in [params.network(name, fold)]
        ],
        "networks": params.networks,
    }
    content["code"] = code(params)
    return content


def code(params: Params) -> dict[str, Any]:
    """A digest for every stage; of train, predict and second one for each network, of others one for each name."""
    digests: dict[str, Any] = {}
    for stage in ROOTS:
        for names in _items(params, stage):
            place, *inner = stage, *names
            at = digests
            while inner:
                at, place = at.setdefault(place, {}), inner.pop(0)
            at[place] = kept_code_digest(stage, *chosen(params, stage, *names))
    return digests


def _items(params: Params, stage: str) -> list[tuple[str, ...]]:
    """Names of what a stage makes each on its own, a model's with the fold; ``()`` of a stage that runs once."""
    if stage in ("train", "predict"):
        return [(name, fold) for name in params.models for fold in params.networks]
    if stage == "second":
        return [(name, fold) for name in params.second_round for fold in params.networks]
    named: dict[str, Iterable[str]] = {
        "photo_folds": params.regions,
        "segment": params.segmenters,
        "regions": params.regions,
        "stack": params.stackers,
        "views": params.second_round,
    }
    return [(name,) for name in named[stage]] if stage in named else [()]


def _own(section: SecondRoundSection) -> dict[str, Any]:
    """A kind's own keys: those on which `views` depends, or, where images are seen whole, `second` alone."""
    whole = section.view == SecondRoundSection.view
    return {"own": {}, "learned": section.own()} if whole else {"own": section.own()}


def _views(params: Params, name: str, fold: str) -> list[Any]:
    """What a network is shown of each image."""
    return [view.as_json() for view in params.views_of(name, fold).values()]


def _network(params: Params, name: str, fold: str, metric: Any) -> dict[str, Any]:
    """All that decides how one network is made, but for its rows; what it is shown afterwards stands under ``tta``."""
    network = params.network(name, fold)
    augment = params.policy(network)
    own: dict[str, Any] = {"augment": None if augment is None else augment.model_dump(mode="json")}
    if (begun_with := weights_sha256(network.weights, fetch=False)) is not None:
        own["weights_sha256"] = begun_with
    return (
        network.model_dump(mode="json", exclude={"by_fold", "tta"})
        | own
        | {"monitor": metric if params.stops_early else None}
    )
