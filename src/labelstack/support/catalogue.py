"""Things that params.yaml calls by name: our own, and those of installed packages under an entry-point group."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labelstack.support.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Catalogue:
    """Name → object, imported when it is asked for.

    Installed packages are looked through only for a name that is not our own, and where all names are listed.

    Parameters
    ----------
    group : str
        Entry-point group under which installed packages add names.
    own : mapping of str to str
        Name → ``module:object``.
    """

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self.group = group
        self.own = dict(own)

    def names(self) -> list[str]:
        """Our own names, then those of installed packages; raise ``UserError`` where two claim one name."""
        return [*self.own, *sorted(self._plug_ins())]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._plug_ins()

    def reference(self, name: str) -> str:
        """``module:object`` of a name; raise ``UserError`` with the names there are when it is unknown."""
        if name in self.own:
            return self.own[name]
        plug_ins = self._plug_ins()
        if name not in plug_ins:
            raise UserError(f"{name}: not in {self.group} (there are: {', '.join([*self.own, *sorted(plug_ins)])})")
        return plug_ins[name].value

    def load(self, name: str) -> Any:
        """The object; raise ``UserError`` when the name is unknown, or a package's entry cannot be imported."""
        module, _, attribute = self.reference(name).partition(":")
        if name in self.own:
            return getattr(importlib.import_module(module), attribute)
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # somebody else's module may fail in any way
            entry = self._plug_ins()[name]
            raise UserError(
                f"{self.group}: {_told(entry)} cannot be imported ({type(error).__name__}: {error})"
            ) from error

    def _plug_ins(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # not at every start

        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            if entry.name in self.own:
                raise UserError(f"{self.group}: {_told(entry)} takes a name of labelstack's own; it must have another")
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                raise UserError(f"{self.group}: {_told(other)} and {_told(entry)} have one name: uninstall one of them")
        return found


def _told(entry: EntryPoint) -> str:
    package = f" of the package {entry.dist.name}" if entry.dist is not None else ""
    return f"{entry.name} = {entry.value}{package}"
