"""Labels of a table's rows: cells to label sets, and names that must not be two spellings of one."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict

from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.table_file import Columns
from labelstack.params.dataset import JSON, MAX_LABELS, DatasetSection

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_USUAL = (";", "|", ",")
_JOINT = ";"  # in the submission, where a cell of the table is one label
_SHOWN = 5
Set = tuple[int, ...]


class TableLabels:
    """Takes the label cells of one file after another.

    Parameters
    ----------
    dataset : the section ``dataset``; ``task``, ``table.labels`` and ``table.separator`` are used

    Attributes
    ----------
    names : every name that occurs, in the order of coming up
    sets : of every row taken: places in ``names``, each once
    repeated : labels dropped because their row had them already
    """

    def __init__(self, dataset: DatasetSection) -> None:
        self._single = dataset.task == "single_label"
        self._column, self._separator = dataset.table.labels, dataset.table.separator
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        self._first: list[str] = []
        self._known: dict[str, tuple[Set, int]] = {}
        self.sets: list[Set] = []
        self.repeated = 0

    def take(self, columns: Columns, obliged: list[bool], problems: FileProblems) -> None:
        """Note the label sets of a file's rows, and problems.

        Parameters
        ----------
        obliged : for each row whether it must say what its labels are, as those of train and validation must
        """
        cells = columns.cells.get("labels", [""] * len(columns.place))
        for row, cell in enumerate(cells):
            if type(cell) is str:
                read = self._known.get(cell)
                if read is None:
                    read = self._known[cell] = self._read(cell, columns, row, problems)
            else:
                read = self._noted([text.strip() for text in cell], columns, row)
            labels, repeated = read
            self.repeated += repeated
            if self._single and len(labels) != 1 and (obliged[row] or labels):
                what = f"{len(labels)} ({', '.join(self.names[label] for label in labels)})" if labels else "none"
                expected = "exactly one label (dataset.task: single_label)"
                problems.add("", columns.told(row), self._column, expected, what)
            self.sets.append(labels)

    @property
    def joined(self) -> str:
        """What stands between two labels in the submission; as the separator, ``json`` for lists."""
        if self._separator is not None:
            return self._separator
        return JSON if any(_JOINT in name for name in self._number) else _JOINT

    def problems(self) -> list[str]:
        """What is wrong with the names."""
        told = [*self._between(), *self._alike()]
        for name, number in self._number.items():
            if _UNPRINTABLE.search(name):
                told.append(f"label {found(name)} ({self._first[number]}): expected one line of visible text")
        if self.joined != JSON and (holding := [name for name in self._number if self.joined in name]):
            told.append(
                f"label {found(holding[0])} ({self._first[self._number[holding[0]]]}): holds {found(self.joined)}, "
                "which stands between two in the submission: set dataset.table.separator to another one, or to json"
            )
        if len(self._number) > MAX_LABELS:
            told.append(
                f"{self._column}: expected at most {MAX_LABELS:,} different labels, found {len(self._number):,}: is "
                "this the column of the labels, and dataset.table.separator what is between two of them?"
            )
        return told

    def _alike(self) -> list[str]:
        """Names that are hard to tell apart: a sentence for each, of many the first."""
        told, alike = [], defaultdict(list)
        for name, number in self._number.items():
            alike[_folded(name)].append((name, number))
        for same in alike.values():
            if len(same) > 1:
                places = " and ".join(f"{found(name)} ({self._first[number]})" for name, number in same)
                told.append(
                    f"labels {places}: differ in upper and lower case, spaces or the form of their Unicode only: write "
                    "them alike, or call them something that is not so easily mixed up"
                )
        more = len(told) - _SHOWN
        return told if more <= 0 else [*told[:_SHOWN], f"labels: {more:,} more differ from others in this only"]

    def _between(self) -> list[str]:
        """A separator that no cell holds, where something else is in many: not what was meant."""
        cells = [cell for cell in self._known if cell.strip()]
        if not cells or self._separator in (None, JSON):
            return []
        if all(cell.lstrip()[:1] == "[" and cell.rstrip()[-1:] == "]" for cell in cells):
            told = f"{self._column}: expected names in the cells, found lists such as {found(cells[0])} in all of them"
            return [f"{told}: set dataset.table.separator: json"]
        if any(str(self._separator) in cell for cell in cells):
            return []
        often = [(sum(other in cell for cell in cells), other) for other in _USUAL if other != self._separator]
        count, other = max(often)
        if count * 4 < len(cells):
            return []
        return [
            f"{self._column}: expected {found(self._separator)} between labels (dataset.table.separator), found it in "
            f"no cell, and {found(other)} in {count:,} of {len(cells):,} different ones: name that, or null where a "
            "cell is one label"
        ]

    def _read(self, cell: str, columns: Columns, row: int, problems: FileProblems) -> tuple[Set, int]:
        """The set that a cell says, and how many labels were dropped."""
        if self._separator not in (None, JSON):  # most cells: names that came up before, each once
            known = [self._number.get(name) for name in cell.split(self._separator)]
            if None not in known and len(set(known)) == len(known):
                return tuple(number for number in known if number is not None), 0
        return self._noted(self._split(cell, columns, row, problems), columns, row)

    def _split(self, cell: str, columns: Columns, row: int, problems: FileProblems) -> list[str]:
        text = cell.strip()
        if not text or self._separator is None:
            return [text]
        if self._separator == JSON:
            try:
                content = json.loads(text)
            except ValueError:
                content = None
            if not isinstance(content, list) or not all(type(each) is str for each in content):
                problems.add(
                    "", columns.told(row), self._column, 'a JSON list of texts such as ["a", "b"]', found(text)
                )
                return []
            return [each.strip() for each in content]
        return [each.strip() for each in text.split(self._separator)]

    def _noted(self, names: list[str], columns: Columns, row: int) -> tuple[Set, int]:
        """The set, and how many labels were dropped."""
        labels = []
        for name in filter(None, names):
            number = self._number.setdefault(name, len(self.names))
            if number == len(self.names):
                self.names.append(name)
                self._first.append(f"{columns.file}, {columns.told(row)}")
            labels.append(number)
        once = tuple(dict.fromkeys(labels))
        return once, len(labels) - len(once)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())
