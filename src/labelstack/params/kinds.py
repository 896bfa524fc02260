"""Sections by name whose ``kind`` says which class each is: `stackers` and `second_round`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from labelstack.params.messages import dotted, explain, one_of
from labelstack.params.section import KindSection
from labelstack.support.catalogue import Catalogue
from labelstack.support.errors import UserError

S = TypeVar("S", bound=KindSection)


def parsed_by_kind(value: Any, section: str, noun: str, kinds: Catalogue, class_of: Callable[[str], type[S]]) -> Any:
    """The sections of a mapping, each of the class of its kind; anything but a mapping as it is.

    Parameters
    ----------
    section : the key of params.yaml that they stand under
    noun : what a kind is called in messages
    class_of : kind → class

    Raises
    ------
    ValueError
        With what is wrong in all of them, a line each that begins with the whole place.
    """
    if not isinstance(value, dict):
        return value
    problems, parsed = [], {}
    for name, content in value.items():
        if isinstance(content, KindSection):
            parsed[name] = content
            continue
        place = (section, str(name))
        if not isinstance(content, dict) or "kind" not in content:
            problems.append(f"{dotted(place)}: must be a section with the key kind ({', '.join(kinds.names())})")
            continue
        try:
            of_kind = class_of(one_of(str(content["kind"]), kinds, noun))
        except ValueError as error:
            problems.append(f"{dotted(place)}.kind: {error}")
            continue
        try:
            parsed[name] = of_kind.model_validate(content)
        except ValidationError as error:
            problems += explain(error, of_kind, place)
    if problems:
        raise ValueError("\n".join(problems))
    return parsed


def class_of_kind(kinds: Catalogue, kind: str, base: type[S], work: str) -> type[S]:
    """The section class of a kind that is there; raise ``UserError`` when a plug-in's entry point names something else.

    ``work`` is the class variable that names ``module:class`` of what does the work.
    """
    found: Any = kinds.load(kind)
    if kind not in kinds.own and not _is_of(found, kind, base, work):
        raise UserError(
            f"plug-in {kind} = {kinds.reference(kind)} ({kinds.group}): expected a {base.__name__} of "
            f"{base.__module__} with this kind as its default and the {work}'s module:class, found {found!r}"
        )
    section: type[S] = found
    return section


def _is_of(found: Any, kind: str, base: type, work: str) -> bool:
    is_section = isinstance(found, type) and issubclass(found, base)
    return is_section and found.model_fields["kind"].default == kind and isinstance(getattr(found, work, 0), str)
