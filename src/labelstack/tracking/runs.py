"""MLflow runs: one for each trained thing, named ``<stage>/<name>``, resumable without double entries."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack import params as params_
from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import outbox, sqlite_uri, store
from labelstack.tracking.connection import Connection
from labelstack.tracking.entries import apply
from labelstack.tracking.lineage import EXPERIMENT, experiment_tags
from labelstack.tracking.opened import say_opened
from labelstack.tracking.run import Run
from labelstack.tracking.texts import clean_params, clean_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

DIGEST_TAG = "params.digest"
CONTINUES_TAG = "labelstack.continues"
_logger = logging.getLogger(__name__)


class Tracker(Connection):
    """An MLflow experiment that answers, and its runs. Made by ``connect``."""

    def has_run(self, run_id: str) -> bool:
        """Whether a run of this experiment exists in this store and isn't deleted."""
        return self._find(run_id) is not None

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Within the context MLflow's global functions use this store, for what ``MlflowClient`` can't do alone."""
        import mlflow

        variable = "MLFLOW_TRACKING_URI"  # MLflow sets it along, for child processes
        environment = os.environ.pop(variable, None)  # else it would be taken for what the program itself has set
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)
            os.environ.pop(variable, None)
            if environment is not None:
                os.environ[variable] = environment

    @contextmanager
    def run(
        self,
        stage: str,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> Iterator[Run]:
        """A run named ``<stage>/<name>``: FINISHED at the end, FAILED on an error, KILLED on Ctrl-C.

        Parameters
        ----------
        params : mapping
            Flat; values over 6,000 characters are cut and end with their SHA-256.
        run_id : str
            The run of an earlier attempt to go on with. A new run is started when the store doesn't know it
            (another server, a deleted run) or when it was logged with other params. Within a DVC experiment, what
            is added to a run from outside it (``params`` None) goes to a run of the experiment's own instead.
        """
        flat = clean_params(params or {})
        digest = (tags or {}).get(DIGEST_TAG) or params_.digest(flat)
        all_tags = clean_tags({"labelstack.stage": stage, "labelstack.name": name, **(tags or {}), **experiment_tags()})
        with store.explained(self.uri, f"start the run {stage}/{name}"):
            found = self._resumable(run_id, flat)
            if found is not None and params is None:
                found = self._within_experiment(found, f"{stage}/{name}")
            finished_at = found.info.end_time if found and found.info.status == "FINISHED" else None
            if found is None:
                started = self._create(f"{stage}/{name}", all_tags)
            else:
                started = found
                self.client.update_run(started.info.run_id, status="RUNNING")
            all_tags.setdefault(DIGEST_TAG, digest)
            run = Run(self, started, tags={}, digest=digest, resumed=found is not None)
        if found is not None and params is None:
            run.params_digest = found.data.tags.get(DIGEST_TAG, digest)
            run.tags = {k: v for k, v in found.data.tags.items() if not k.startswith("mlflow.")}
            all_tags.pop(DIGEST_TAG)
        status = "FAILED"
        try:
            say_opened(run)
            run.log_params(flat)
            run.set_tags(all_tags)
            yield run
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self._end(run, status, finished_at if status == "FINISHED" else None)

    def _end(self, run: Run, status: str, end_time: int | None) -> None:
        try:
            run.end(status, end_time)
        except UserError as error:
            if status == "FINISHED":
                raise
            _logger.warning("%s", error)  # the exception that ended the run matters more

    def _create(self, name: str, tags: dict[str, str]) -> MlflowRun:
        return self.client.create_run(self.experiment_id, tags=_source_tags(tags, self.root), run_name=name)

    def _within_experiment(self, found: MlflowRun, name: str) -> MlflowRun:
        """In a DVC experiment the experiment's own continuation of a run: others' figures stay as they are."""
        tags = experiment_tags()
        if not tags or found.data.tags.get(EXPERIMENT) == tags[EXPERIMENT]:
            return found
        before = found.info.run_id
        for run in runs_of_experiment(self, tags[EXPERIMENT]):
            if run.data.tags.get(CONTINUES_TAG) == before:
                return run
        kept = {key: value for key, value in found.data.tags.items() if not key.startswith("mlflow.")}
        kept |= tags | {CONTINUES_TAG: before}
        run_id = self._create(name, kept).info.run_id
        for kind, values in (("params", found.data.params), ("tags", kept)):
            apply(self.client, run_id, {"kind": kind, "values": values})
        self._keep_inputs(found, run_id)
        return self.client.get_run(run_id)

    def _keep_inputs(self, found: MlflowRun, run_id: str) -> None:
        """Name the datasets of a continued run, and its models as what the continuation starts from."""
        from mlflow.entities import LoggedModelInput
        from mlflow.exceptions import MlflowException

        datasets = list(found.inputs.dataset_inputs) if found.inputs else []
        models = [LoggedModelInput(one.model_id) for one in (found.outputs.model_outputs if found.outputs else [])]
        if datasets or models:
            try:
                self.client.log_inputs(run_id, datasets, models)
            except MlflowException as error:  # they say where the run comes from, which its tag says too
                if store.unreachable(error, self.uri):
                    raise
                _logger.warning("%s: inputs of the run that it continues: %s", run_id, error)

    def _find(self, run_id: str) -> MlflowRun | None:
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise
        alive = run.info.lifecycle_stage == "active" and run.info.experiment_id == self.experiment_id
        return run if alive else None

    def _resumable(self, run_id: str | None, flat: dict[str, str]) -> MlflowRun | None:
        run = self._find(run_id) if run_id else None
        if run_id and run is None:
            _logger.info("run %s is not in %s: starting a new one", run_id, self.public_uri)
        elif run and any(run.data.params.get(key, value) != value for key, value in flat.items()):
            _logger.info("run %s has other params: starting a new one", run_id)
            return None
        return run


def runs_of_experiment(tracker: Tracker, name: str) -> list[MlflowRun]:
    """The MLflow runs that a DVC experiment made, oldest first."""
    from mlflow.utils import get_results_from_paginated_fn as paginated

    quote = '"' if "'" in name else "'"  # the filter language knows no escapes
    search = partial(
        tracker.client.search_runs,
        [tracker.experiment_id],
        f"tags.`{EXPERIMENT}` = {quote}{name}{quote}",
        order_by=["attributes.start_time ASC"],
    )
    with store.explained(tracker.uri, f"find the runs of the experiment {name}"):
        return paginated(lambda n, token: search(max_results=n, page_token=token), 1000)


def connect(tracking: TrackingSection, root: str | Path = ".", *, create: bool = True) -> Tracker:
    """Open the tracking store and its experiment; create what is missing, unless ``create`` is false.

    Without ``create`` nothing is made, and a sqlite file that is not there is an error.

    The environment variable ``MLFLOW_TRACKING_URI`` goes before ``tracking.uri``. A relative sqlite file lies under
    ``root`` (the main workspace, where a DVC experiment runs in a copy of it); with a sqlite (or other database) URI
    the artifacts of a new experiment go to ``tracking.artifacts`` or ``root/mlartifacts``, a server decides itself.
    Several processes may do this at once. What earlier runs could not log is uploaded first.

    Raises
    ------
    UserError
        When the store can't be reached (within seconds for a server), the experiment was deleted, or nothing may be
        made and there is no store.
    """
    root = store.main_root(root)
    uri = store.resolve_uri(tracking.uri, root)
    shown = store.public_uri(uri, root)
    if not create and sqlite_uri.is_sqlite(uri) and not sqlite_uri.holds_something(sqlite_uri.file_of(uri, root)):
        raise UserError(
            f"{shown}: there is no MLflow store here yet; `dvc repro` makes it, with runs and versions in it"
        )
    try:
        client = store.open_client(uri)
    except UserError as error:
        if waiting := outbox.waiting(root, shown):
            raise UserError(f"{error} {waiting}") from error
        raise
    outbox.upload_pending(client, uri, root, shown)
    artifacts = None if uri.startswith("http") else artifact_place(tracking, root)
    with store.explained(uri, f"open the experiment {tracking.experiment!r}"):
        if create:
            experiment_id = _experiment(client, tracking.experiment, artifacts)
        else:
            found = client.get_experiment_by_name(tracking.experiment)
            experiment_id = str(found.experiment_id) if found else ""
    return Tracker(client, uri, shown, root, tracking.experiment, experiment_id, tracking.registered_model)


def artifact_place(tracking: TrackingSection, root: Path) -> str:
    """The URI below which a new experiment's artifacts go; a relative folder lies under ``root``."""
    place = tracking.artifacts or "mlartifacts"
    return place if "://" in place else store.utf8((root / place).resolve()).as_uri()


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts))
        except MlflowException:  # another process was faster, or a real error
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name!r} was deleted: restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or choose another name in tracking.experiment"
        )
    return str(found.experiment_id)


def _source_tags(tags: dict[str, str], root: Path) -> dict[str, str]:
    """Tags behind the UI's columns User, Source and Version."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    source = {"mlflow.user": user, "mlflow.source.name": f"{root.name}/dvc.yaml", "mlflow.source.type": "LOCAL"}
    if "git.commit" in tags:
        source["mlflow.source.git.commit"] = tags["git.commit"]
    return source
