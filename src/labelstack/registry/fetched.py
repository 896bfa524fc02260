"""A version's files out of the registry: a private copy, and nothing that is not the registered version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labelstack.ensemble import integrity
from labelstack.ensemble.integrity import ChangedError, Registered
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchedVersion:
    """The parts of a downloaded model: all of it, the ensemble's folder, and labelstack's source as it was then."""

    model: Path
    ensemble: Path
    code: Path


def fetch(tracker: Tracker, uri: str, to: Path) -> FetchedVersion:
    """Download a version, ``models:/<name>/<version>``, into a new folder that only its owner can read.

    Raises
    ------
    ChangedError
        When there are links among its files, in a store of this machine.
    UserError
        When its files can't be had, or are no ensemble.
    """
    from mlflow.artifacts import download_artifacts

    to.mkdir(parents=True, mode=0o700)
    with store.explained(tracker.uri, f"fetch {uri}"), tracker.as_default():
        try:
            _without_links(uri)
            model = Path(download_artifacts(artifact_uri=uri, dst_path=str(to)))
        except OSError as error:
            raise UserError(f"{uri}: its files could not be fetched ({error})") from None
    ensemble = model / integrity.ENSEMBLE
    if not ensemble.is_dir():
        raise UserError(f"{uri}: not an ensemble of labelstack, or its files are gone (no {integrity.ENSEMBLE})")
    return FetchedVersion(model, ensemble, model / "code" / "labelstack")


def fetch_checked(tracker: Tracker, version: ModelVersion, to: Path) -> FetchedVersion:
    """As ``fetch``, of a version as ``resolve`` gives it; raise ``ChangedError`` unless its files are as registered.

    A version from before there were checksums is fetched as it is, and a warning says so.
    """
    uri = f"models:/{version.name}/{version.version}"
    fetched = fetch(tracker, uri, to)
    refuse_changed(fetched, version.tags, uri)
    return fetched


def refuse_changed(fetched: FetchedVersion, tags: Mapping[str, str], uri: str) -> None:
    """Raise ``ChangedError`` that names what is not as a version's tags say."""
    registered = Registered.of(tags)
    if registered is None:
        _logger.warning("%s was registered before files had checksums: they are not compared with anything", uri)
        return
    integrity.check(fetched.model, registered, uri)


def _without_links(uri: str) -> None:
    """MLflow copies what a link of a local store leads to, a device too: look before."""
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

    repository: ArtifactRepository = ModelsArtifactRepository(uri).repo
    if not isinstance(repository, LocalArtifactRepository):
        return
    if problems := integrity.links(integrity.contents(Path(repository.artifact_dir))):
        raise ChangedError(f"{uri}: its files are not the registered ones, so nothing of it is used", problems)
