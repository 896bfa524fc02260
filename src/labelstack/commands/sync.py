"""`labelstack sync`: upload what was kept while the tracking store was away; record the commit of the results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from labelstack.registry.versions import DIGEST_TAG, all_versions
from labelstack.stages import paths
from labelstack.stages.common import ROOT, tracking_here
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.tracking import outbox, store
from labelstack.tracking.journal import Journal
from labelstack.tracking.lineage import results_commit
from labelstack.tracking.runs import Tracker, connect

_PATIENCE = 600.0  # seconds to wait for another `labelstack sync`
RESULTS_TAG = "git.results_commit"
REGISTRATION = paths.ENSEMBLE / "registration.json"


def run() -> None:
    """Upload all journals of the configured store, then tag the registry version with the commit of its results.

    Raises
    ------
    UserError
        When the store is away, refuses something, or entries are kept for another store.
    """
    tracking = tracking_here()
    root = store.main_root(ROOT)
    uri = store.resolve_uri(tracking.uri, root)
    shown = store.public_uri(uri, root)
    with _alone(root / outbox.FOLDER):
        upload(root, uri, shown)
    if REGISTRATION.exists():
        record_commit(connect(tracking, ROOT, create=False))
    others = {Journal.peek(folder)[0].get("server") for folder in outbox.pending(root)} - {shown, None}
    if others:
        raise UserError(
            f"sync: entries are kept for {', '.join(sorted(map(str, others)))}, but tracking.uri is {shown}: run "
            "`MLFLOW_TRACKING_URI=<that address> labelstack sync` to upload them there"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another `labelstack sync` over the same folder, if anything is kept there."""
    with ExitStack() as held:
        with suppress(FileNotFoundError):
            held.enter_context(
                store.locked(
                    folder,
                    _PATIENCE,
                    "another `labelstack sync` has been uploading from here for ten minutes; try again when it ended",
                    "sync: another `labelstack sync` uploads from here; waiting for it",
                )
            )
        yield


def upload(root: Path, uri: str, shown: str) -> None:
    """Upload the journals of one store and print the line that tells how many entries went there."""
    folders = outbox.pending(root, shown)
    if not folders:
        print(f"sync: nothing pending for {shown}", flush=True)
        _name_damaged(root)
        return
    try:
        client = store.open_client(uri)
    except UserError as error:
        raise UserError(f"{error} {outbox.waiting(root, shown)}") from error
    entries = runs = 0
    problems, busy = [], []
    with bar(total=sum(Journal.peek(folder)[1] for folder in folders), desc="sync", unit="entry") as progress:
        for folder in folders:
            try:
                sent = outbox.upload_folder(client, uri, folder, progress.update)
            except UserError as error:
                problems.append(str(error))
                if not store.answers(uri):
                    break
                continue
            if sent is None:
                busy.append(folder.name)
            else:
                entries, runs = entries + sent, runs + 1
    for run_id in busy:
        print(f"sync: another process writes or uploads the run {run_id}; it is left to that", flush=True)
    counted = outbox.counted
    print(f"sync: {counted(entries, 'entry', 'entries')} of {counted(runs, 'run', 'runs')} → {shown}", flush=True)
    _name_damaged(root)
    if problems:
        raise UserError("\n".join(problems))


def _name_damaged(root: Path) -> None:
    if aside := outbox.set_aside(root):
        names = ", ".join(place.relative_to(root).as_posix() for place in aside)
        print(f"sync: damaged and set aside, to mend or delete: {names}", flush=True)


def record_commit(tracker: Tracker) -> None:
    """Set ``git.results_commit`` on the version registered here, if HEAD holds these results; print what was done.

    From a checkout of that commit `dvc pull` and `dvc repro` have nothing to do but to fetch.
    """
    commit, reason = results_commit(ROOT, "register", REGISTRATION.as_posix())
    version = storage.read_json(REGISTRATION)
    name, number = str(version.get("name")), str(version.get("version"))
    if commit and (stages := _stale()):
        commit, reason = None, f"`dvc status` names {', '.join(stages)} as changed; run `dvc repro`, then commit"
    if commit is None:
        print(f"sync: no commit recorded for {name} v{number}: {reason}", flush=True)
        return
    with store.explained(tracker.uri, f"record the commit of {name} v{number}"):
        here = [
            v
            for v in all_versions(tracker, name)
            if str(v.version) == number and v.tags.get(DIGEST_TAG) == version.get("digest")
        ]
        if not here:
            print(f"sync: no commit recorded: {name} v{number} with digest {version.get('digest')} is not in the "
                  f"registry at {tracker.public_uri}", flush=True)  # fmt: skip
            return
        if here[0].tags.get(RESULTS_TAG) != commit:
            tracker.client.set_model_version_tag(name, number, RESULTS_TAG, commit)
    print(f"sync: results of {name} v{number} are in commit {commit[:12]}", flush=True)


def _stale() -> list[str]:
    """Stages that DVC would run again here."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return sorted(json.loads(done.stdout))
    except ValueError:
        return [f"an error ({done.stderr.strip()})"]
