"""Whether the files of a registered version are the registered ones: one rule for all that uses a version.

A version is an MLflow model whose folder holds::

    files.json                        {file: SHA-256} of every other file, MLflow's own too; the version's tag
                                      ``labelstack.model_digest`` is its SHA-256
    artifacts/ensemble/checksums.json {file: SHA-256} of the ensemble's files; the tag ``labelstack.files_digest``

Versions from before files.json have the second alone. Of what MLflow laid beside their ensemble the source is compared
with the record, and the entry script with the source; MLmodel must be what labelstack writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelstack.ensemble import record
from labelstack.ensemble.machine import source_digest
from labelstack.support import storage
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.yaml_file import parse_yaml

MODEL_LIST = "files.json"
MODEL_TAG = "labelstack.model_digest"
FILES_TAG = "labelstack.files_digest"
ENSEMBLE = "artifacts/ensemble"
_RECORD = f"{ENSEMBLE}/{record.FOLDER}"
_NO_BYTECODE = "__pycache__"  # a file of this name keeps the folder away
# MLflow notes there which version it fetched, also in the store itself.
_META = "registered_model_meta"
_META_BYTES = 4000
_MLFLOW_FILES = frozenset(
    {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json",
        "serving_input_example.json",
    }
)  # fmt: skip
_LOADERS = frozenset({"mlflow.pyfunc.loaders.code_model"})
_SHOWN = 60  # characters of a strange name


class ChangedError(InputProblems):
    """A version whose files are not the registered ones; nothing of it is used."""


@dataclass(frozen=True)
class Registered:
    """What a registry says of a version's files: a SHA-256, and whether it is that of files.json.

    ``whole`` is None where that is not known: it is what lies there then.
    """

    digest: str
    whole: bool | None = None

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Registered | None:
        """What the tags of a version say; None for one from before there were checksums."""
        if whole := tags.get(MODEL_TAG):
            return cls(whole, True)
        return cls(tags[FILES_TAG], False) if tags.get(FILES_TAG) else None


def write_list(model: Path) -> str:
    """Write files.json, the SHA-256 of every other file of an MLflow model; its own SHA-256."""
    names = [name for name, kind in _inside(model).items() if kind == "file" and name not in (MODEL_LIST, _META)]
    storage.write_json(model / MODEL_LIST, {name: storage.sha256(model / name) for name in names})
    return storage.sha256(model / MODEL_LIST)


def check(model: Path, registered: Registered | None, shown: str) -> None:
    """Raise ``ChangedError`` that names every file of an MLflow model that is not the registered one.

    Parameters
    ----------
    registered : None: the lists that lie among the files are all there is to compare with
    shown : the version, as the error calls it
    """
    if problems := faults(model, registered):
        raise ChangedError(f"{shown}: its files are not the registered ones, so nothing of it is used", problems)


def faults(model: Path, registered: Registered | None) -> list[str]:
    """Sentences about files that were changed, added, removed or are links, with their member; none when all is well.

    Parameters
    ----------
    model : the folder of MLmodel
    registered : see ``check``
    """
    try:
        there = _inside(model)
    except OSError as error:
        return [f"its files can't be read ({error.strerror})"]
    problems = links(there)
    whole = registered.whole if registered else None
    if whole is None:
        whole = there.get(MODEL_LIST) == "file"
    files = {name for name, kind in there.items() if kind == "file"} - {_META}
    folders = {name for name, kind in there.items() if kind == "folder"}
    if there.get(_META) == "file" and _noted(model) is None:
        problems.append(f"{_META} was changed")
    if whole:
        return problems + _whole(model, files, folders, registered)
    return problems + _of_before(model, files, folders, registered)


def links(there: Mapping[str, str]) -> list[str]:
    """Sentences about links, devices and the like among the files of ``contents``."""
    said = {"link": "is a link", "other": "is neither a file nor a folder"}
    return [f"{_shown(name)} {said[kind]}" for name, kind in there.items() if kind in said]


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder, by name: ``file``, ``folder``, ``link`` or ``other``; no link is followed."""
    return _inside(folder)


def owner(name: str) -> str:
    """The member that a file of an ensemble's folder belongs to, as the beginning of a sentence; empty for others."""
    match name.split("/"):
        case ["members", member, *_]:
            return f"base model `{member}`: "
        case ["segmenters", member, fold, *_]:
            return f"segmenter `{member}-{fold}`: "
        case ["stackers", member, *_]:
            return f"stacker `{member}`: "
        case [record.FOLDER, "boxes", file]:
            return f"second round `{Path(file).stem}`: "
        case [record.FOLDER, "predictions", file]:
            return f"recorded predictions of `{Path(file).stem}`: "
    return ""


def _inside(top: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(top / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    found[name] = "folder"
                    waiting.append(f"{name}/")
                else:
                    found[name] = "link" if stat.S_ISLNK(mode) else "file" if stat.S_ISREG(mode) else "other"
    return dict(sorted(found.items()))


def _whole(model: Path, files: set[str], folders: set[str], registered: Registered | None) -> list[str]:
    """Against files.json."""
    if MODEL_LIST not in files:
        return [f"{MODEL_LIST} is missing"]
    if registered and storage.sha256(model / MODEL_LIST) != registered.digest:
        own = [f"{MODEL_LIST} was changed: its SHA-256 is not the one that the registry keeps"]
    else:
        own = []
    try:
        listed = _read_list(model / MODEL_LIST)
    except UserError:
        return own or [f"{MODEL_LIST} is damaged"]
    return own + _against(model, listed, files - {MODEL_LIST}, folders)


def _of_before(model: Path, files: set[str], folders: set[str], registered: Registered | None) -> list[str]:
    """Of a version that has checksums of its ensemble alone."""
    ensemble, name = model / ENSEMBLE, f"{ENSEMBLE}/{record.CHECKSUMS}"
    own = []
    if name not in files:
        if registered is None:
            return []  # from before there were any
        own = [f"{record.CHECKSUMS} is missing or damaged"]
    elif registered and storage.sha256(model / name) != registered.digest:
        own = [f"{record.CHECKSUMS} was changed: its SHA-256 is not the one that the registry keeps"]
    try:
        listed = {f"{ENSEMBLE}/{file}": digest for file, digest in _read_list(ensemble / record.CHECKSUMS).items()}
    except UserError:
        return own or [f"{record.CHECKSUMS} is missing or damaged"]
    inside = {file for file in files if file.startswith(f"{ENSEMBLE}/")} - {name}
    beneath = {folder for folder in folders if folder.startswith(f"{ENSEMBLE}/")}
    problems = own + _against(model, listed, inside, beneath)
    return problems + _beside(model, files - inside - {name})


def _beside(model: Path, files: set[str]) -> list[str]:
    """What MLflow laid beside an ensemble of before: its source, entry script, description."""
    problems = []
    source = {file for file in files if file.startswith("code/labelstack/")}
    for file in sorted(files):
        bytecode = file.rpartition("/")[2] == _NO_BYTECODE
        if bytecode and file != _NO_BYTECODE and file not in source:
            problems.append(f"{file} was added")
        elif bytecode and not (model / file).read_bytes().startswith(b"A file, so that no bytecode"):
            problems.append(f"{file} was changed")
        elif file.endswith(".pyc"):
            problems.append(f"{file} was added: bytecode, which nobody registered; delete it if it came by use")
    scripts = sorted(f for f in files if "/" not in f and f.endswith(".py"))
    known = source | _MLFLOW_FILES | {*scripts[:1], _NO_BYTECODE}
    strange = sorted(file for file in files - known if not file.endswith((".pyc", _NO_BYTECODE)))
    problems += [f"{_shown(file)} was added" for file in strange]
    problems += [f"{name} is missing" for name in ("MLmodel",) if name not in files]
    try:
        recorded = record.read_machine(model / ENSEMBLE).get("code")
    except UserError:
        recorded = None  # said above where there was a record, else there is nothing to compare with
    if recorded is not None:
        if source_digest(model / "code" / "labelstack") != recorded:
            problems.append("code/labelstack, the source, was changed")
        elif not scripts:
            problems.append("the entry script is missing")
        elif not any(_same(model / scripts[0], model / file) for file in source if file.endswith(f"/{scripts[0]}")):
            problems.append(f"{scripts[0]}, the entry script, was changed: it is none of the source's files")
    return problems + (_description(model / "MLmodel", scripts) if "MLmodel" in files else [])


def _description(file: Path, scripts: list[str]) -> list[str]:
    """Whether MLmodel names what labelstack has MLflow write: its loader, the entry script, the folders."""
    try:
        flavors: Any = parse_yaml(file.read_text(encoding="utf-8"), "MLmodel")["flavors"]
        pyfunc = flavors["python_function"]
        script = Path(str(pyfunc["model_code_path"])).name
        as_written = (
            list(flavors) == ["python_function"]
            and pyfunc["loader_module"] in _LOADERS
            and pyfunc["code"] == "code"
            and {key: value["path"] for key, value in pyfunc["artifacts"].items()} == {"ensemble": ENSEMBLE}
            and "data" not in pyfunc
            and "config" not in pyfunc
            and script in scripts
        )
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        as_written = False
    return [] if as_written else ["MLmodel was changed: it is none that labelstack writes"]


def _against(model: Path, listed: Mapping[str, str], files: set[str], folders: Iterable[str]) -> list[str]:
    parents = {"/".join(parts[:n]) for parts in (name.split("/") for name in listed) for n in range(1, len(parts))}
    changed = [name for name in sorted(files & set(listed)) if storage.sha256(model / name) != listed[name]]
    missing, added = sorted(set(listed) - files), sorted(files - set(listed))
    if _RECORD in parents and missing and not any(name.startswith(f"{_RECORD}/") for name in files):
        missing = [_RECORD, *(name for name in missing if not name.startswith(f"{_RECORD}/"))]
    problems = [f"{_shown(name)} was changed" for name in changed]
    problems += [f"{_shown(name)} is missing" for name in missing]
    problems += [f"{_shown(name)} was added" for name in added]
    empty = sorted(set(folders) - parents)
    own = [folder for folder in empty if not any(name.startswith(f"{folder}/") for name in files)]
    return problems + [f"{_shown(folder)}, a folder, was added" for folder in own]


def fetched_as(model: Path) -> tuple[str, str] | None:
    """Name and number of the version that MLflow noted when it fetched a model; None where it noted none."""
    return _noted(model) or None


def _noted(model: Path) -> tuple[str, str] | tuple[()] | None:
    """What MLflow noted; () when it fetched ``models:/m-…``, which is no version; None for what it does not write."""
    try:
        with (model / _META).open("rb") as file:
            content: Any = parse_yaml(file.read(_META_BYTES).decode(), _META)
        if list(content) != ["model_name", "model_version"]:
            return None
        if set(content.values()) == {None}:
            return ()
        noted = {key: str(value) for key, value in content.items() if isinstance(value, str | int)}
        if len(noted) == len(content) and noted["model_version"].isdecimal():
            return noted["model_name"], noted["model_version"]
    except (OSError, ValueError, TypeError, UserError):
        pass
    return None


def _read_list(file: Path) -> dict[str, str]:
    content = storage.read_json(file)
    if not isinstance(content, dict) or not all(isinstance(digest, str) for digest in content.values()):
        raise UserError(f"{file}: expected a SHA-256 for each file name")
    return content


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _shown(name: str) -> str:
    """A file as messages call it: those of the ensemble's folder as its members do, strange names with escapes."""
    name = name.removeprefix(f"{ENSEMBLE}/")
    if not name.isprintable():
        name = ascii(name)[: _SHOWN * 2]
    return f"{owner(name)}{name}"
