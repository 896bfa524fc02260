"""Folders that were sealed: taken up as they were, and not otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labelstack.support.sealed import SEAL, is_sealed, seal


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.npz").write_bytes(b"abc")
    (tmp_path / "inside/b.json").write_bytes(b"{}")
    seal(tmp_path, "key")
    return tmp_path


def test_an_untouched_folder_is_sealed_with_its_key_alone(folder: Path) -> None:
    assert is_sealed(folder, "key")
    assert not is_sealed(folder, "other")
    assert not is_sealed(folder)
    assert not is_sealed(folder / "inside", "key")
    assert not is_sealed(folder / "nowhere", "key")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip(folder / "a.npz"),
        lambda folder: flip(folder / "inside/b.json"),
        lambda folder: (folder / "a.npz").unlink(),
        lambda folder: (folder / "more").write_text(""),
        lambda folder: flip(folder / SEAL),
        lambda folder: (folder / SEAL).write_text("[" * 100_000),
        lambda folder: (folder / SEAL).write_text('{"key": "key"}'),
        lambda folder: (folder / SEAL).unlink(),
    ],
)
def test_anything_else_is_not(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert not is_sealed(folder, "key")
