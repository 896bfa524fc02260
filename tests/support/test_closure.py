from __future__ import annotations

import re
from pathlib import Path

import pytest

from labelstack.support.closure import Sources, beneath, installed, sources
from labelstack.support.errors import UserError

LATE = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from box.stall.big import x

__all__ = ["x"]
_FILES = {"x": "big"}


def __getattr__(name):
    from importlib import import_module

    return getattr(import_module(f"box.stall.{_FILES[name]}"), name)
"""
FILES = {
    "__init__.py": '__version__ = "1"\n',
    "main.py": "from box.room import tool\nfrom box import late\n\ndef work():\n    from box.room.deep import thing\n",
    "late.py": "import box.starter\n",
    "starter.py": 'COMMAND = "import sys; from box.started import main"\n',
    "started.py": "X = 1\n",
    "typed.py": "X = 1\n",
    "told.py": "X = 1\n",
    "room/__init__.py": "from box.room.own import y\n\ny += 1\n",
    "shop/__init__.py": '"""Doc."""\n\nfrom box.shop.big import x\n\n__all__ = ["x"]\n',
    "shop/big.py": "x = 1\n",
    "stall/__init__.py": LATE,
    "stall/big.py": "x = 1\n",
    "stall/small.py": "X = 1\n",
    "shop/small.py": "X = 1\n",
    "room/own.py": "y = 1\n",
    "room/tool.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import box.typed\n",
    "room/deep.py": "thing = 1\n",
    "room/unused.py": "thing = 1\n",
}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("labelstack.support.closure._NAMED", re.compile(r"\bbox(?:\.[A-Za-z_]\w*)+"))
    for name, text in FILES.items():
        file = tmp_path / "box" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "box"


def test_a_closure_follows_imports_wherever_they_stand_and_texts_that_start_processes(box: Path) -> None:
    found = Sources(box).closure(["box.main"])
    rooms = ["box.room", "box.room.deep", "box.room.own", "box.room.tool"]
    assert found == ["box.late", "box.main", *rooms, "box.started", "box.starter"]


@pytest.mark.parametrize("shop", ["shop", "stall"])
def test_a_folder_that_hands_out_names_counts_for_who_asks_it_and_not_for_its_files(box: Path, shop: str) -> None:
    assert Sources(box).closure([f"box.{shop}.small"]) == [f"box.{shop}.small"]
    (box / "main.py").write_text(f"from box.{shop} import x\n")
    assert Sources(box).closure(["box.main"]) == ["box.main", f"box.{shop}", f"box.{shop}.big"]


def test_a_digest_of_bytes_is_of_every_byte_and_of_every_name(box: Path) -> None:
    digests = {Sources(box).bytes_digest}
    (box / "late.py").write_text("import box.starter  # a word\n")
    digests.add(Sources(box).bytes_digest)
    (box / "late.py").rename(box / "later.py")
    digests.add(Sources(box).bytes_digest)
    assert len(digests) == 3


def test_what_is_apart_is_neither_counted_nor_followed_unless_it_is_a_root(box: Path) -> None:
    assert Sources(box).closure(["box.main"], ["box.late", "box.room"]) == ["box.main"]
    assert "box.starter" in Sources(box).closure(["box.main", "box.late"], ["box.late"])
    with pytest.raises(ValueError, match=r"box\.nowhere"):
        Sources(box).closure(["box.nowhere"])


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("thing = 1\n", "thing = 1  # the thing\n\n", True),
        ("def f():\n    return 1\n", 'def f():\n    """One."""\n    return 1\n', True),
        ('def f():\n    """One."""\n    return 1\n', 'def f():\n    """Two."""\n    return (1)\n', True),
        ("thing = 1\n", "thing = 2\n", False),
        ("thing = 1\n", "thing = 1\nother = 1\n", False),
        ('thing = "a"\n', 'thing = "b"\n', False),
    ],
)
def test_a_digest_is_of_what_code_does(box: Path, before: str, after: str, same: bool) -> None:
    digests = []
    for text in (before, after):
        (box / "room/deep.py").write_text(text)
        source = Sources(box)
        digests.append(source.digest(source.closure(["box.main"])))
    assert (digests[0] == digests[1]) is same


def test_a_digest_knows_which_module_says_what(box: Path) -> None:
    (box / "room/deep.py").write_text("a = 1\n")
    (box / "room/own.py").write_text("b = 1\n")
    one = Sources(box).digest(["box.room.deep", "box.room.own"])
    (box / "room/deep.py").write_text("b = 1\n")
    (box / "room/own.py").write_text("a = 1\n")
    assert Sources(box).digest(["box.room.deep", "box.room.own"]) != one


def test_a_whole_digest_is_of_what_all_code_does_and_of_every_other_file(box: Path) -> None:
    (box / "room/__pycache__").mkdir()
    digests = []
    for name, text, same in (
        ("late.py", FILES["late.py"], True),
        ("late.py", "import box.starter  # a word\n", True),
        ("room/__pycache__/own.cpython-311.pyc", "made by Python", True),
        ("room/table.json", "[1]", False),
        ("room/table.json", "[2]", False),
        ("room/unused.py", "thing = 2\n", False),
    ):
        (box / name).write_text(text)
        digests.append(Sources(box).whole_digest)
        assert len(digests) == 1 or (digests[-1] == digests[-2]) is same, name


def test_sources_of_what_is_installed_are_found_without_an_import(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(box.parent)
    (box.parent / "lonely.py").write_text("from box.room import tool\n\nraise SystemExit\n")
    (box.parent / "split/inner").mkdir(parents=True)
    (box.parent / "split/inner/one.py").write_text("raise SystemExit\n")
    (alone,), (package,), (namespace,) = installed("lonely"), installed("box"), installed("split")
    assert list(alone.modules) == ["lonely"]
    assert alone.named_of(package) == {"box.room.tool"}
    assert package.modules == Sources(box).modules
    assert list(namespace.modules) == ["split.inner.one"]
    for name in ("nowhere_at_all", "sys"):
        with pytest.raises(UserError, match=f"{name}: no package of this name is installed as files"):
            installed(name)


def test_names_beneath_others() -> None:
    assert beneath("a.b.c", {"a.b"})
    assert beneath("a.b", {"a.b"})
    assert not beneath("a.bc", {"a.b"})


def test_no_import_here_is_relative() -> None:
    for file in sources().modules.values():
        assert not re.search(r"^\s*from \.", file.read_text(), re.M), file
