"""Which code decides the result of which stage; dvc.yaml takes its digests out of data/settings.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from labelstack.params import Params
from labelstack.params.backbone_names import BACKBONES, backbone_of
from labelstack.params.dataset import FORMATS
from labelstack.params.loss_names import LOSSES
from labelstack.params.losses import plain_losses
from labelstack.params.metric import METRICS, MetricSection
from labelstack.params.second_round import SECOND_ROUND, second_section_of
from labelstack.params.stackers import STACKERS, section_of
from labelstack.stages import paths
from labelstack.support import storage
from labelstack.support.catalogue import Catalogue
from labelstack.support.closure import Sources, beneath, installed, sources

# Stage → the module whose function makes its outputs.
ROOTS: dict[str, str] = {
    "sample": "labelstack.stages.sample",
    "ingest": "labelstack.stages.ingest",
    "download": "labelstack.stages.download",
    "photo_folds": "labelstack.stages.work.assign_photos",
    "segment": "labelstack.stages.work.train_segmenter",
    "regions": "labelstack.stages.work.find_regions",
    "region_rows": "labelstack.stages.region_rows",
    "views": "labelstack.stages.views",
    "split": "labelstack.stages.work.assign_rows",
    "train": "labelstack.stages.work.train_network",
    "predict": "labelstack.stages.work.predict_network",
    "score": "labelstack.stages.work.score_model",
    "needs": "labelstack.stages.needs",
    "second": "labelstack.stages.work.second_networks",
    "second_score": "labelstack.stages.work.score_model",
    "members": "labelstack.stages.members",
    "stack": "labelstack.stages.work.fit_stacker",
    "blend": "labelstack.stages.work.fit_blend",
    "evaluate": "labelstack.stages.work.score_all",
    "submit": "labelstack.stages.submit",
    "submit_masks": "labelstack.stages.submit_masks",
    "register": "labelstack.stages.register",
    "report": "labelstack.stages.report",
}
# Noun → its names, and the module that does the work of one, which need not be where its entry lies.
NOUNS: dict[str, tuple[Catalogue, Callable[[str], str]]] = {
    "backbone": (BACKBONES, lambda name: backbone_of(name).module),
    "loss": (LOSSES, LOSSES.reference),
    "stacker": (STACKERS, lambda kind: section_of(kind).stacker),
    "format": (FORMATS, FORMATS.reference),
    "view": (SECOND_ROUND, lambda kind: second_section_of(kind).view),
    "second-round kind": (SECOND_ROUND, lambda kind: second_section_of(kind).work),
}
# Stages whose results the code of what is chosen by name decides too.
VARIANTS: dict[str, tuple[str, ...]] = {
    "ingest": ("format",),
    "views": ("view",),
    "segment": ("backbone",),
    "regions": ("backbone",),  # of all segmenters
    "train": ("backbone", "loss"),
    "predict": ("backbone",),  # a saved network holds layers of its backbone's
    "second": ("backbone", "loss", "second-round kind"),
    "stack": ("stacker",),
    "submit": ("format",),
}
# What no result depends on. The first part may be imported by what computes, and is not followed from there; the
# second must not be (docs/graph.md is checked against both).
APART: dict[str, str] = {
    "labelstack.support.errors": "words for what went wrong",
    "labelstack.support.progress": "bars on a terminal",
    "labelstack.support.quiet": "TensorFlow's chatter",
    "labelstack.support.cores": "how many processors there are",
    "labelstack.support.credentials": "refuses params, and cleans what is shown",
    "labelstack.support.yaml_file": "reads params.yaml",
    "labelstack.params": "its values stand in data/settings.json, defaults resolved; a kind's own file counts",
    "labelstack.compute": "where tasks run: the same bytes anywhere",
    "labelstack.stages.paths": "where files lie: stands in dvc.yaml",
    "labelstack.stages.members": "who predicts, in the order of params.yaml, and where it lies: stands in dvc.yaml",
    "labelstack.stages.common": "what stands around the work: lineage, work folders, last lines",
}
NEVER: dict[str, str] = {
    "labelstack.cli": "what is typed",
    "labelstack.commands": "what is typed",
    "labelstack.tracking": "what is logged of the work",
    "labelstack.registry": "versions of what came out",
    "labelstack.ensemble": "the ensemble as a version holds it",
    "labelstack.kernel": "the ensemble in one file",
    "labelstack.report": "what is shown of it",
}
_SCORING = "labelstack.scoring.metric"
_AND = "+"  # between the losses of a mix or of phases, and the backbones of several segmenters
# These two stages are about versions and pages; how a run is written down is nothing to them either.
_ABOUT = ("register", "report")
_PLUMBING = tuple(
    f"labelstack.tracking.{name}" for name in ("journal", "outbox", "run", "run_file", "runs", "store", "texts")
)
_LABELLED = "labelstack.ensemble.ensemble"  # a card says how fast it is on this machine, not what it gives


def apart(stage: str) -> list[str]:
    """Modules and rooms that do not count for a stage."""
    return [*APART, *((*_PLUMBING, _LABELLED) if stage in _ABOUT else NEVER)]


def chosen(params: Params, stage: str, name: str = "", fold: str = "") -> tuple[str, ...]:
    """What params.yaml names for each noun of a stage.

    Parameters
    ----------
    name, fold : of the network (train, predict, second), or the name of the stacker (stack), second-round model
        (views) or segmenter (segment); "" for a stage that runs once
    """
    nouns = {"format": params.dataset.format}
    if stage in ("views", "second"):
        nouns |= dict.fromkeys(("view", "second-round kind"), params.second_round[name].kind)
    if stage in ("train", "predict", "second"):
        network = params.network(name, fold)
        losses = sorted({loss for _, loss in plain_losses(network.loss)})
        nouns |= {"backbone": network.backbone, "loss": _AND.join(losses)}
    elif stage == "segment":
        nouns["backbone"] = params.segmenters[name].backbone
    elif stage == "regions":
        nouns["backbone"] = _AND.join(sorted({params.segmenters[one].backbone for one in params.region_segmenters}))
    elif stage == "stack":
        nouns["stacker"] = params.stackers[name].kind
    return tuple(nouns[noun] for noun in VARIANTS.get(stage, ()))


def modules(stage: str, *names: str, source: Sources | None = None) -> list[str]:
    """Modules of labelstack that decide the results of a stage.

    Parameters
    ----------
    names : one for each noun of ``VARIANTS[stage]``; none: what all variants have in common
    source : None: labelstack as it runs here
    """
    source = source or sources()
    roots, plug_ins = _work(stage, names)
    built_on = {module for plug_in in plug_ins for part in _plug_in(plug_in) for module in part.named_of(source)}
    roots += sorted(module for module in built_on if not beneath(module, apart(stage)))
    return source.closure([ROOTS[stage], *roots], apart(stage))


@cache
def code_digest(stage: str, *names: str, source: Sources | None = None) -> str:
    """16 hex digits over the code that decides the results of a stage, plug-ins' too; arguments as of ``modules``."""
    source = source or sources()
    own = source.digest(modules(stage, *names, source=source))
    plug_ins = _plug_in_digests(stage, names)
    return hashlib.sha256("\n".join([own, *plug_ins]).encode()).hexdigest()[:16] if plug_ins else own


def metric_digest(section: MetricSection) -> str | None:
    """16 hex digits over the code of a metric; None for F-scores, whose code counts for every stage that scores.

    Of an installed package all source files count. It stands in data/settings.json with the metric, so that whoever
    depends on that reruns when the code changes.
    """
    reference = METRICS.reference(section.primary)
    module = reference.partition(":")[0]
    if module == _SCORING:
        return None
    if module in sources().modules:
        return sources().digest(sources().closure([module], [*APART, *NEVER]))
    whole = "\n".join([reference, *(part.whole_digest for part in _plug_in(reference))])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def kept_code_digest(stage: str, *names: str) -> str:
    """As ``code_digest`` of the code that runs here, read back if ``keep`` wrote it: parsing all takes a second."""
    return _kept().get(_key(stage, names)) or code_digest(stage, *names)


def _work(stage: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Modules of labelstack that do the work of the names, and ``module:object`` of plug-ins that they come from."""
    roots, plug_ins = [], []
    for noun, name in zip(VARIANTS.get(stage, ()), names, strict=False):
        for place in places_of(noun, name):
            if place.partition(".")[0] == sources().package.name:
                roots.append(place.partition(":")[0])
            else:
                plug_ins.append(place)
    return roots, plug_ins


def places_of(noun: str, name: str) -> list[str]:
    """Where the work of a name is done, ``module:object`` or ``module``; of a plug-in also where its entry lies.

    A loss or backbone may be several, joined.
    """
    catalogue, work = NOUNS[noun]
    if noun in ("loss", "backbone") and name not in catalogue and _AND in name:
        return list(dict.fromkeys(place for one in name.split(_AND) for place in places_of(noun, one)))
    return [work(name)] if name in catalogue.own else [catalogue.reference(name), work(name)]


@cache
def _plug_in(reference: str) -> list[Sources]:
    return installed(re.split("[.:]", reference)[0])


def _plug_in_digests(stage: str, names: Sequence[str]) -> list[str]:
    """``module:object`` of each plug-in, which tells two of one package apart, and a digest of the whole package."""
    return [
        f"{plug_in} {' '.join(part.whole_digest for part in _plug_in(plug_in))}" for plug_in in _work(stage, names)[1]
    ]


def keep(digests: Mapping[tuple[str, ...], str]) -> None:
    """Write digests down, by stage and names, for as long as no byte of the source changes."""
    named = {_key(stage, names): digest for (stage, *names), digest in digests.items()}
    storage.write_json(paths.CODE, {"source": sources().bytes_digest, "digests": named})


def _kept() -> dict[str, str]:
    try:
        content = json.loads(paths.CODE.read_bytes())
        return dict(content["digests"]) if content["source"] == sources().bytes_digest else {}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours
        return {}


def _key(stage: str, names: Sequence[str]) -> str:
    return " ".join([stage, *names, *_plug_in_digests(stage, names)])


def variants(stage: str) -> list[tuple[str, ...]]:
    """Names of our own for the nouns of a stage, such that each of them is among them; no names where it has none."""
    own = [list(NOUNS[noun][0].own) for noun in VARIANTS.get(stage, ())]
    most = max(map(len, own), default=1)
    return [tuple(names[min(i, len(names) - 1)] for names in own) for i in range(most)]


def strangers(stage: str) -> list[str]:
    """Modules that a stage's work reaches although it must not."""
    if stage in _ABOUT:
        return []
    roots = {root for names in variants(stage) for root in _work(stage, names)[0]}
    return [module for module in sources().closure([ROOTS[stage], *roots], APART) if beneath(module, NEVER)]
