"""Names that params.yaml may say and where each one's object lies: our own, and those of installed plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

from labelstack.support.errors import UserError


class Catalogue:
    """Objects by name, imported when one is asked for.

    Plug-ins are entry points of installed packages. They are looked for when a name is asked for that is not our own,
    or when all names are listed.

    Parameters
    ----------
    group : the entry points' group, such as ``labelstack.stackers``
    own : name → ``module:object``, or ``module`` where the module itself is the object
    """

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self.group, self.own = group, own

    def names(self) -> list[str]:
        """Our own names, then those of plug-ins in alphabetical order; raise ``UserError`` where two are the same."""
        return [*self.own, *self._plug_ins()]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._plug_ins()

    def load(self, name: str) -> Any:
        """The object of a name that is there; raise ``UserError`` when its plug-in cannot be imported."""
        if name not in self.own:
            entry = self._plug_ins()[name]
            try:
                return entry.load()
            except Exception as error:  # whatever the code of a stranger raises
                raise UserError(
                    f"{_told(entry, self.group)} cannot be imported ({type(error).__name__}: {error})"
                ) from error
        module, _, attribute = self.own[name].partition(":")
        found = import_module(module)
        return getattr(found, attribute) if attribute else found

    def reference(self, name: str) -> str:
        """Where the object of a name that is there lies: ``module:object``, or ``module``; nothing is imported."""
        return self.own[name] if name in self.own else self._plug_ins()[name].value

    def _plug_ins(self) -> dict[str, metadata.EntryPoint]:
        found: dict[str, metadata.EntryPoint] = {}
        for entry in sorted(metadata.entry_points(group=self.group), key=lambda entry: (entry.name, entry.value)):
            if entry.name in self.own:
                raise UserError(f"{_told(entry, self.group)} has a name of labelstack's own: it must take another")
            if entry.name in found:
                raise UserError(
                    f"{_told(entry, self.group)} has the name of {_told(found[entry.name], self.group)}: "
                    "uninstall one of the two"
                )
            found[entry.name] = entry
        return found


def _told(entry: metadata.EntryPoint, group: str) -> str:
    package = entry.dist.name if entry.dist else "an unknown package"
    return f"plug-in {entry.name} = {entry.value} ({group}, of {package})"
