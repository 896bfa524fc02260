"""What could not be logged because the tracking store went away: kept on disk in order, uploaded later, once.

A run writes to the store directly while that answers. When it doesn't, everything from then on is appended to
``mlpending/<store>/<run_id>/journal.jsonl`` (artifacts are copied beside it) until the store is back. A journal that
is damaged is moved to ``mlpending/damaged/<store>/<run_id>`` as it is, and the others are uploaded. Uploading the
same journal again, or a part of it, changes nothing: MLflow's metrics are unique in (key, timestamp, step, value),
steps that the store holds are not sent, and everything else is overwritten with the same.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.params import digest as digest_of
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.entries import METRICS_BATCH, apply
from labelstack.tracking.journal import DAMAGED, Busy, Journal
from labelstack.tracking.journal_lines import FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "mlpending"
Value = tuple[str, float, int, int | None, bool]  # key, value, milliseconds, step (None: the last one), replaces
_AGAIN_SECONDS = 30.0
_PATIENCE, _ARTIFACT_PATIENCE, _END_PATIENCE = 10, 30, 60  # seconds to wait for one answer
_logger = logging.getLogger(__name__)


class Outbox:
    """The way of one run to the store: direct, or by the journal.

    Parameters
    ----------
    folder : Path
        The run's folder under ``mlpending``; see ``folder_of``.
    shown : str
        The store's address without credentials.
    """

    def __init__(self, client: MlflowClient, uri: str, folder: Path, run_id: str, name: str, shown: str) -> None:
        self._client, self._uri, self._folder, self._run_id = client, uri, folder, run_id
        self._header = {"kind": "run", "server": shown, "run_id": run_id, "name": name}
        self._journal: Journal | None = None
        self._next = 0.0
        if Journal.exists(folder):  # an earlier attempt's entries come first
            self._journal = Journal.open(folder, self._header)

    def read(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What ``ask`` reads from the store, or ``otherwise`` while the store is away."""
        if self._journal is None:
            try:
                with store.hurried(_PATIENCE):
                    return ask()
            except Exception as error:
                self._leave(error)
        return otherwise

    def put(self, entry: dict[str, Any], source: Path | None = None) -> None:
        """Log an entry, now or later; ``source`` is the file or folder of an artifact.

        Raises
        ------
        Exception
            MLflow's own, when the store answers that it won't have the entry.
        """
        if self._journal is None:
            try:
                with store.hurried(_PATIENCE if source is None else _ARTIFACT_PATIENCE):
                    apply(self._client, self._run_id, entry, source)
                return
            except Exception as error:
                self._leave(error)
        assert self._journal is not None
        self._journal.append(entry, source)
        if time.monotonic() >= self._next:
            self._return(_ARTIFACT_PATIENCE)

    def close(self) -> None:
        """Try to upload once more; one warning says what lies where when the store is still away."""
        if self._journal is None:
            return
        journal = self._journal
        try:
            self._return(_END_PATIENCE)
            left = journal.count
        finally:
            journal.close()
        if self._journal is None:
            return
        _logger.warning(
            "MLflow at %s doesn't answer: %s of the run %s kept in %s; `labelstack sync` or the next run uploads them",
            *(self._header["server"], counted(left, "entry", "entries"), self._header["name"], self._folder),
        )

    def _leave(self, error: Exception) -> None:
        """Open the journal after an error that says that the store is away; raise any other error."""
        if not store.unreachable(error, self._uri):
            raise error
        _logger.info("MLflow at %s doesn't answer; entries are kept in %s", self._header["server"], self._folder)
        self._journal = Journal.open(self._folder, self._header)
        self._next = time.monotonic() + _AGAIN_SECONDS

    def _return(self, patience: int) -> None:
        """Upload the journal and drop it if the store answers again."""
        journal = self._journal
        assert journal is not None
        try:
            if store.answers(self._uri):
                with store.hurried(patience):
                    upload(self._client, journal)
                self._journal = None
        except Exception as error:
            if not store.unreachable(error, self._uri):
                raise
        self._next = time.monotonic() + _AGAIN_SECONDS


def upload(client: MlflowClient, journal: Journal, progress: Callable[[int], Any] | None = None) -> int:
    """Send a journal's entries in order and remove it after the last one; the number of entries sent.

    Parameters
    ----------
    progress : callable
        Called with the number of entries that were just sent.
    """
    held: dict[str, list[Any]] = {}
    sent = 0
    for entries, end in _grouped(journal.entries()):
        entry = entries[0]
        if entry["kind"] == "metrics":
            values = [tuple(value) for one in entries for value in one["values"]]
            entry = entry | {"values": _missing(client, journal.run_id, values, held)}
        try:
            apply(client, journal.run_id, entry, journal.file(entry))
        except Exception as error:
            if store.known(error):
                raise
            why = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{journal.folder}: {entry['kind']} could not be uploaded ({why}); it is left there"
            ) from error
        journal.advance(end, len(entries))
        sent += len(entries)
        if progress:
            progress(len(entries))
    journal.remove()
    return sent


def _missing(client: MlflowClient, run_id: str, values: list[Any], held: dict[str, list[Any]]) -> list[Value]:
    """Of journalled metrics those that the store lacks, each with its step."""
    new: list[Value] = []
    for key, value, at, step, replaces in values:
        if key not in held:
            held[key] = [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key)]
        if replaces:
            there = any(at == a and same(value, v) for _, a, v in held[key])
        else:
            there = any(step == s for s, _, _ in held[key])
        if not there:
            place = max((s for s, _, _ in held[key]), default=0) if step is None else step
            held[key].append((place, at, value))
            new.append((key, value, at, place, replaces))
    return new


def _grouped(entries: Iterator[tuple[dict[str, Any], int]]) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Neighbouring metrics of the same thing together, so that many epochs need few requests; other entries alone."""
    for (kind, *_), same_thing in groupby(
        entries, lambda one: [one[0].get(key) for key in ("kind", "model", "dataset")]
    ):
        while batch := list(islice(same_thing, METRICS_BATCH if kind == "metrics" else 1)):
            yield [entry for entry, _ in batch], batch[-1][1]


def server_folder(root: Path, shown: str) -> Path:
    """Where the journals for one store lie; ``shown`` is its address without credentials."""
    return root / FOLDER / digest_of(shown)


def folder_of(root: Path, shown: str, run_id: str) -> Path:
    """Where the journal of one run lies."""
    return server_folder(root, shown) / run_id


def pending(root: Path, shown: str | None = None) -> list[Path]:
    """Folders of journals, of one store or of all, oldest first."""
    base = root / FOLDER if shown is None else server_folder(root, shown)
    found = []
    for folder in base.glob("*" if shown is not None else "*/*"):
        if folder.name[0] != "." and folder.parent.name != DAMAGED:
            with suppress(OSError, ValueError):  # another process makes it, or has just uploaded it
                file = max(folder.iterdir(), key=lambda file: file.name == FILE)
                found.append((file.lstat().st_mtime, folder))
    return [folder for _, folder in sorted(found)]


def set_aside(root: Path) -> list[Path]:
    """What was damaged and waits for a person."""
    return sorted((root / FOLDER / DAMAGED).glob("*/*"))


def waiting(root: Path, shown: str) -> str:
    """A sentence on what waits for a store, or nothing."""
    folders = pending(root, shown)
    if not folders:
        return ""
    n = sum(Journal.peek(folder)[1] for folder in folders)
    return (
        f"Kept in {server_folder(root, shown)}: {counted(n, 'entry', 'entries')} of "
        f"{counted(len(folders), 'earlier run', 'earlier runs')}; `labelstack sync` or the next run uploads them."
    )


def counted(n: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{n} {one if n == 1 else many}"


def upload_folder(
    client: MlflowClient, uri: str, folder: Path, progress: Callable[[int], Any] | None = None
) -> int | None:
    """Upload one journal; the number of entries sent, or None when another process is writing or uploading it.

    Raises
    ------
    UserError
        When the store is away again (what was sent is remembered), refuses an entry, or the journal is damaged.
    """
    try:
        journal = Journal.open(folder, None, patience=0)
    except Busy:
        return None
    except FileNotFoundError:  # another process has just uploaded it
        return 0
    try:
        with store.explained(uri, f"upload {folder}"), store.hurried(_END_PATIENCE):
            return upload(client, journal, progress)
    except UserError as error:
        if isinstance(error.__cause__, Exception) and not store.unreachable(error.__cause__, uri):
            raise UserError(f"{error}. Where the run was deleted, restore it, or delete {folder}.") from error
        raise
    finally:
        journal.close()


def upload_pending(client: MlflowClient, uri: str, root: Path, shown: str) -> None:
    """Upload all journals of a store, quietly; what goes wrong is a warning and leaves them as they are."""
    for folder in pending(root, shown):
        try:
            upload_folder(client, uri, folder)
        except UserError as error:
            _logger.warning("%s", error)
            if not store.answers(uri):
                return


def same(a: float, b: float) -> bool:
    """Equal, or both not a number."""
    return a == b or (math.isnan(a) and math.isnan(b))
