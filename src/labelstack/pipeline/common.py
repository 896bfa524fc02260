"""What several stages need: targets, folds, lineage and work folders."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack import storage
from labelstack.errors import UserError
from labelstack.params import Params, Tracking, digest, flatten, load_params
from labelstack.pipeline import paths

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.stacking.decisions import Decision

ROOT = Path(".")


@dataclass(frozen=True)
class Targets:
    """Images of a split that were downloaded, with their labels.

    Attributes
    ----------
    image_id : int64 [n], in the manifest's order
    Y : bool [n, n_labels]
    """

    image_id: NDArray[np.int64]
    Y: NDArray[np.bool_]


def label_table() -> pd.DataFrame:
    """The table of labels: label_id, name, group and counts, in the order of every probability column."""
    import pandas as pd

    if not paths.LABELS.exists():
        raise UserError(f"{paths.LABELS}: not found. Run `dvc repro` (or `labelstack ingest`) first.")
    return pd.read_parquet(paths.LABELS)


def targets(split: str) -> Targets:
    """Ids and labels of the images of a split whose download succeeded; raise ``UserError`` when there is none."""
    from labelstack.formats.manifest import label_matrix, read_manifest
    from labelstack.images.shards import ok_ids

    manifest = read_manifest(paths.manifest(split))
    manifest = manifest[np.isin(manifest["image_id"], ok_ids(paths.shards(split)))]
    if manifest.empty:
        raise UserError(
            f"{paths.shards(split)}: not one image of the {split} split could be downloaded; "
            f"{paths.METRICS}/download/{split}.json counts the reasons"
        )
    Y = label_matrix(manifest["label_id"].tolist(), label_table()["label_id"].to_numpy())
    return Targets(manifest["image_id"].to_numpy(np.int64), Y.astype(np.bool_))


def validation_folds(params: Params, Y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The folds of the validation rows that stackers, blend and thresholds share."""
    from labelstack.stacking.folds import assign_folds

    return assign_folds(Y, params.folds.k, params.folds.seed)


def choices(params: Params, labels: pd.DataFrame) -> dict[str, Any]:
    """What decision rules are chosen by: metric, thresholds and the labels' groups."""
    return {"metric": params.metric, "thresholds": params.thresholds, "groups": labels["group"].tolist()}


def lineage(inputs: list[Path], sections: dict[str, Any]) -> dict[str, str]:
    """Tags that tie a run to what it was made from: DVC hashes of ``inputs``, git commit, params digest."""
    from labelstack.tracking.lineage import lineage_tags

    return lineage_tags(ROOT, [str(path) for path in inputs], digest(sections))


def work_folder(stage: str, name: str, tags: dict[str, str], room: str) -> Path:
    """The folder for unfinished work on exactly these inputs, params and code; work on others is dropped."""
    package = Path(__file__).parent.parent
    code = {file.name: storage.sha256(file) for file in sorted((package / room).rglob("*.py"))}
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
        raise UserError(f"{name}: no such {kind} in params.yaml (there are: {', '.join(names)})")
    return names[name]


def save_decision(path: Path, label_id: NDArray[Any], decision: Decision) -> None:
    """Write a decision rule as JSON: its strategy, a threshold for each label id where it has such, and all of it."""
    thresholds = None
    if decision.thresholds is not None:
        # str of a float32 is the shortest text that reads back as the same float32
        values = decision.thresholds.astype(np.float32)
        thresholds = {str(int(i)): float(str(t)) for i, t in zip(label_id, values, strict=True)}
    content = {"strategy": decision.strategy, "thresholds": thresholds, "decision": decision.to_dict()}
    storage.write_json(path, content)


def load_decision(path: Path) -> Decision:
    """The decision rule that ``save_decision`` wrote."""
    from labelstack.stacking.decisions import Decision

    return Decision.from_dict(storage.read_json(path)["decision"])


def tracking_here() -> Tracking:
    """Where runs and versions are: as ./params.yaml says, or the server that MLFLOW_TRACKING_URI names.

    Raises
    ------
    UserError
        When there is neither.
    """
    if (ROOT / "params.yaml").exists():
        return load_params(ROOT / "params.yaml").tracking
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return Tracking()
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
