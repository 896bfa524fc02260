"""URIs of sqlite files, whatever the names of their folders hold, and whether such a file can be used."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from labelstack.support.errors import UserError


def is_sqlite(uri: str) -> bool:
    """Whether a URI is one of sqlite, with or without the driver's name."""
    return uri.lower().startswith(("sqlite:", "sqlite+"))


def file_of(uri: str, root: Path) -> Path:
    """The absolute path of a sqlite URI's file, read as SQLAlchemy reads it: escapes are resolved, a query is none."""
    return (root.resolve() / unquote(uri.partition(":///")[2].partition("?")[0])).resolve()


def uri_of(file: Path, like: str = "") -> str:
    """The URI of a file, with the query of the URI ``like``.

    MLflow makes the folder that the text after ``sqlite:///`` names, without resolving escapes in it. Where there must
    be some, the driver is named too: MLflow makes no folder then, and SQLAlchemy opens the same file.
    """
    plain = str(file)
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    return f"{'sqlite' if quoted == plain else 'sqlite+pysqlite'}:///{quoted}{''.join(like.partition('?')[1:])}"


def holds_something(file: Path) -> bool:
    """Whether there is a store: MLflow's tables take their time, and a file may be made before them."""
    return file.is_file() and file.stat().st_size > 0


def check(file: Path) -> None:
    """Make the folder, and refuse a file that is no sqlite database at once: MLflow would retry for minutes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as handle:
            handle.seek(0)
            start = handle.read(16)
    except OSError as error:
        raise UserError(f"{file}: the MLflow database can't be written ({error.strerror})") from None
    if start not in (b"", b"SQLite format 3\x00"):
        raise UserError(f"{file}: not a sqlite database; move it away or change tracking.uri")
