"""Paths that block, paths that lead out, and what is said of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from images.server import jpeg
from labelstack.ensemble import regular_file
from labelstack.ensemble.image_sources import ImageSources, read_local
from labelstack.ensemble.regular_file import opened_folders, read_regular
from labelstack.support.errors import UserError

IMAGE = jpeg(5)


def in_time(work: Callable[[], object]) -> object:
    """The result of work that must not block."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(10)
    assert found, "it blocks"
    return found[0]


@pytest.fixture
def special(tmp_path: Path) -> list[Path]:
    """Paths that are no regular files, or look as if they were."""
    os.mkfifo(tmp_path / "pipe.jpg")
    bound = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's path is short
    bound.bind("socket.jpg")
    os.chdir(here)
    bound.close()
    (tmp_path / "empty.jpg").touch()
    for name, target in (("kmsg", "/proc/kmsg"), ("zero", "/dev/zero"), ("loop", "loop.jpg"), ("to_pipe", "pipe.jpg")):
        (tmp_path / f"{name}.jpg").symlink_to(target)
    own = [tmp_path / f"{name}.jpg" for name in ("pipe", "socket", "empty", "kmsg", "zero", "loop", "to_pipe")]
    kernels = ["/proc/kmsg", "/proc/self/environ", "/proc/self/cmdline", "/dev/zero", "/dev/tty", "/dev/random"]
    kernels += ["/sys/kernel/uevent_seqnum", "/proc/self/root/proc/kmsg", "/dev/fd/0"]
    return [*own, *map(Path, kernels), tmp_path, tmp_path / "absent.jpg", Path("nul\0byte.jpg"), Path("-x" * 2000)]


def test_nothing_special_is_opened_and_nothing_blocks(special: list[Path]) -> None:
    for path in special:
        assert in_time(lambda path=path: read_regular(path, 100)) is None, path  # type: ignore[misc]


def test_files_are_read_through_links_and_no_further_than_asked(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("a.jpg", "link.jpg", "folder/link.jpg", "folder/../" + tmp_path.name + "/a.jpg"):
        assert read_regular(tmp_path / name, 10**6) == IMAGE
    assert read_regular(str(tmp_path / "a.jpg"), 7) == IMAGE[:7]


def test_where_no_file_system_of_the_kernel_is_mounted_all_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/a.jpg").write_bytes(IMAGE)
    monkeypatch.setattr(regular_file, "_KERNELS", (tmp_path / "sys", *regular_file._KERNELS[1:]))
    assert read_regular(tmp_path / "a.jpg", 10**6) == IMAGE
    assert read_regular(tmp_path / "sys/a.jpg", 10**6) is None


def test_a_file_that_is_swapped_while_it_is_opened_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    (tmp_path / "secret").write_text("secret")
    real = os.open

    def swapped(path: str | Path, flags: int) -> int:
        os.replace(tmp_path / "secret", tmp_path / "a.jpg")
        return real(path, flags)

    monkeypatch.setattr(os, "open", swapped)
    assert read_regular(tmp_path / "a.jpg", 100) is None


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Sources of a served ensemble with one folder open, and files inside and outside."""
    (tmp_path / "open/inner").mkdir(parents=True)
    (tmp_path / "open-not").mkdir()
    inside, outside = tmp_path / "open/inner/a.jpg", tmp_path / "open-not/b.jpg"
    for file in (inside, outside):
        file.write_bytes(IMAGE)
    (tmp_path / "open/out.jpg").symlink_to(outside)
    (tmp_path / "open/in.jpg").symlink_to(inside)
    monkeypatch.setenv("LABELSTACK_ALLOW_PATHS", f"{tmp_path / 'open'}{os.pathsep}")
    return SimpleNamespace(sources=ImageSources.from_settings({}, served=True), root=tmp_path)


def size(data: bytes) -> int:
    """The bytes of the one image there is; some paths (/dev/tty) are base64 of something too."""
    if data != IMAGE:
        raise ValueError("not an image")
    return len(data)


def error(sources: ImageSources, image: object, work: Callable[[bytes], object] = size) -> str:
    (future,) = sources.each([image], work)
    with pytest.raises(UserError) as caught:
        future.result(10)
    return str(caught.value)


def test_only_what_lies_below_an_open_folder_is_read(opened: SimpleNamespace, special: list[Path]) -> None:
    for name in ("open/inner/a.jpg", "open/in.jpg", "open/../open/in.jpg"):
        (future,) = opened.sources.each([str(opened.root / name)], size)
        assert future.result(10) == len(IMAGE)
    names = ["open-not/b.jpg", "open/out.jpg", "open/../open-not/b.jpg", "open-not/absent.jpg", "open/absent.jpg"]
    for path in [*(opened.root / name for name in names), *special]:
        assert error(opened.sources, str(path)).endswith(
            ": neither an image file in a folder that is open to requests nor base64 of one"
        )


def test_errors_do_not_tell_absent_from_forbidden(opened: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str) -> str:
        """What is said after the path, which is shortened where it is long."""
        shown, _, words = error(opened.sources, str(opened.root / name)).partition(": ")
        assert str(opened.root / name).startswith(shown.removesuffix("…").strip("'"))
        return words

    assert said("open-not/b.jpg") == said("open-not/c.jpg") == said("open/c.jpg") == said("open/out.jpg")
    real = os.open

    def denied(path: object, *more: object) -> int:
        if "a.jpg" in str(path):
            raise PermissionError
        return real(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", denied)
    assert said("open/inner/a.jpg") == said("open/c.jpg")


def test_a_name_that_is_base64_too_tells_nothing(opened: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(opened.root)
    (opened.root / "open" / "abcd").write_bytes(b"no image")
    (opened.root / "abcd").write_bytes(b"no image")

    def work(_: bytes) -> None:
        raise ValueError

    assert error(opened.sources, "open/abcd", work) == "open/abcd: not an image that can be read"
    assert error(opened.sources, "abcd", work) == error(opened.sources, "abce", work).replace("abce", "abcd")


def test_a_served_ensemble_reads_no_paths_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    for said in (None, "", "0", "no"):
        if said is None:
            monkeypatch.delenv("LABELSTACK_ALLOW_PATHS", raising=False)
        else:
            monkeypatch.setenv("LABELSTACK_ALLOW_PATHS", said)
        served = ImageSources.from_settings({}, served=True)
        assert served.folders == []
        for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", "/proc/kmsg"):
            assert error(served, str(path)).endswith("no base64 of an image; paths are not read here")
    monkeypatch.delenv("LABELSTACK_ALLOW_PATHS")
    assert ImageSources.from_settings({}).folders is None
    assert read_local(str(tmp_path / "a.jpg")) == IMAGE


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LABELSTACK_ALLOW_PATHS: no such folder: .*gone"):
        opened_folders(f"{tmp_path}{os.pathsep}{tmp_path / 'gone'}")
    assert opened_folders(f"{tmp_path}{os.pathsep}{tmp_path}") == [tmp_path.resolve()] * 2
    assert opened_folders("  ") is None


def test_no_work_is_begun_when_the_time_is_over() -> None:
    begun = []
    (late, soon) = (ImageSources().each([IMAGE], begun.append, deadline)[0] for deadline in (0.0, None))
    with pytest.raises(UserError, match="no time was left"):
        late.result(10)
    soon.result(10)
    assert begun == [IMAGE]
