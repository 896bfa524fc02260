"""dvc.yaml as DVC takes it apart with a params.yaml, interpolations filled in; DVC itself takes a second to import."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.yaml_file import read_yaml

PARAMS = "params.yaml"
_INTERPOLATION = re.compile(r"(?<!\\)\$\{(.*?)\}")  # as in dvc/parsing/interpolate.py
_OUTS = ("outs", "metrics", "plots")


@dataclass(frozen=True)
class KeyPlace:
    """A path that a stage reads or makes.

    Attributes
    ----------
    path : str
        Absolute and normalised.
    keys : tuple of str
        Keys of params.yaml that the path is made of.
    """

    path: str
    keys: tuple[str, ...]

    def overlaps(self, other: KeyPlace) -> bool:
        """Whether they are the same or one lies in the other."""
        one, two = self.path.rstrip("/") + "/", other.path.rstrip("/") + "/"
        return one.startswith(two) or two.startswith(one)


@dataclass
class Stage:
    """One stage with its interpolations filled in; what lacked a key is left out."""

    name: str
    deps: list[KeyPlace] = field(default_factory=list)
    outs: list[KeyPlace] = field(default_factory=list)


@dataclass
class Pipeline:
    """The stages of a dvc.yaml with one params.yaml.

    Attributes
    ----------
    stages : list of Stage
    missing : dict of str to list of str
        Keys that are not in params.yaml → names of stages (without what follows @) that DVC refuses to run for it.
    """

    stages: list[Stage] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)


def read_pipeline(file: str | Path, params: Mapping[str, Any]) -> Pipeline:
    """The pipeline of a dvc.yaml; raise ``UserError`` when it holds no stages."""
    content = read_yaml(file)
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise UserError(f"{file}: expected a mapping with the key stages")
    pipeline = Pipeline()
    values = dict(params)
    for given in content.get("vars") or []:
        values = _merged(given, values) if isinstance(given, dict) else values
    for name, body in content["stages"].items():
        if not isinstance(body, dict):
            raise UserError(f"{file}: stages.{name}: expected a mapping with the key cmd")
        for full_name, definition, local in _expanded(name, body, _Filler(values, name, pipeline.missing)):
            filler = _Filler(values | local, name, pipeline.missing)
            pipeline.stages.append(_stage(full_name, definition, filler, params))
    return pipeline


def _merged(given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``vars`` of a dvc.yaml with params.yaml put in, section by section: they stand in for what it lacks."""
    result = dict(given)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


class _Filler:
    """Fills interpolations in; notes keys that are not there."""

    def __init__(self, values: Mapping[str, Any], stage: str, missing: dict[str, list[str]]) -> None:
        self.values, self.stage, self.missing = values, stage, missing

    def need(self, key: str, values: Mapping[str, Any] | None = None) -> Any:
        """The value of a dotted key, else None, and the key is noted."""
        found: Any = self.values if values is None else values
        for part in key.replace("[", ".").replace("]", "").split("."):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                stages = self.missing.setdefault(key, [])
                stages += [self.stage] if self.stage not in stages else []
                return None
        return found

    def text(self, template: Any) -> tuple[str | None, tuple[str, ...]]:
        """The text, or None where a key is missing; and the keys of params.yaml in it."""
        keys = tuple(_INTERPOLATION.findall(str(template)))
        filled = {key: self.need(key) for key in keys}
        if any(key in self.missing for key in keys):
            return None, keys
        of_params = tuple(key for key in keys if key.partition(".")[0] not in ("item", "key"))
        return _INTERPOLATION.sub(lambda match: str(filled[match[1]]), str(template)), of_params

    def value(self, template: Any) -> Any:
        """A whole value where the template is nothing but one interpolation; lists and mappings item by item."""
        if isinstance(template, dict):
            return {key: self.value(each) for key, each in template.items()}
        if isinstance(template, list):
            return [self.value(each) for each in template]
        alone = _INTERPOLATION.fullmatch(template) if isinstance(template, str) else None
        return self.need(alone[1]) if alone else template


def _expanded(name: str, body: dict[str, Any], filler: _Filler) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each stage of a ``foreach`` or ``matrix``: its name, its definition, and what item and key stand for."""
    if "foreach" in body:
        items = filler.value(body["foreach"])
        pairs = list(items.items()) if isinstance(items, dict) else [(None, item) for item in items or []]
        for key, item in pairs:
            local = {"item": item} if key is None else {"item": item, "key": key}
            yield f"{name}@{item if key is None else key}", body.get("do") or {}, local
    elif "matrix" in body:
        axes = filler.value(body["matrix"])
        for chosen in itertools.product(*(axis or [] for axis in axes.values())):
            key = "-".join(map(str, chosen))
            rest = {k: v for k, v in body.items() if k != "matrix"}
            yield f"{name}@{key}", rest, {"item": dict(zip(axes, chosen, strict=True)), "key": key}
    else:
        yield name, body, {}


def _stage(name: str, definition: dict[str, Any], filler: _Filler, params: Mapping[str, Any]) -> Stage:
    stage = Stage(name)
    base = filler.text(definition.get("wdir") or ".")[0] or "."

    def place(template: Any) -> list[KeyPlace]:
        path, keys = filler.text(template)
        return [] if path is None else [KeyPlace(os.path.abspath(os.path.join(base, path)), keys)]

    for text in _texts({key: value for key, value in definition.items() if key != "params"}):
        filler.text(text)
    for entry in definition.get("params") or []:
        by_file = entry if isinstance(entry, dict) else {PARAMS: [entry]}
        for file, keys in by_file.items():
            of = filler.text(file)[0]
            if of is not None and os.path.normpath(of) != PARAMS:
                stage.deps += place(file)
                continue
            for key in keys or []:
                if (wanted := filler.text(key)[0]) is not None:
                    filler.need(wanted, params)
    for entry in definition.get("deps") or []:
        stage.deps += place(entry)
    for entry in itertools.chain.from_iterable(definition.get(kind) or [] for kind in _OUTS):
        for template in entry if isinstance(entry, dict) else [entry]:
            stage.outs += place(template)
    return stage


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


def conflicts(stages: list[Stage]) -> list[str]:
    """Sentences on paths of params.yaml for which DVC refuses the pipeline: circles, and outputs within outputs."""
    feeds: dict[str, set[str]] = {stage.name: set() for stage in stages}  # stage → those that read what it makes
    links = [
        (reader, dep, maker, out)
        for reader in stages
        for dep in reader.deps
        for maker in stages
        for out in maker.outs
        if dep.overlaps(out)
    ]
    for reader, _, maker, _ in links:
        feeds[maker.name].add(reader.name)
    after = {stage.name: _reached(stage.name, feeds) for stage in stages}
    found: dict[tuple[KeyPlace, str], list[KeyPlace]] = {}
    for reader, dep, maker, out in links:
        if maker.name in after[reader.name] and dep.keys:
            found.setdefault((dep, "which a later stage makes"), []).append(out)
        elif maker.name in after[reader.name]:
            found.setdefault((out, "which an earlier stage reads"), []).append(dep)
    outs = [(stage, out) for stage in stages for out in stage.outs]
    for (_, mine), (_, other) in itertools.permutations(outs, 2):
        if mine.keys and mine.overlaps(other):
            found.setdefault((mine, "which is another stage's output"), []).append(other)
    return [_sentence(mine, why, others) for (mine, why), others in found.items() if mine.keys]


def _reached(start: str, feeds: Mapping[str, set[str]]) -> set[str]:
    """All stages after one, and itself where there is a circle; a stage is after itself for its own outputs too."""
    reached, waiting = {start}, [start]
    while waiting:
        new = feeds[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def _sentence(mine: KeyPlace, why: str, others: list[KeyPlace]) -> str:
    names = sorted({os.path.relpath(other.path) for other in others})
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return (
        f"{' and '.join(mine.keys)}: {os.path.relpath(mine.path)} is, holds or lies in {names[0]}{more}, {why}, "
        "and DVC refuses that: name a place of its own"
    )
