"""A blend as a YAML file in the form in which artyompal published that of iMet 2019, written and read.

A list, an item for each member: ``predicts``, the files of its out-of-fold predictions, one for each fold, and
``weight``. Weights need not sum to 1. Published files are called
``level1_train_<version>_f<fold>_e<epoch>_<score>.npy``, and the member is called as the version, as far as a name may
be: in lower case, ``_`` for other signs, and ``m`` before a digit (``m2b``). Of others the caller knows whose they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import replacing
from labelstack.support.yaml_file import read_yaml

_PUBLISHED = re.compile(r"level1_train_(?P<name>.+)_f(?P<fold>\d+)_e\d+_[.0-9]+\.npy")
_KEYS = ("predicts", "weight")


@dataclass(frozen=True)
class FileMember:
    """One item of the file.

    Attributes
    ----------
    predicts : files with out-of-fold predictions, as they stand there
    weight : ≥ 0
    """

    predicts: tuple[str, ...]
    weight: float


def write_blend_file(path: Path, members: Sequence[FileMember]) -> None:
    """Write a blend; equal members give equal bytes."""
    import yaml

    content = [{"predicts": list(member.predicts), "weight": float(member.weight)} for member in members]
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, width=1000), encoding="utf-8")


def read_blend_file(path: Path) -> list[FileMember]:
    """Read a blend.

    Raises
    ------
    InputProblems
        With everything that is wrong in it: item (from 0), key, what was expected, what was found.
    UserError
        When it is absent or no YAML.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: expected a list of members, each with {' and '.join(_KEYS)}")
    problems: list[str] = []
    members = [_member(item, f"{path.name}: item {place}", problems) for place, item in enumerate(content)]
    if not problems and not any(member.weight for member in members):
        problems.append(f"{path.name}: expected one weight above 0 at least, found none")
    if problems:
        raise InputProblems(str(path), problems)
    return members


def weights_by_name(members: Sequence[FileMember], known: Mapping[str, Sequence[str]], path: Path) -> dict[str, float]:
    """Name of each member of a file → its weight as it stands there.

    Parameters
    ----------
    known : name → the files of its predictions, of the members that there are here
    path : of the file, for messages

    Raises
    ------
    InputProblems
        When files are nobody's or a member comes twice; published ones are those of the member called as their version.
    """
    owner = {file: name for name, files in known.items() for file in files}
    owner |= {file.removesuffix(".npy") + ".npz": name for file, name in owner.items()}  # files of before
    found, problems = dict[str, float](), list[str]()
    for place, member in enumerate(members):
        item = f"{path.name}: item {place}"
        named = [(file, _published(file)) for file in member.predicts]
        owners = sorted({owner.get(file) or (_called(match["name"]) if match else file) for file, match in named})
        if len(owners) > 1:
            problems.append(f"{item}: predicts: expected files of one member, found {', '.join(owners)}")
            continue
        folds = [match["fold"] for _, match in named if match]
        if len(set(folds)) < len(folds):
            problems.append(f"{item}: predicts: expected one file for each fold, found folds {', '.join(folds)}")
        name = owners[0]
        if name not in known:
            problems.append(f"{item}: predicts: expected a member of the blend ({', '.join(known)}), found {name}")
        elif name in found:
            problems.append(f"{item}: predicts: expected each member once, found {name} again")
        found.setdefault(name, member.weight)
    if problems:
        raise InputProblems(str(path), problems)
    return found


def _called(version: str) -> str:
    name = re.sub("[^a-z0-9_]", "_", version.lower())
    return name if name[0].isalpha() else f"m{name}"


def _published(file: str) -> re.Match[str] | None:
    return _PUBLISHED.fullmatch(PurePosixPath(file).name)


def _member(item: Any, place: str, problems: list[str]) -> FileMember:
    if not isinstance(item, dict) or set(item) != set(_KEYS):
        what = f"keys {', '.join(map(str, item))}" if isinstance(item, dict) else repr(item)[:60]
        problems.append(f"{place}: expected {' and '.join(_KEYS)}, found {what}")
        return FileMember((), 0.0)
    files, weight = item["predicts"], item["weight"]
    if not isinstance(files, list) or not files or not all(isinstance(file, str) and file for file in files):
        problems.append(f"{place}: predicts: expected a list of file names, found {str(files)[:60]!r}")
        files = []
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight < 0:
        problems.append(f"{place}: weight: expected a number from 0, found {str(weight)[:60]!r}")
        weight = 0.0
    return FileMember(tuple(files), float(weight))
