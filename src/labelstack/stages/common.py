"""What stages need around their work: lineage, work folders, where runs go; none of it decides a result."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from labelstack.params import Params, digest, flatten, load_params
from labelstack.params.tracking import TrackingSection
from labelstack.stages import paths
from labelstack.support import storage
from labelstack.support.errors import UserError

ROOT = Path(".")


def lineage(inputs: list[Path], sections: dict[str, Any]) -> dict[str, str]:
    """Tags that tie a run to what it was made from: DVC hashes of ``inputs``, git commit, params digest."""
    from labelstack.tracking.lineage import lineage_tags

    return lineage_tags(ROOT, [str(path) for path in inputs], digest(sections))


def work_folder(stage: str, name: str, tags: dict[str, str], code: str) -> Path:
    """The folder for unfinished work on exactly these inputs, params and code; work on others is dropped.

    ``tags`` are those of ``lineage``, ``code`` the digest that ``data/settings.json`` has of the stage.
    """
    key = digest([code, {tag: value for tag, value in tags.items() if tag.startswith(("dvc.", "params."))}])
    folder = paths.work(stage, name, key)
    if folder.parent.exists():
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_id_of(folder: Path) -> str | None:
    """Id of the MLflow run that a killed attempt left in a work folder, else None."""
    file = folder / "run_id"
    return file.read_text() if file.exists() else None


def keep_run_id(folder: Path, run_id: str) -> None:
    """Remember the MLflow run in a work folder, so that the next attempt goes on with it."""
    with storage.replacing(folder / "run_id") as temporary:
        temporary.write_text(run_id)


def flat(sections: dict[str, Any]) -> dict[str, Any]:
    """Params sections as MLflow params."""
    flattened: dict[str, Any] = {}
    for name, section in sections.items():
        flattened |= flatten({name: section.model_dump(mode="json") if hasattr(section, "model_dump") else section})
    return flattened


def known(name: str, names: dict[str, Any], kind: str) -> Any:
    """The section of a named model or stacker; raise ``UserError`` with the valid names otherwise."""
    if name not in names:
        raise UserError(f"{name}: no such {kind} in params.yaml (there are: {', '.join(names) or 'none'})")
    return names[name]


def tracking_here() -> TrackingSection:
    """Where runs and versions are: as ./params.yaml says, or the server that MLFLOW_TRACKING_URI names.

    Raises
    ------
    UserError
        When there is neither.
    """
    if (ROOT / "params.yaml").exists():
        return load_params(ROOT / "params.yaml").tracking
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return TrackingSection()
    raise UserError(
        "no params.yaml here, so nothing says where the registry is: set MLFLOW_TRACKING_URI, for example "
        "http://127.0.0.1:5000 or sqlite:////path/to/mlflow.db, or run from the folder of dvc.yaml"
    )


def reachable(params: Params) -> None:
    """See that a tracking server answers, before any work; for a database nothing is done and MLflow not imported.

    Raises
    ------
    UserError
        Within seconds when the server doesn't answer or refuses the credentials.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or params.tracking.uri
    if uri.lower().startswith(("http://", "https://")):
        from labelstack.tracking import store

        store.open_client(store.resolve_uri(params.tracking.uri, ROOT))


def done(stage: str, what: str, where: Path | str) -> None:
    """The one line with which a stage ends."""
    print(f"{stage}: {what} → {where}", flush=True)
