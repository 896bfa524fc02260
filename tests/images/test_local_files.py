"""The digest of local files: of what URLs name, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labelstack.images.fetching.local_files import local_digest
from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.status import RefusedError
from labelstack.params.images import ImagesSection

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


def test_folders_that_were_resolved_before_lead_to_the_same_files(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    (root / "in").mkdir(parents=True)
    other.mkdir()
    for file in (root / "in/a.png", root / "b.png", other / "c.png"):
        file.touch()
    (root / "in/link.png").symlink_to(root / "b.png")
    (root / "in/out.png").symlink_to(other / "c.png")
    (root / "in/loop.png").symlink_to("loop.png")
    (root / "away").symlink_to(other)
    (root / "back").symlink_to(root / "in")
    names = [
        "in/a.png", "in/link.png", "in/out.png", "in/loop.png", "in/gone.png", "away/c.png", "back/a.png", "in", "in/",
        "in/.", "in/..", "in/../../other/c.png", "../other/c.png", "", ".", "/etc/passwd", "%00", "in/%00",
        "in/" + "x" * 300, "in//a.png", "back/../b.png", "in/a.png/more", "in/%ff.png",
    ]  # fmt: skip
    policy, parents = Policy(ImagesSection(allow_schemes=["file"]), root), dict[str, str]()

    def found(url: str, *known: dict[str, str]) -> Path | str | None:
        try:
            return policy.local_path(url, *known)
        except RefusedError:
            return "refused"

    alone = {name: found(f"file:{name}") for name in names}
    for _ in range(2):
        assert {name: found(f"file:{name}", parents) for name in names} == alone
    assert alone["in/out.png"] is alone["away/c.png"] is None
    assert alone["%00"] == "refused"
    assert parents[str(root / "away")] == str(other)
