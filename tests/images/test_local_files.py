"""The digest of local files: of what URLs name, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labelstack.images.fetching.local_files import local_digest

URLS = [["file:a.png"], ["https://example.org/b.png"], ["https://example.org/c.png", "FILE:sub/c.png"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/c.png", "other.png"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_without_local_files_there_is_no_digest(root: Path) -> None:
    assert local_digest([["https://example.org/b.png"], []], root) is None


@pytest.mark.parametrize("name", ["a.png", "sub/c.png"])
def test_a_byte_of_a_named_file_changes_it_and_its_absence_too(root: Path, name: str) -> None:
    seen = [local_digest(URLS, root)]
    (root / name).write_bytes(b"changed")
    seen.append(local_digest(URLS, root))
    (root / name).unlink()
    seen.append(local_digest(URLS, root))
    (root / name).mkdir()
    assert local_digest(URLS, root) == seen[-1]  # a folder is no file
    assert len(set(seen)) == 3


def test_other_files_and_times_do_not_change_it(root: Path) -> None:
    before = local_digest(URLS, root)
    (root / "other.png").write_bytes(b"changed")
    os.utime(root / "a.png", (1, 1))
    assert local_digest(URLS, root) == before


def test_the_order_of_images_counts(root: Path) -> None:
    assert local_digest(URLS, root) != local_digest(URLS[::-1], root)


@pytest.mark.parametrize(
    "url", ["file:../secret", "file:///etc/hostname", "file:link", "file:" + "x" * 5000, "file:%00"]
)
def test_what_lies_outside_counts_as_absent(root: Path, url: str) -> None:
    (root.parent / "secret").write_bytes(b"one")
    (root / "link").symlink_to(root.parent / "secret")
    before = local_digest([[url]], root)
    (root.parent / "secret").write_bytes(b"two")
    assert local_digest([[url]], root) == before
