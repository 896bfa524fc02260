"""`labelstack rebuild`: a registered ensemble in a new folder, from nothing but the registry, and checked."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labelstack.commands.rebuild_folder import free_folder, note, restore
from labelstack.commands.rebuild_folder import submit as submit_again
from labelstack.ensemble import integrity, record
from labelstack.ensemble.folder import read_spec
from labelstack.ensemble.integrity import ChangedError, Registered
from labelstack.registry import versions as registry
from labelstack.registry.fetched import FetchedVersion, fetch
from labelstack.registry.verification import LABELS_TOLERANCE, TOLERANCE, Agreement, recompute
from labelstack.stages.common import done, tracking_here
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.tracking.runs import connect

if TYPE_CHECKING:
    from rich.table import Table


def run(version: str, to: Path, *, verify: bool = False, submit: bool = False, images: Path | None = None) -> None:
    """Restore a version into the folder ``to``, which appears when everything is in it.

    The files are always compared with the checksums of the day of registration, and nothing is restored when one
    differs. With ``verify`` every member predicts again, with ``submit`` the submission is written again. Exits with 1
    when something is not as recorded.

    Raises
    ------
    UserError
        When the folder is not free, the registry can't be reached, or there is no such version.
    """
    if images is not None and not submit:
        raise UserError("--images goes with --submit: it names the test shards that the submission is predicted from")
    target = free_folder(to)
    tracker = connect(tracking_here(), ".", create=False)
    found = registry.resolve(tracker, version)
    name = f"{found.name} v{found.version}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:40]}.") as place:
        try:
            fetched = fetch(tracker, f"models:/{found.name}/{found.version}", Path(place) / "model")
        except ChangedError as error:
            _fail(f"{name} is not what was registered; nothing was restored", error.problems)
        problems, told = _compared_files(fetched, Registered.of(found.tags))
        if not problems and not record.has_record(fetched.ensemble):
            if verify or submit:
                raise UserError(
                    f"{name} was registered without a record of its predictions, so it can't be verified and its "
                    "submission can't be written again; without --verify and --submit its files are restored"
                )
            told.append("registered without a record of its predictions")
        compared, sentence = _verify(fetched.ensemble) if verify else ([], "")
        if problems:
            _fail(f"{name} is not what was registered; nothing was restored", [*problems, *compared])
        spec, workspace = read_spec(fetched.ensemble), Path(place) / "workspace"
        restore(fetched.ensemble, fetched.code, spec, workspace)
        told += [sentence] if sentence else []
        if submit:
            file, other = submit_again(fetched.ensemble, spec, workspace, images)
            compared += other
            said = "not the recorded one" if other else "SHA-256 as recorded"
            told.append(f"submission written again, {said} ({storage.sha256(file)})")
        note(found, told, workspace)
        _move(workspace, target)
    if compared:
        _fail(f"{name} is restored in {to}, but does not give what was recorded", compared)
    done("rebuild", f"{name}, {'; '.join(told)}", to)


def _compared_files(fetched: FetchedVersion, registered: Registered | None) -> tuple[list[str], list[str]]:
    """What is not as registered, and what may be said of the files otherwise."""
    if registered is not None:
        return integrity.faults(fetched.model, registered), ["files as registered"]
    if record.has_record(fetched.ensemble):
        missing = f"the version has no tag {integrity.FILES_TAG}, so nothing says which files were registered"
        return [missing, *integrity.faults(fetched.model, None)], []
    return [], ["registered before files had checksums, so nothing was checked"]


def _verify(ensemble: Path) -> tuple[list[str], str]:
    """Print the table of the members; what does not pass, and a sentence."""
    from rich.console import Console

    try:
        comparison = recompute(ensemble)
    except UserError as error:
        return [f"nothing can be predicted again: {error}"], "the members could not be verified"
    where = (
        "processor and packages are the recorded ones, so not a bit may differ"
        if comparison.exact
        else f"other processor or packages ({', '.join(comparison.other)}), so probabilities may differ by "
        f"{TOLERANCE:g}, and the labels of {LABELS_TOLERANCE:.0%} of the images"
    )
    print(f"verify: {where}", flush=True)
    Console(highlight=False).print(_table(comparison))
    apart = ("label sets", "segmenters")  # whose differences are not of probabilities
    largest = max((row.difference or 0 for row in comparison.rows if row.kind not in apart), default=0)
    count = sum(row.kind != "label sets" and row.kind != "blend" for row in comparison.rows)
    verdict = (
        f"{len(comparison.problems)} checks failed" if comparison.problems else f"{count} members and the blend pass"
    )
    return comparison.problems, f"{verdict}, maximum absolute difference {largest:.2g}"


def _table(comparison: Agreement) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("member", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for heading in ("images", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in comparison.rows:
        unit = {"label sets": " images", "segmenters": " of pixels"}.get(row.kind, "")
        difference = "–" if row.difference is None else f"{row.difference:.2g}{unit}"
        verdict = Text("DIFFERS", "red") if row.problem else Text("ok", "green")
        table.add_row(Text(row.member), row.kind, str(row.images), difference, verdict)
    return table


def _move(workspace: Path, target: Path) -> None:
    workspace.chmod(0o755)
    try:
        os.replace(workspace, target)  # over an empty folder too, but not over one in which something appeared
    except OSError as error:
        raise UserError(
            f"--to {target}: can't be put in place ({error.strerror}); name a folder that does not exist"
        ) from None


def _fail(sentence: str, problems: Sequence[str]) -> NoReturn:
    print(f"labelstack: {sentence}:", *(f"  - {problem}" for problem in problems), sep="\n", file=sys.stderr)
    sys.exit(1)
