"""Names of our own and of installed packages: found late, imported when asked for, never confused."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelstack.support.catalogue import Catalogue
from labelstack.support.errors import UserError

GROUP = "labelstack.tests"
CATALOGUE = Catalogue(GROUP, {"ours": "json:dumps"})


def installed(folder: Path, package: str, entries: dict[str, str], group: str = GROUP, module: str = "") -> None:
    """What pip leaves of a package: its metadata and, perhaps, a module of the same name."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    if module:
        (folder / f"{package}.py").write_text(module)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_name_of_an_installed_package_is_as_good_as_ours(site: Path) -> None:
    assert "theirs" not in CATALOGUE
    installed(site, "plug_in_a", {"theirs": "plug_in_a:THING"}, module="THING = 3\n")
    assert CATALOGUE.names() == ["ours", "theirs"]
    assert "theirs" in CATALOGUE
    assert CATALOGUE.load("theirs") == 3
    assert (CATALOGUE.reference("ours"), CATALOGUE.reference("theirs")) == ("json:dumps", "plug_in_a:THING")
    assert CATALOGUE.load("ours")([1]) == "[1]"


@pytest.mark.parametrize(
    ("module", "value", "why"),
    [
        ("", "plug_in_c:THING", "ModuleNotFoundError"),
        ("THING = 1 / 0\n", "plug_in_c:THING", "ZeroDivisionError"),
        ("OTHER = 1\n", "plug_in_c:THING", "AttributeError"),
    ],
)
def test_what_cannot_be_imported_is_told_with_its_package(site: Path, module: str, value: str, why: str) -> None:
    installed(site, "plug_in_c", {"theirs": value}, module=module)
    with pytest.raises(
        UserError, match=rf"theirs = {value} \(labelstack.tests, of plug_in_c\) cannot be imported \({why}"
    ):
        CATALOGUE.load("theirs")


def test_our_own_names_cannot_be_taken(site: Path) -> None:
    installed(site, "plug_in_d", {"ours": "plug_in_d:THING", "theirs": "plug_in_d:THING"})
    for use in (CATALOGUE.names, lambda: CATALOGUE.load("theirs"), lambda: "neither" in CATALOGUE):
        with pytest.raises(
            UserError, match=r"ours = plug_in_d:THING \(labelstack.tests, of plug_in_d\) has a name of labelstack's own"
        ):
            use()
    assert CATALOGUE.load("ours")([1]) == "[1]"  # nothing is looked through for our own


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    installed(site, "plug_in_e", {"theirs": "plug_in_e:A"})
    installed(site, "plug_in_f", {"theirs": "plug_in_f:B"})
    with pytest.raises(UserError, match=r"of plug_in_f\) has the name of plug-in theirs .*: uninstall one of the two"):
        CATALOGUE.names()
