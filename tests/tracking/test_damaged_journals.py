"""Journals that are not what was written: set aside by name and said, never deleted unread, never in others' way."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.commands import sync
from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import outbox
from labelstack.tracking.journal import Damaged, Journal
from labelstack.tracking.runs import Tracker, connect

CASES = int(os.environ.get("LABELSTACK_FUZZ", "0")) or 100
SHOWN = "sqlite:///mlflow.db"
MODEL = {"kind": "model", "name": "m", "model_type": "base model", "params": {"a": "1"}, "data": ["w.keras"]}
DATASET = dict.fromkeys(("name", "digest", "source_type", "source", "schema", "profile", "context"), "x")
ENTRIES: list[tuple[dict[str, Any], bool]] = [
    ({"kind": "params", "values": {"größe": "1"}}, False),
    (
        {"kind": "metrics", "values": [["loss", 1.5, 1_700_000_000_000, 0, False], ["f", math.nan, 1, None, True]]},
        False,
    ),
    ({"kind": "datasets", "datasets": [DATASET]}, False),
    (MODEL | {"signature": {}}, True),
    ({"kind": "artifact", "folder": None}, True),
    ({"kind": "tags", "values": {"t": "1"}}, False),
    ({"kind": "status", "status": "FINISHED", "end_time": 1_700_000_000_001}, False),
]


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def written(folder: Path, name: str = "train/m") -> Path:
    """A journal with every kind of entry."""
    weights = folder.parents[2] / "w.keras"
    journal = Journal.open(folder, {"kind": "run", "server": SHOWN, "run_id": folder.name, "name": name})
    for entry, filed in ENTRIES:
        weights.write_text(f"file of {entry['kind']}")
        journal.append(entry, weights if filed else None)
    journal.close()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by the end of its path."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def changed_line(number: int, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """What replaces one line of a journal's file."""

    def damage(folder: Path) -> None:
        file = folder / "journal.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        lines[number] = json.dumps(change(json.loads(lines[number]))) + "\n"
        file.write_text("".join(lines))

    return damage


def cut(place: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / "journal.jsonl", place)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a missing key": (changed_line(1, lambda entry: {"kind": entry["kind"]}), r"line 2 is damaged \(params.values"),
    "no kind": (changed_line(1, lambda entry: {"values": {}}), "line 2 is damaged"),
    "a number": (changed_line(2, lambda entry: 7), "line 3 is damaged"),
    "a list": (changed_line(2, lambda entry: [entry]), "line 3 is damaged"),
    "a metric of texts": (
        changed_line(2, lambda entry: entry | {"values": [["a", "b", 1, 1, False]]}),
        "line 3 is dam",
    ),
    "a metric too short": (changed_line(2, lambda entry: entry | {"values": [["a", 1.0]]}), "line 3 is damaged"),
    "a step too large": (changed_line(2, lambda entry: entry | {"values": [["a", 1.0, 2**70, 1, False]]}), "line 3 is"),
    "a header of another kind": (changed_line(0, lambda header: header | {"server": 5}), r"line 1 is damaged \(server"),
    "a path that leads out": (changed_line(4, lambda entry: entry | {"source": "files/../../w"}), "line 5 is damaged"),
    "brackets": (lambda folder: (folder / "journal.jsonl").write_text("[" * 100_000 + "\n"), "line 1 is damaged"),
    "no file": (cut(0), "it has no first line"),
    "a cut header": (cut(20), "line 1 is damaged"),
    "an artifact that is gone": (lambda folder: shutil.rmtree(folder / "files"), "line 5 names .*, which is not there"),
    "no journal": (lambda folder: (folder / "journal.jsonl").unlink(), "is not there"),
    "a folder for a journal": (
        lambda folder: ((folder / "journal.jsonl").unlink(), (folder / "journal.jsonl").mkdir())[1],
        "is not a file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_set_aside_with_all_that_is_in_it(tmp_path: Path, damage: str) -> None:
    folder = written(outbox.folder_of(tmp_path, SHOWN, "1" * 32))
    spoil, said = DAMAGES[damage]
    spoil(folder)
    before = content(folder)
    with pytest.raises(Damaged, match=said) as raised:
        Journal.open(folder, None)
    (place,) = outbox.set_aside(tmp_path)
    assert place == tmp_path / "mlpending/damaged" / folder.parent.name / folder.name
    assert f"it is now {place}" in str(raised.value)
    assert content(place) == before
    assert outbox.pending(tmp_path) == []


def test_sound_journals_are_uploaded_past_damaged_ones(
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tracker.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SHOWN)
    with tracker.run("train", "m") as run:
        pass
    for name, (spoil, _) in list(DAMAGES.items())[:6]:
        spoil(written(outbox.folder_of(tracker.root, SHOWN, f"{len(name):032d}"), name))
    sound = outbox.folder_of(tracker.root, SHOWN, run.run_id)
    journal = Journal.open(sound, {"kind": "run", "server": SHOWN, "run_id": run.run_id, "name": "train/m"})
    journal.append({"kind": "tags", "values": {"late": "1"}})
    journal.close()
    with pytest.raises(UserError, match="line 2 is damaged"):
        sync.run()
    assert tracker.client.get_run(run.run_id).data.tags["late"] == "1"
    said = capsys.readouterr().out
    assert "sync: 1 entry of 1 run" in said
    assert "damaged and set aside, to mend or delete: mlpending/damaged/" in said
    sync.run()
    said = capsys.readouterr().out
    assert "nothing pending" in said
    assert "damaged and set aside" in said
    connect(TrackingSection(), tracker.root)
    assert not caplog.text


def test_a_stage_whose_own_journal_is_damaged_goes_on(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    with tracker.run("train", "m") as run:
        pass
    folder = written(outbox.folder_of(tracker.root, SHOWN, run.run_id))
    cut(20)(folder)
    with tracker.run("train", "m", run_id=run.run_id) as again:
        again.set_tags({"after": "1"})
    assert tracker.client.get_run(run.run_id).data.tags["after"] == "1"
    assert "line 1 is damaged" in caplog.text
    (place,) = outbox.set_aside(tracker.root)
    assert (place / "files").is_dir()


def test_the_next_damaged_one_of_a_name_gets_another(tmp_path: Path) -> None:
    for _ in range(3):
        folder = written(outbox.folder_of(tmp_path, SHOWN, "1" * 32))
        cut(3)(folder)
        with pytest.raises(Damaged):
            Journal.open(folder, None)
    assert [place.name for place in outbox.set_aside(tmp_path)] == [f"{'1' * 32}{end}" for end in ("", "-2", "-3")]


def test_files_that_no_entry_names_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = written(outbox.folder_of(tmp_path, SHOWN, "1" * 32))
    (folder / "files/copy").mkdir()
    (folder / "files/copy/half").write_bytes(b"ha")
    journal = Journal.open(folder, None)
    journal.remove()
    (place,) = outbox.set_aside(tmp_path)
    assert content(place) == {"copy/half": b"ha"}
    assert "none of its entries names" in caplog.text
    assert not folder.exists()


@pytest.mark.parametrize("sent", ["100000000 100000000", "7", "x", "120 121", "-1 -1", "\0"])
def test_a_number_of_what_was_sent_that_cannot_be_is_not_believed(tmp_path: Path, sent: str) -> None:
    folder = written(outbox.folder_of(tmp_path, SHOWN, "1" * 32))
    (folder / "sent").write_text(sent)
    assert Journal.peek(folder)[1] == len(ENTRIES)
    journal = Journal.open(folder, None)
    (_, end), *_ = journal.entries()
    journal.advance(end)
    journal.close()
    assert Journal.peek(folder)[1] == len(ENTRIES) - 1


def test_a_disk_that_is_full_for_a_while_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outbox.folder_of(tmp_path, SHOWN, "1" * 32)
    journal = Journal.open(folder, {"kind": "run", "server": SHOWN, "run_id": "1", "name": "x"})
    write = os.write

    def full(handle: int, line: bytes) -> int:
        if len(line) < 20:
            raise OSError(28, "No space left on device")
        return write(handle, line[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match="No space left"):
        journal.append({"kind": "tags", "values": {"a": "b"}})
    monkeypatch.undo()
    journal.append({"kind": "tags", "values": {"c": "d"}})
    journal.close()
    assert Journal.peek(folder)[1] == 1
    journal = Journal.open(folder, None)
    assert [entry["values"] for entry, _ in journal.entries()] == [{"c": "d"}]


@given(place=st.integers(0, 1400), other=st.none() | st.integers(0, 255))
@settings(max_examples=CASES, deadline=None)
def test_a_journal_cut_anywhere_keeps_all_that_is_whole(place: int, other: int | None) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = written(outbox.folder_of(Path(root), SHOWN, "1" * 32))
        file = folder / "journal.jsonl"
        whole = file.read_bytes()
        place = min(place, len(whole))
        file.write_bytes(whole[:place] + (b"" if other is None else bytes([other])))
        if file.read_bytes().split(b"\n")[0].strip() != whole.split(b"\n")[0]:
            with pytest.raises(Damaged):
                Journal.open(folder, None)
            return
        logging.disable()
        journal = Journal.open(folder, None)
        logging.disable(logging.NOTSET)
        lines = whole[:place].split(b"\n")[1:]
        count = sum(b"\n".join(lines[i:]).startswith(line) and _is_json(line) for i, line in enumerate(lines))
        assert count - (other is not None and other != 10) <= journal.count <= count
        journal.append({"kind": "tags", "values": {"more": "1"}})
        assert Journal.peek(folder)[1] == journal.count
        journal.close()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _damage(draw: st.DrawFn) -> Callable[[Path], None]:
    """Bytes flipped in any file, files cut, removed or filled with something, values of other types."""
    seed = draw(st.integers(0, 10_000))

    def spoil(folder: Path) -> None:
        files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.read_bytes())
        if not files:
            return
        file = folder / "journal.jsonl" if kind in ("types", "keys") or seed % 2 else files[seed // 2 % len(files)]
        if not file.exists():
            return
        old = file.read_bytes()
        if kind == "cut":
            file.write_bytes(old[: seed % (len(old) + 1)])
        elif kind == "flip" and old:
            at = seed % len(old)
            file.write_bytes(old[:at] + bytes([old[at] ^ bit]) + old[at + 1 :])
        elif kind == "put":
            at = seed % (len(old) + 1)
            file.write_bytes(old[:at] + junk + old[at:])
        elif kind == "remove":
            file.unlink()
        else:
            lines = old.split(b"\n")
            at = seed % len(lines)
            try:
                entry = json.loads(lines[at])
                keys = sorted(entry)
                entry[keys[seed % len(keys)]] = value
            except (ValueError, AttributeError, TypeError, LookupError, ZeroDivisionError):
                entry = value
            lines[at] = json.dumps(value if kind == "types" else entry).encode()
            file.write_bytes(b"\n".join(lines))

    kind = draw(st.sampled_from(["cut", "flip", "put", "remove", "types", "keys"]))
    bit, junk, value = 1 << draw(st.integers(0, 7)), draw(st.binary(max_size=6)), draw(_JSON)
    return spoil


class Sink:
    """An MLflow client that notes what it is sent: lines of JSON, single metrics, and the bytes of files."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def apply(self, _: Any, run_id: str, entry: dict[str, Any], source: Path | None = None) -> None:
        if source is not None:
            self.sent += content(source.parent).values()
        self.sent += map(repr, entry["values"]) if entry["kind"] == "metrics" else [repr(entry)]

    def get_metric_history(self, *_: str) -> list[Any]:
        return []


def was_read(line: bytes, sink: Sink) -> bool:
    """Whether a line is a journal's first one, or all of it was sent."""
    try:
        entry = json.loads(line)
    except ValueError:
        return not line
    if not isinstance(entry, dict) or entry.get("kind") == "run":
        return isinstance(entry, dict)
    if entry.get("kind") == "metrics":
        return all(
            repr((k, v, at, 0 if step is None else step, how)) in sink.sent for k, v, at, step, how in entry["values"]
        )
    return repr(entry) in sink.sent


@given(damages=st.lists(_damage(), min_size=1, max_size=3), sent=st.integers(0, 4))
@settings(max_examples=CASES, deadline=None)
def test_whatever_befalls_a_journal_no_traceback_and_nothing_deleted_unread(
    damages: list[Callable[[Path], None]], sent: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root, sink = Path(name), Sink()
        patch.setattr(outbox, "apply", sink.apply)
        folder = written(outbox.folder_of(root, SHOWN, "1" * 32))
        original = (folder / "journal.jsonl").read_bytes().split(b"\n")
        already = original[1 : sent + 1]
        stored = {json.loads(line).get("source") for line in already}
        if sent:
            journal = Journal.open(folder, None)
            journal.advance(list(journal.entries())[sent - 1][1], sent)
            journal.close()
        for spoil in damages:
            spoil(folder)
        before = content(folder)
        logging.disable()
        Journal.peek(folder)
        with suppress(UserError):
            outbox.upload_folder(sink, f"sqlite:///{root}/x.db", folder)  # type: ignore[arg-type]
        logging.disable(logging.NOTSET)
        after = content(root / "mlpending") if (root / "mlpending").exists() else {}
        kept = b"\n".join(after.values())
        for path, value in before.items():
            if path.startswith("files/"):
                assert path in stored or value in kept or value in sink.sent, (path, value)
        for i, line in enumerate(before.get("journal.jsonl", b"").split(b"\n")):
            was_sent = line in already or 0 < i <= sent  # before it was damaged
            assert line in kept or was_sent or was_read(line, sink), line
