"""What is wrong with params.yaml, in sentences: the key, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Collection, Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from labelstack.params.blend import BLEND
from labelstack.params.stackers import StackerSection
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


def name_problems(models: Iterable[str], stackers: Iterable[str], members: Iterable[str]) -> list[str]:
    """Names that are ill-formed, stand twice, or are blended and not there."""
    models, stackers = list(models), list(stackers)
    problems = [
        f"{dotted((section, name))}: a name is lower-case letters, digits and _ and starts with a letter"
        for section, names in (("models", models), ("stackers", stackers))
        for name in names
        if not _NAME.fullmatch(name)
    ]
    if BLEND in {*models, *stackers}:
        problems.append("blend is what the ensemble itself is called in tables and files: rename the model or stacker")
    both = sorted(set(models) & set(stackers))
    if both:
        problems.append(f"the name(s) {', '.join(both)} stand under models and under stackers: rename one")
    known = [*stackers, *models]
    return problems + [
        f"blend.members: {unknown(member, known, 'member')}" for member in members if member not in known
    ]


def raw_name_problems(content: dict[Any, Any]) -> list[str]:
    """The same of unchecked content, as far as it has sections with names."""
    models, stackers, blend = content.get("models"), content.get("stackers"), content.get("blend")
    if not isinstance(models, dict) or not isinstance(stackers, dict):
        return []
    members = blend.get("members") if isinstance(blend, dict) else None
    return name_problems(_texts(models), _texts(stackers), _texts(members if isinstance(members, list) else []))


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def explain(error: ValidationError, root: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """Pydantic's findings as sentences: key, what is wrong, nearest valid name for an unknown key.

    Parameters
    ----------
    root : the model of the whole file, whose sections are looked through for names that may be meant; or the section of
        the stacker that ``prefix`` leads to
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
            else:  # those of stackers name their whole place themselves
                problems += [
                    f"{key}: {line}" if key not in {"", "stackers"} else line for line in str(cause).split("\n")
                ]
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
    section, parts = root, iter(where[2:] if issubclass(root, StackerSection) else where)
    for part in parts:
        kind: Any = section.model_fields[part].annotation
        if get_origin(kind) is dict:  # of sections by their names
            next(parts, None)
        section = next(t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, BaseModel))
    return list(section.model_fields)
