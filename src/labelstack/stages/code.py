"""Which code decides the result of which stage; dvc.yaml takes its digests out of data/settings.json."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from labelstack.params.backbone_names import MODULES
from labelstack.params.metric import METRICS, MetricSection
from labelstack.params.stacker_kinds import CLASSES, module_of
from labelstack.stages import paths
from labelstack.support import storage
from labelstack.support.closure import Sources, beneath, sources

# Stage → the module whose function makes its outputs.
ROOTS: dict[str, str] = {
    "sample": "labelstack.stages.sample",
    "ingest": "labelstack.stages.ingest",
    "download": "labelstack.stages.download",
    "train": "labelstack.stages.work.train_network",
    "predict": "labelstack.stages.work.predict_network",
    "members": "labelstack.stages.members",
    "stack": "labelstack.stages.work.fit_stacker",
    "blend": "labelstack.stages.work.fit_blend",
    "evaluate": "labelstack.stages.work.score_all",
    "submit": "labelstack.stages.submit",
    "register": "labelstack.stages.register",
    "report": "labelstack.stages.report",
}
# Stages with a variant for each kind of what they make, and where each kind's own code lies.
VARIANTS: dict[str, dict[str, str]] = {
    "train": MODULES,
    "predict": MODULES,  # a saved network holds layers of its backbone's
    "stack": {kind: module_of(kind) for kind in CLASSES},
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
    "labelstack.stages.common": "what stands around the work: lineage, work folders, last lines",
}
NEVER: dict[str, str] = {
    "labelstack.cli": "what is typed",
    "labelstack.commands": "what is typed",
    "labelstack.tracking": "what is logged of the work",
    "labelstack.registry": "versions of what came out",
    "labelstack.ensemble": "the ensemble as a version holds it",
    "labelstack.report": "what is shown of it",
}
_SCORING = "labelstack.scoring.metric"
# These two stages are about versions and pages; how a run is written down is nothing to them either.
_ABOUT = ("register", "report")
_PLUMBING = tuple(
    f"labelstack.tracking.{name}" for name in ("journal", "outbox", "run", "run_file", "runs", "store", "texts")
)


def apart(stage: str) -> list[str]:
    """Modules and rooms that do not count for a stage."""
    return [*APART, *(_PLUMBING if stage in _ABOUT else NEVER)]


def modules(stage: str, variant: str | None = None, source: Sources | None = None) -> list[str]:
    """Modules that decide the results of a stage.

    Parameters
    ----------
    variant : key of ``VARIANTS[stage]``; None: what all variants have in common
    source : None: labelstack as it runs here
    """
    roots = [ROOTS[stage], *([] if variant is None else [VARIANTS[stage][variant]])]
    return (source or sources()).closure(roots, apart(stage))


@cache
def code_digest(stage: str, variant: str | None = None, source: Sources | None = None) -> str:
    """16 hex digits over the code that decides the results of a stage; arguments as of ``modules``."""
    source = source or sources()
    return source.digest(modules(stage, variant, source))


def metric_digest(section: MetricSection) -> str | None:
    """16 hex digits over the code of a metric; None for F-scores, whose code counts for every stage that scores.

    Of an installed package all source files count. It stands in data/settings.json with the metric, so that whoever
    depends on that reruns when the code changes.
    """
    module = METRICS.reference(section.primary).partition(":")[0]
    if module == _SCORING:
        return None
    if module in sources().modules:
        return sources().digest(sources().closure([module], [*APART, *NEVER]))
    spec = find_spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        METRICS.load(section.primary)  # says what is wrong
        return None
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def kept_code_digest(stage: str, variant: str | None = None) -> str:
    """As ``code_digest`` of the code that runs here, read back if ``keep`` wrote it: parsing all takes a second."""
    return _kept().get(_key(stage, variant)) or code_digest(stage, variant)


def keep(digests: dict[tuple[str, str | None], str]) -> None:
    """Write digests down for as long as no byte of the source changes."""
    named = {_key(stage, variant): digest for (stage, variant), digest in digests.items()}
    storage.write_json(paths.CODE, {"source": sources().bytes_digest, "digests": named})


def _kept() -> dict[str, str]:
    try:
        content = json.loads(paths.CODE.read_bytes())
        return dict(content["digests"]) if content["source"] == sources().bytes_digest else {}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours
        return {}


def _key(stage: str, variant: str | None) -> str:
    return stage if variant is None else f"{stage} {variant}"


def strangers(stage: str) -> list[str]:
    """Modules that a stage's work reaches although it must not."""
    if stage in _ABOUT:
        return []
    reached = sources().closure([ROOTS[stage], *VARIANTS.get(stage, {}).values()], APART)
    return [module for module in reached if beneath(module, NEVER)]
