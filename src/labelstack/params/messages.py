"""What is wrong with params.yaml, in sentences: the key, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
import itertools
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from labelstack.params.blend import BLEND
from labelstack.params.section import KindSection
from labelstack.support.catalogue import Catalogue

_EXPLAINED = 200  # each takes a search for the nearest name, and no one reads more
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100
_TYPES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class SectionProblems(ValueError):
    """What is wrong in a section whose keys depend on its kind: lines, each beginning with the key in the section."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def unknown(value: str, known: Any, noun: str) -> str:
    """Say that a name is unknown, which one may be meant, and which there are."""
    near = difflib.get_close_matches(value, list(known), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {noun} {value!r}{hint} (known: {', '.join(known)})"


def one_of(value: str, known: Collection[str] | Catalogue, noun: str) -> str:
    """The name itself; raise ``ValueError`` when it is unknown."""
    if value not in known:
        raise ValueError(unknown(value, known.names() if isinstance(known, Catalogue) else known, noun))
    return value


def name_problems(
    models: Iterable[str], second: Mapping[str, Iterable[str]], stackers: Iterable[str], members: Iterable[str]
) -> list[str]:
    """Names that are ill-formed, stand twice, or are named and not there.

    Parameters
    ----------
    second : second-round models, and the base models that each is after
    members : of the blend
    """
    models, stackers = list(models), list(stackers)
    sections = {"models": models, "second_round": list(second), "stackers": stackers}
    problems = [
        f"{dotted((section, name))}: {fault}"
        for section, names in sections.items()
        for name in names
        if (fault := name_fault(name))
    ]
    if BLEND in {*models, *second, *stackers}:
        problems.append("blend is what the ensemble itself is called in tables and files: rename the model or stacker")
    for one, other in itertools.combinations(sections, 2):
        if both := sorted(set(sections[one]) & set(sections[other])):
            problems.append(f"the name(s) {', '.join(both)} stand under {one} and under {other}: rename one")
    problems += [
        f"{dotted(('second_round', name, 'after'))}: {_no_base_model(first, models, sections)}"
        for name, after in second.items()
        for first in after
        if first not in models
    ]
    known = [*stackers, *models, *second]
    return problems + [
        f"blend.members: {unknown(member, known, 'member')}" for member in members if member not in known
    ]


def name_fault(name: str) -> str | None:
    """What is wrong with a name that becomes part of paths; None: nothing."""
    return None if _NAME.fullmatch(name) else "a name is lower-case letters, digits and _ and starts with a letter"


def _no_base_model(name: str, models: list[str], sections: Mapping[str, list[str]]) -> str:
    """Say of a name in ``after`` that it is no base model, and what it is where it is something else."""
    kinds = {"second_round": "a second-round model", "stackers": "a stacker"}
    for section, kind in kinds.items():
        if name in sections[section]:
            return f"must name base models ({', '.join(models)}), and {name} is {kind}"
    if name == BLEND:
        return f"must name base models ({', '.join(models)}), and {name} is the ensemble itself"
    return unknown(name, models, "base model")


def raw_name_problems(content: dict[Any, Any]) -> list[str]:
    """The same of unchecked content, as far as it has sections with names."""
    models, stackers, blend = content.get("models"), content.get("stackers"), content.get("blend")
    if not isinstance(models, dict) or not isinstance(stackers, dict):
        return []
    second = content.get("second_round")
    after = {
        name: _texts(section["after"] if isinstance(section, dict) and isinstance(section.get("after"), list) else [])
        for name, section in (second.items() if isinstance(second, dict) else [])
        if isinstance(name, str)
    }
    members = blend.get("members") if isinstance(blend, dict) else None
    return name_problems(_texts(models), after, _texts(stackers), _texts(members if isinstance(members, list) else []))


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def explain(error: ValidationError, root: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """Pydantic's findings as sentences: key, what is wrong, nearest valid name for an unknown key.

    Parameters
    ----------
    root : the model of the whole file, whose sections are looked through for names that may be meant; or the section
        with a kind that ``prefix`` leads to
    prefix : where in the file the findings' places start
    """
    problems: list[str] = []
    errors = error.errors()
    for item in errors[:_EXPLAINED]:
        where = (*prefix, *(str(part) for part in item["loc"]))
        key = dotted(where)
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where[-1], _siblings(root, where[:-1]), n=1, cutoff=0.5)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f" (known here: {', '.join(_siblings(root, where[:-1]))})"
            )
            problems.append(f"{key}: unknown key{hint}")
        elif item["type"] == "missing":
            problems.append(f"{key}: is missing and has no default")
        elif item["type"] == "value_error":
            cause = item["ctx"]["error"]
            if isinstance(cause, ValidationError):
                problems += explain(cause, root, where)
            elif isinstance(cause, SectionProblems):
                problems += [f"{key}.{line}" for line in cause.lines]
            else:  # those of sections with a kind name their whole place themselves
                lines = str(cause).split("\n")
                problems += lines if key in {"", "stackers", "second_round"} else [f"{key}: {line}" for line in lines]
        elif where[0] == "models" and where[2:3] == ("options",) and len(where) > 4:  # once, not for every type tried
            line = f"{dotted(where[:4])}: must be a number, a text, true, false or a list of whole numbers"
            problems += [line] if line not in problems else []
        else:
            wanted = _TYPES.get(item["type"]) or item["msg"][0].lower() + item["msg"][1:]
            problems.append(f"{key}: {wanted}, not {_shown(item['input'])}")
    if len(errors) > _EXPLAINED:
        problems.append(f"… and {len(errors) - _EXPLAINED:,} more")
    return problems


def dotted(parts: Iterable[str]) -> str:
    """The key of a place; a part with a line end or the like in quotes."""
    return ".".join(part if part.isprintable() else repr(part) for part in parts)


def _shown(value: Any) -> str:
    """A value as YAML has it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return _SHORT.repr(value)


def _siblings(root: type[BaseModel], where: tuple[str, ...]) -> list[str]:
    """Valid keys of the section at a dotted place below ``root``."""
    section, parts = root, iter(where[2:] if issubclass(root, KindSection) else where)
    for part in parts:
        kind: Any = section.model_fields[part].annotation
        if get_origin(kind) in (dict, tuple):  # of sections by their names or places
            next(parts, None)
        section = next(t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, BaseModel))
    return list(section.model_fields)
