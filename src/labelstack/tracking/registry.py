"""The MLflow model registry: one version for each ensemble, however often it is registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelstack.params import digest as digest_of
from labelstack.tracking import store
from labelstack.tracking.ensemble_log import LoggedEnsemble
from labelstack.tracking.runs import Tracker, clean_tags

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DIGEST_TAG = "labelstack.ensemble_digest"
CANDIDATE, CHAMPION = "candidate", "champion"
_MAX_DESCRIPTION = 5000  # width of the column in MLflow's databases


@dataclass(frozen=True)
class Version:
    """A registry version; ``created`` tells whether this call made it."""

    name: str
    version: int
    created: bool
    run_id: str
    digest: str

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}/{self.version}"


def ensemble_digest(parts: Mapping[str, str]) -> str:
    """One digest (16 hex digits) of an ensemble from the digests of its parts, whatever their order."""
    return digest_of({str(name): str(value) for name, value in parts.items()})


def register(
    tracker: Tracker,
    name: str,
    digest: str,
    log_model: Callable[[], LoggedEnsemble],
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Version:
    """Make a registry version, unless the same ensemble has one already.

    A new version gets the alias ``candidate``, and ``champion`` when no version has that yet. Two processes that
    register the same ensemble at the same time may make two versions; nothing is lost.

    Parameters
    ----------
    digest : str
        From ``ensemble_digest``; kept in the tag ``labelstack.ensemble_digest``.
    log_model : callable
        Stores the model; called only when a new version is needed.
    description : str
        Model card in Markdown; cut at 5,000 characters.

    Raises
    ------
    UserError
        When the registry can't be reached or refuses the name.
    """
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        found = find_version(tracker, name, digest)
    created = found is None
    if found is None:
        logged = log_model()
        # The sqlite registry looks the model up in MLflow's global store, not in its client's.
        with store.explained(tracker.uri, f"register {name!r}"), tracker.as_default():
            _ensure_registered_model(tracker, name)
            found = tracker.client.create_model_version(
                name,
                source=logged.uri,
                run_id=logged.run_id,
                model_id=logged.model_id,
                tags=clean_tags({**(tags or {}), DIGEST_TAG: digest}),
                description=_cut(description),
            )
    with store.explained(tracker.uri, f"set aliases of {name!r}"):
        _set_aliases(tracker, name, str(found.version), new=created)
    return Version(name, int(found.version), created, str(found.run_id or ""), digest)


def load_ensemble(tracker: Tracker, uri: str) -> Any:
    """The pyfunc model of a ``models:/<name>/<version>``, ``models:/<name>@champion`` or ``models:/<model_id>`` URI.

    Raises
    ------
    UserError
        When there is no such version or its files are gone.
    """
    import mlflow

    with store.explained(tracker.uri, f"load {uri}"), tracker.as_default():
        return mlflow.pyfunc.load_model(uri)


def find_version(tracker: Tracker, name: str, digest: str) -> ModelVersion | None:
    """The oldest READY version of an ensemble, or None."""
    quote = '"' if "'" in name else "'"  # the filter language knows no escapes
    versions = tracker.client.search_model_versions(f"name = {quote}{name}{quote}")
    ready = [v for v in versions if v.tags.get(DIGEST_TAG) == digest and v.status == "READY"]
    return min(ready, key=lambda v: int(v.version)) if ready else None


def _ensure_registered_model(tracker: Tracker, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracker.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _set_aliases(tracker: Tracker, name: str, version: str, *, new: bool) -> None:
    """A killed registration may have left a version without aliases, so an old version gets the missing ones."""
    held = tracker.client.get_registered_model(name).aliases
    if new or CANDIDATE not in held:
        tracker.client.set_registered_model_alias(name, CANDIDATE, version)
    if CHAMPION not in held:
        tracker.client.set_registered_model_alias(name, CHAMPION, version)


def _cut(text: str) -> str:
    end = "\n\n(cut)"
    return text if len(text) <= _MAX_DESCRIPTION else text[: _MAX_DESCRIPTION - len(end)] + end
