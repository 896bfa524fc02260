"""CSV files that people open in spreadsheets: no text in them is taken for a formula.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end, and is no number, gets an apostrophe before
it, as in spreadsheets; so does one that begins with apostrophes and then such a sign. ``plain`` takes it away again.
Nothing else changes, and both together change nothing (OWASP, "CSV Injection").
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the last four: full width, as East Asian keyboards write them
_FORMULA = re.compile(f"'*[{_SIGNS}]")
_MARKED = re.compile(f"'+[{_SIGNS}]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def harmless(text: str) -> str:
    """The text as a cell that no spreadsheet calculates."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain(cell: str) -> str:
    """The text that ``harmless`` made this cell of."""
    return cell[1:] if _MARKED.match(cell) else cell


def write_table(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as CSV without its index, texts and names of columns harmless; options are those of pandas."""
    import pandas as pd

    safe = frame.copy(deep=False)
    for column in safe.columns:
        if safe[column].dtype.kind not in "biufc":
            cells = [harmless(cell) if isinstance(cell, str) else cell for cell in safe[column]]
            # Pandas' own text type, which it would infer, refuses file names that are not UTF-8.
            safe[column] = pd.Series(cells, safe.index, dtype=object)
    safe.columns = [harmless(column) if isinstance(column, str) else column for column in safe.columns]
    safe.to_csv(path, index=False, **options)


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read what ``write_table`` wrote; options are those of pandas."""
    import pandas as pd

    frame = pd.read_csv(path, **options)
    for column in frame.columns:
        if frame[column].dtype.kind not in "biufc":
            frame[column] = frame[column].map(lambda cell: plain(cell) if isinstance(cell, str) else cell)
    return frame.rename(columns=lambda column: plain(column) if isinstance(column, str) else column)
