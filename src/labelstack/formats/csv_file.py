"""Small CSV files that users supply, whole in memory, with the number of every line."""

from __future__ import annotations

import csv
from pathlib import Path


def read_csv(path: Path, problems: list[str]) -> list[tuple[int, list[str]]] | None:
    """Rows that hold anything, each with its line number; ``None`` without the file or after adding a problem."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: expected UTF-8 text, found another byte at position {error.start}")
    except (csv.Error, OSError) as error:
        problems.append(f"{path.name}: not readable as CSV ({error})")
    return None
