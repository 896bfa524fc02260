"""``labels.csv``: names and groups of the labels, in the published label map's form or with two columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelstack.formats.csv_file import read_csv
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.reading import LABEL_TABLE
from labelstack.formats.records import INT32_MAX, parse_id

PLAIN = ("label_id", "name")
PUBLISHED = ("labelId", "taskId", "labelName", "taskName")
_WANTED = f"the header {','.join(PLAIN)} or {','.join(PUBLISHED)}"


@dataclass(frozen=True)
class LabelName:
    """What a label is called, and the group that it belongs to (empty: none)."""

    name: str
    group: str


def read_label_table(path: Path, declared: range | None, problems: list[str]) -> dict[int, LabelName] | None:
    """Names and groups by label id, ``None`` without the file; problems name the line.

    ``label_id,name``: the part of a name before ``::`` is its group. ``labelId,taskId,labelName,taskName``: the task is
    the group; a name that labels of several tasks have is told apart as ``task::name``.
    """
    rows = read_csv(path, problems)
    if rows is None:
        return None
    header = tuple(field.strip() for field in rows[0][1]) if rows else ()
    if header not in (PLAIN, PUBLISHED):
        what = found(",".join(rows[0][1])) if rows else "an empty file"
        problems.append(f"{LABEL_TABLE}: line 1: expected {_WANTED}, found {what}")
        return None
    if not rows[1:]:
        problems.append(f"{LABEL_TABLE}: expected at least one label, found only the header")
        return {}
    here = FileProblems(LABEL_TABLE)
    read = _Reader(header, declared, here)
    for line, row in rows[1:]:
        read.line(line, row)
    problems += here.sentences()
    return read.table()


class _Reader:
    """Lines checked one by one."""

    def __init__(self, header: Sequence[str], declared: range | None, problems: FileProblems) -> None:
        self._header, self._declared, self._problems = header, declared, problems
        self._wanted = f"an integer of {declared[0]}…{declared[-1]}" if declared else f"an integer of 0…{INT32_MAX}"
        self._names: dict[int, tuple[str, str]] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._tasks: dict[str, tuple[str, int]] = {}

    def line(self, number: int, row: list[str]) -> None:
        """Take a line, or add its problems."""
        where = f"line {number}"
        if len(row) != len(self._header):
            fields = {2: "two", 4: "four"}[len(self._header)]
            expected = f"{fields} fields ({','.join(self._header)})"
            self._problems.add("", where, "", expected, str(len(row)))
            return
        cells = dict(zip(self._header, (cell.strip() for cell in row), strict=True))
        published = tuple(self._header) == PUBLISHED
        id_key, name_key = ("labelId", "labelName") if published else PLAIN
        name, task = cells[name_key], cells.get("taskName", "")
        label = parse_id(row[0], INT32_MAX)
        if label is None or (self._declared is not None and label not in self._declared):
            self._problems.add("", where, id_key, self._wanted, found(row[0]))
        elif label in self._names:
            self._problems.add("", where, id_key, "each id once", f"{label} again")
        elif not name:
            self._problems.add("", where, name_key, "text", "none")
        elif (task, name) in self._used:
            what = f"{found(name)} on line {self._used[task, name]} too"
            self._problems.add("", where, name_key, f"each name once{' in a task' * published}", what)
        if published:
            self._task(where, number, cells["taskId"], task)
        if label is not None:
            self._names.setdefault(label, (task, name))
            self._used.setdefault((task, name), number)

    def table(self) -> dict[int, LabelName]:
        """What was read."""
        if tuple(self._header) == PLAIN:
            return {
                label: LabelName(name, name.split("::", 1)[0] if "::" in name else "")
                for label, (_, name) in self._names.items()
            }
        times = Counter(name for _, name in self._names.values())
        return {
            label: LabelName(name if times[name] == 1 else f"{task}::{name}", task)
            for label, (task, name) in self._names.items()
        }

    def _task(self, where: str, number: int, task_id: str, task: str) -> None:
        if not task_id:
            self._problems.add("", where, "taskId", "text", "none")
        if not task:
            self._problems.add("", where, "taskName", "text", "none")
            return
        known, line = self._tasks.setdefault(task_id, (task, number))
        if known != task:
            what = f"{found(task)}, and {found(known)} on line {line}"
            self._problems.add("", where, "taskName", f"one name for task {task_id}", what)
