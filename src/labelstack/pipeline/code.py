"""Which code decides the result of which stage; dvc.yaml takes its digests out of data/settings.json."""

from __future__ import annotations

import json
from functools import cache

from labelstack import storage
from labelstack.backbone_names import MODULES
from labelstack.closure import Sources, beneath, sources
from labelstack.pipeline import paths
from labelstack.stacker_kinds import CLASSES, module_of

# Stage → the module whose function makes its outputs.
ROOTS: dict[str, str] = {
    "sample": "labelstack.pipeline.sample",
    "ingest": "labelstack.pipeline.ingest",
    "download": "labelstack.pipeline.download",
    "train": "labelstack.pipeline.computing.train",
    "predict": "labelstack.pipeline.computing.predict",
    "members": "labelstack.pipeline.members",
    "stack": "labelstack.pipeline.computing.stack",
    "blend": "labelstack.pipeline.computing.blend",
    "evaluate": "labelstack.pipeline.computing.evaluate",
    "submit": "labelstack.pipeline.submit",
    "register": "labelstack.pipeline.register",
    "report": "labelstack.pipeline.report",
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
    "labelstack.errors": "words for what went wrong",
    "labelstack.progress": "bars on a terminal",
    "labelstack.quiet": "TensorFlow's chatter",
    "labelstack.cores": "how many processors there are",
    "labelstack.credentials": "refuses params, and cleans what is shown",
    "labelstack.params": "its values stand in data/settings.json, defaults resolved",
    "labelstack.params_engine": "as params",
    "labelstack.params_images": "as params",
    "labelstack.params_messages": "words for what is wrong with params",
    "labelstack.params_places": "as params",
    "labelstack.params_rules": "as params",
    "labelstack.params_second_level": "as params",
    "labelstack.params_section": "as params",
    "labelstack.params_stacking": "as params",
    "labelstack.params_tracking": "as params",
    "labelstack.yaml_file": "reads params.yaml",
    "labelstack.engine": "where tasks run: the same bytes anywhere",
    "labelstack.engine_cluster": "as engine",
    "labelstack.engine_s3": "as engine",
    "labelstack.engine_worker": "as engine",
    "labelstack.backbone_names": "names; the file of a network's own backbone counts",
    "labelstack.stacker_kinds": "names; the file of a stacker's own kind counts",
    "labelstack.pipeline.paths": "where files lie: stands in dvc.yaml",
    "labelstack.pipeline.common": "what stands around the work: lineage, work folders, last lines",
}
NEVER: dict[str, str] = {
    "labelstack.cli": "what is typed",
    "labelstack.tracking": "what is logged of the work",
    "labelstack.report": "what is shown of it",
}
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
