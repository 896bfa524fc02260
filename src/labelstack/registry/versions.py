"""The MLflow model registry: one version for each ensemble, however often it is registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labelstack.ensemble import integrity
from labelstack.ensemble.log import MODEL_NAME, LoggedEnsemble
from labelstack.params import digest as digest_of
from labelstack.registry.champions import CANDIDATE, CHAMPION, move_within_turn
from labelstack.registry.lock import Turn, one_at_a_time
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker
from labelstack.tracking.texts import clean_tags

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DIGEST_TAG = "labelstack.ensemble_digest"
TASK_TAG = "labelstack.task"  # dataset.task
DATA_TAG = "labelstack.data_digest"
FILES_TAG = integrity.FILES_TAG
MODEL_TAG = integrity.MODEL_TAG
SUBMISSION_TAG = "labelstack.submission_sha256"
METRIC_TAG = "labelstack.metric"
SCORE_TAG = "labelstack.score"  # with both bounds of its interval
_REFERENCE = re.compile(r"(?:(?P<name>[^/@:]+)/)?v?(?P<version>[1-9]\d*)|(?P<model>[^/@:]*)@(?P<alias>[\w.-]+)")
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

    A new version gets the alias ``candidate``; the first one of all is ``champion`` too, who comes later is for
    ``promotion`` to decide. Several processes may register at once: each ensemble gets one version, none is lost.

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
    created = False
    if found is None:
        logged = log_model()
        with store.explained(tracker.uri, f"register {name!r}"):
            _ensure_registered_model(tracker, name)
            with one_at_a_time(tracker, name) as turn:
                found = find_version(tracker, name, digest)  # meanwhile another process may have registered it
                created = found is None
                found = found or _create(tracker, name, digest, logged, description, tags or {})
                _set_aliases(turn, int(found.version), new=created)
            if not created:
                tracker.client.delete_logged_model(logged.model_id)
    elif not {CANDIDATE, CHAMPION} <= set(_aliases(tracker, name)):
        with one_at_a_time(tracker, name) as turn:
            _set_aliases(turn, int(found.version), new=False)
    return Version(name, int(found.version), created, str(found.run_id or ""), digest)


def read_version(tracker: Tracker, name: str, version: int) -> ModelVersion:
    """A version with its tags, aliases and description; raise ``UserError`` when there is no such version."""
    with store.explained(tracker.uri, f"read {name}/{version}"):
        return tracker.client.get_model_version(name, str(version))


def describe(tracker: Tracker, name: str, version: int, text: str) -> None:
    """Set a version's description (Markdown, cut at 5,000 characters)."""
    with store.explained(tracker.uri, f"describe {name}/{version}"):
        tracker.client.update_model_version(name, str(version), _cut(text))


def resolve(tracker: Tracker, text: str, name: str | None = None) -> ModelVersion:
    """The version that a user means by ``3``, ``v3``, ``name/3``, ``@alias``, ``name@alias`` or a ``models:/`` URI.

    Parameters
    ----------
    name : str, optional
        The registered model where ``text`` names none; default: the tracker's.

    Raises
    ------
    UserError
        When the text is none of these, or there is no such version; the message names those that exist.
    """
    found = _REFERENCE.fullmatch(text.strip().removeprefix("models:/"))
    if not found:
        raise UserError(f"{text}: expected a version like 3, labelstack/3, @champion or models:/labelstack/3")
    model = found["name"] or found["model"] or name or tracker.registered_model
    with store.explained(tracker.uri, f"read the registered model {model!r}"):
        versions = {str(v.version): v for v in all_versions(tracker, model)}
        aliases = dict(tracker.client.get_registered_model(model).aliases) if versions else {}
    number = found["version"] or str(aliases.get(found["alias"], ""))
    if number not in versions:
        known = ", ".join([*sorted(versions, key=int), *(f"@{alias}" for alias in sorted(aliases))])
        raise UserError(f"{text}: no such version of {model} in {tracker.public_uri} (there are: {known or 'none'})")
    return read_version(tracker, model, int(number))  # a search leaves the aliases out


def download(tracker: Tracker, uri: str, inside: str, to: Path) -> Path:
    """Fetch a file or folder of a version's ensemble folder into the folder ``to``; the path it has there.

    Parameters
    ----------
    uri : str
        ``models:/<name>/<version>``.
    inside : str
        Below the ensemble's folder, for example ``record/scored.npz``; empty: all of it.

    Raises
    ------
    UserError
        When the version or the file is not there.
    """
    from mlflow.artifacts import download_artifacts

    whole = "/".join(part for part in (uri, "artifacts", MODEL_NAME, inside) if part)
    with store.explained(tracker.uri, f"fetch {inside or 'the ensemble'} of {uri}"), tracker.as_default():
        try:
            return Path(download_artifacts(artifact_uri=whole, dst_path=str(to)))
        except OSError as error:
            raise UserError(f"{uri}: {inside or 'its files'} could not be fetched ({error})") from None


def all_versions(tracker: Tracker, name: str) -> list[ModelVersion]:
    """Every version of a registered model, oldest first; none when there is no such model."""
    quote = '"' if "'" in name else "'"  # the filter language knows no escapes
    found, token = [], None
    while True:
        page = tracker.client.search_model_versions(f"name = {quote}{name}{quote}", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda v: int(v.version))


def find_version(tracker: Tracker, name: str, digest: str) -> ModelVersion | None:
    """The oldest READY version of an ensemble, or None."""
    ready = [v for v in all_versions(tracker, name) if v.tags.get(DIGEST_TAG) == digest and v.status == "READY"]
    return min(ready, key=lambda v: int(v.version)) if ready else None


def _ensure_registered_model(tracker: Tracker, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracker.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _create(
    tracker: Tracker, name: str, digest: str, logged: LoggedEnsemble, description: str, tags: Mapping[str, str]
) -> ModelVersion:
    own = {DIGEST_TAG: digest, FILES_TAG: logged.files_digest, MODEL_TAG: logged.model_digest}
    # The sqlite registry looks the model up in MLflow's global store, not in its client's.
    with tracker.as_default():
        return tracker.client.create_model_version(
            name,
            source=logged.uri,
            run_id=logged.run_id,
            model_id=logged.model_id,
            tags=clean_tags({**tags, **{key: value for key, value in own.items() if value}}),
            description=_cut(description),
        )


def _set_aliases(turn: Turn, version: int, *, new: bool) -> None:
    """A killed registration may have left a version without aliases, so an old version gets the missing ones."""
    tracker, name = turn.tracker, turn.name
    held = _aliases(tracker, name)
    turn.check()
    with store.explained(tracker.uri, f"set aliases of {name!r}"):
        if new or CANDIDATE not in held:
            tracker.client.set_registered_model_alias(name, CANDIDATE, str(version))
    if CHAMPION not in held:
        move_within_turn(turn, version, expected=None, how="first", reason="there was no champion")


def _aliases(tracker: Tracker, name: str) -> dict[str, str]:
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        return dict(tracker.client.get_registered_model(name).aliases)


def _cut(text: str) -> str:
    end = "\n\n(cut)"
    return text if len(text) <= _MAX_DESCRIPTION else text[: _MAX_DESCRIPTION - len(end)] + end
