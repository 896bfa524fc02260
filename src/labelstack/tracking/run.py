"""One MLflow run while it is written: metrics once per step, artifacts, tags."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.connection import Connection
from labelstack.tracking.datasets import Dataset
from labelstack.tracking.logged_models import model_name
from labelstack.tracking.outbox import Outbox, Value, folder_of, same
from labelstack.tracking.texts import clean_key, clean_params, clean_tags

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun


MEMBER_TAG = "labelstack.member."
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: its pages show a run with this tag below the other
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Run:
    """One MLflow run that is being written; what can't be logged now waits on disk (see ``outbox``).

    Attributes
    ----------
    run_id, name : str
    resumed : bool
        Whether an earlier attempt's run goes on.
    metrics : dict
        The last value of each metric, those of earlier attempts included.
    tags : dict
        Tags as given (without MLflow's own).
    """

    def __init__(
        self, tracker: Connection, run: MlflowRun, *, tags: Mapping[str, str], digest: str, resumed: bool
    ) -> None:
        self.tracker = tracker
        self.run_id: str = run.info.run_id
        self.name: str = run.info.run_name or ""
        self.resumed = resumed
        self.tags = dict(tags)
        self.params_digest = digest
        self.metrics: dict[str, float] = dict(run.data.metrics)
        self._steps: dict[str, dict[int, float]] = {}
        self._clock = 0
        self._blind: set[str] = set()  # metrics of an earlier attempt whose steps couldn't be read
        folder = folder_of(tracker.root, tracker.public_uri, self.run_id)
        self.outbox = Outbox(tracker.client, tracker.uri, folder, self.run_id, self.name, tracker.public_uri)

    def log_metrics(
        self,
        metrics: Mapping[str, float | None],
        step: int | None = None,
        *,
        model: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """Log values at a step (epoch), or final values when ``step`` is None; ``None`` values are left out.

        A step that the run already holds is kept, so a resumed run shows every step once; a final value that
        changed replaces the one shown. ``model`` and ``dataset`` say which of this run's logged models was measured
        on what.
        """
        about: dict[str, Any] = {} if model is None else {"model": model_name(model)}
        if model is not None and dataset is not None:
            content = dataset.to_dict()
            about["dataset"] = [content["name"], content["digest"]]
        self._log([(clean_key(k), float(v), step) for k, v in metrics.items() if v is not None], about)

    def log_history(self, rows: Iterable[Mapping[str, Any]], step: str = "epoch") -> None:
        """Log a table of metrics, one row a step, in few requests; the column ``step`` holds the step."""
        self._log(
            [
                (clean_key(key), float(value), int(row[step]))
                for row in rows
                for key, value in row.items()
                if key != step and value is not None
            ]
        )

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file in the run's ``folder`` (default: top level); raise ``UserError`` when it doesn't exist."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such file to store with the run {self.name}")
        self._put({"kind": "artifact", "folder": folder or None}, f"store {path.name}", path)

    def log_artifacts(self, path: str | Path, folder: str | None = None) -> None:
        """Store everything in a folder; raise ``UserError`` when it doesn't exist."""
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such folder to store with the run {self.name}")
        self._put({"kind": "artifacts", "folder": folder or None}, f"store {path.name}", path)

    def log_datasets(self, *datasets: Dataset) -> None:
        """Say what the run learned from and was scored on; what it has already is not added again."""
        if datasets:
            self._put({"kind": "datasets", "datasets": [one.to_dict() for one in datasets]}, "log datasets")

    def log_model(
        self, name: str, path: str | Path, kind: str, params: Mapping[str, Any], signature: Mapping[str, str] = _NOTHING
    ) -> None:
        """Store a file or folder as this run's logged model, once; raise ``UserError`` when it doesn't exist.

        Parameters
        ----------
        kind : str
            MLflow's model type: ``base model``, ``stacker``.
        signature : mapping, optional
            See ``logged_models.tensor_signature``.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path}: no such file or folder to store as the model of the run {self.name}")
        data = sorted(file.name for file in path.iterdir()) if path.is_dir() else [path.name]
        entry = {
            "kind": "model",
            "name": model_name(name),
            "model_type": kind,
            "params": clean_params(params),
            "data": data,
            "signature": dict(signature),
        }
        self._put(entry, f"store the model {name}", path)

    def log_bytes(self, content: bytes, path: str) -> None:
        """Store a file with this content under ``path``, for example ``plots/curves.png``."""
        place = PurePosixPath(path)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / place.name
            file.write_bytes(content)
            self.log_artifact(file, str(place.parent) if place.parent.name else None)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; credentials in URLs are removed, over-long values cut."""
        cleaned = clean_tags(tags)
        if cleaned:
            self._put({"kind": "tags", "values": cleaned}, "set tags")
        self.tags |= cleaned

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log params, cleaned already."""
        if params:
            self._put({"kind": "params", "values": dict(params)}, "log params")

    def end(self, status: str, end_time: int | None = None) -> None:
        """Set the run's status and end time (milliseconds; default: now); upload what was kept, if possible."""
        self._put({"kind": "status", "status": status, "end_time": end_time or int(time.time() * 1000)}, "end the run")
        with store.explained(self.tracker.uri, f"upload what was kept of {self.name}"):
            self.outbox.close()

    def _log(self, values: list[tuple[str, float, int | None]], about: Mapping[str, Any] = _NOTHING) -> None:
        # MLflow shows, of several values at a step, the one with the latest millisecond.
        self._clock = now = max(int(time.time() * 1000), self._clock + 1)
        new: list[Value] = []
        for key, value, step in values:
            held = self._history(key)
            place = max(held, default=0) if step is None else step
            if place in held and (step is not None or same(held[place], value)):
                continue
            unknown = step is None and key in self._blind and not held
            held[place] = value
            new.append((key, value, now, None if unknown else place, step is None))
            if place >= max(held):
                self.metrics[key] = value
        if new:
            self._put({"kind": "metrics", "values": new, **about}, "log metrics")

    def _history(self, key: str) -> dict[int, float]:
        """Steps and values of a metric; the store is asked once, and only for a resumed run's own metrics."""
        if key not in self._steps:
            self._steps[key] = {}
            if self.resumed and key in self.metrics:
                with self._doing("read metrics"):
                    history = self.outbox.read(lambda: self.tracker.client.get_metric_history(self.run_id, key), None)
                if history is None:
                    self._blind.add(key)
                else:
                    self._steps[key] = {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}
        return self._steps[key]

    def _put(self, entry: dict[str, Any], what: str, source: Path | None = None) -> None:
        with self._doing(what):
            self.outbox.put(entry, source)

    def _doing(self, what: str) -> Any:
        return store.explained(self.tracker.uri, f"{what} ({self.name})")
