"""Secrets to plant, and the search for them in everything that commands leave behind."""

from __future__ import annotations

import base64
import io
import secrets
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet as pq

USER = "person"


@dataclass
class Planted:
    """Secrets by name; each is searched for as it stands and as HTTP's basic authentication would carry it."""

    values: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.values.setdefault(name, f"S{len(self.values):02d}{secrets.token_hex(12)}")

    def found_in(self, content: bytes) -> set[str]:
        """Names of the secrets in some bytes."""
        return {name for name, value in self.values.items() if any(form in content for form in _forms(value))}


def _forms(value: str) -> list[bytes]:
    return [value.encode(), base64.b64encode(f"{USER}:{value}".encode()).rstrip(b"=")]


def readable(content: bytes) -> Iterator[bytes]:
    """The bytes, and what lies in them compressed: archives (.keras, .npz) and parquet tables."""
    yield content
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        plain = [name for name in table.column_names if name not in ("bytes", "crop")]
        yield str(table.select(plain).to_pylist()).encode()
        yield str(table.schema.metadata).encode()
    if content[:15] == b"SQLite format 3":
        connection = sqlite3.connect(":memory:")
        connection.deserialize(content)
        yield "\n".join(connection.iterdump()).encode()
        connection.close()


def leaks(planted: Planted, outputs: Iterable[tuple[str, bytes]], allowed: dict[str, tuple[str, ...]]) -> list[str]:
    """Where which secret was found, apart from the places where it was planted."""
    found = []
    for where, content in outputs:
        names = set().union(*(planted.found_in(part) for part in readable(content)))
        found += [f"{n} in {where}" for n in names if not any(fnmatch(where, place) for place in allowed.get(n, ()))]
    return sorted(found)


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder but git's own."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and ".git" not in file.relative_to(folder).parts:
            yield file.relative_to(folder).as_posix(), file.read_bytes()


def git_objects(root: Path) -> bytes:
    """Every object of a repository, reachable or not."""
    return subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=root, check=True, capture_output=True
    ).stdout
