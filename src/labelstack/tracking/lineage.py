"""Tags that say what a run was made from: DVC hashes of its inputs, git commit, params digest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from labelstack.support.yaml_file import parse_yaml, read_yaml
from labelstack.tracking.texts import without_credentials

INCOMPLETE = "lineage.incomplete"
EXPERIMENT, BASELINE = "labelstack.experiment", "labelstack.experiment_baseline"
_TEXTS = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_COMMITTED = ("dvc.lock", "dvc.yaml", "params.yaml")


def lineage_tags(root: str | Path, inputs: Iterable[str | Path], params_digest: str) -> dict[str, str]:
    """Tags of a run.

    Returns
    -------
    dict
        ``dvc.<path>``: the hash that DVC has of the input (see ``input_hash``); ``git.commit`` and ``git.dirty``
        when git is there; ``params.digest``; ``lineage.incomplete: true`` when an input has no known hash.
    """
    root = Path(root)
    lock = read_lock(root)
    tags: dict[str, str] = {}
    for given in inputs:
        path = _relative(root, given)
        value = input_hash(root, path, lock)
        if value is None:
            tags[INCOMPLETE] = "true"
        else:
            tags[f"dvc.{without_credentials(path)}"] = value
    tags["params.digest"] = params_digest
    return tags | git_tags(root, generated=[*lock["outs"], "dvc.lock"])


def read_lock(root: Path) -> dict[str, dict[str, str]]:
    """Hashes of all ``outs`` and ``deps`` in dvc.lock by path; empty when there is no dvc.lock yet."""
    file = root / "dvc.lock"
    found: dict[str, dict[str, str]] = {"outs": {}, "deps": {}}
    if not file.exists():
        return found
    for stage in (_texts(file).get("stages") or {}).values():
        for kind, hashes in found.items():
            for entry in stage.get(kind) or []:
                if value := _entry_hash(entry):
                    hashes[_plain(entry["path"])] = value
    return found


def input_hash(root: Path, path: str, lock: dict[str, dict[str, str]]) -> str | None:
    """The hash of one input: of the stage output, of the outputs beneath it, or of the output that holds it.

    An input that no stage makes gets its ``.dvc`` file's hash, the MD5 of its bytes (what DVC would record), or, for
    a folder, the hash that dvc.lock recorded last. Unknown: None.
    """
    outs = lock["outs"]
    if path in outs:
        return outs[path]
    below = sorted((p, h) for p, h in outs.items() if p.startswith(f"{path}/"))
    if below:
        return hashlib.md5("\n".join(f"{p} {h}" for p, h in below).encode(), usedforsecurity=False).hexdigest()
    for parent in PurePosixPath(path).parents:
        if str(parent) in outs:
            return outs[str(parent)]
    tracked = root / f"{path}.dvc"
    if tracked.is_file():
        return next((value for entry in _yaml(tracked).get("outs") or [] if (value := _entry_hash(entry))), None)
    if (root / path).is_file():
        return _md5(root / path)
    return lock["deps"].get(path)


def git_tags(root: Path, generated: Iterable[str] = ()) -> dict[str, str]:
    """``git.commit`` and ``git.dirty`` (tracked files changed, those under ``generated`` not counted); or nothing."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = (_git(root, "diff", "--name-only", "--relative", "-z", "HEAD") or "").split("\0")
    made = tuple(generated)
    dirty = any(name and not any(name == g or name.startswith(f"{g}/") for g in made) for name in changed)
    return {"git.commit": commit.strip(), "git.dirty": str(dirty).lower()}


def experiment_tags() -> dict[str, str]:
    """Name and baseline commit of the DVC experiment whose stage this process is; nothing outside one."""
    tags = {EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV", "")}
    return {key: value for key, value in tags.items() if value} if tags[EXPERIMENT] else {}


def results_commit(root: Path, stage: str, output: str) -> tuple[str | None, str]:
    """The commit at HEAD, if it holds the results that lie here.

    Parameters
    ----------
    stage, output : str
        A stage and one of its outputs, whose file here must have the MD5 that dvc.lock has at HEAD.

    Returns
    -------
    commit : str or None
    reason : str
        Why there is none.
    """
    commit = _git(root, "rev-parse", "HEAD")
    lock = _git(root, "show", "HEAD:./dvc.lock")
    if commit is None:
        return None, "this folder is not in a git repository with a commit"
    if lock is None:
        return None, "dvc.lock is not committed"
    changed = _git(root, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *_COMMITTED)
    if changed is None or changed:
        return None, f"{', '.join(filter(None, (changed or '').split(chr(0))))} changed since the last commit"
    if untracked := [name for name in _COMMITTED if _git(root, "ls-files", "--error-unmatch", name) is None]:
        return None, f"{', '.join(untracked)} is not committed"
    outs = ((parse_yaml(lock, "dvc.lock at HEAD") or {}).get("stages") or {}).get(stage, {}).get("outs") or []
    recorded = next((_entry_hash(entry) for entry in outs if _plain(entry["path"]) == output), None)
    if recorded != _md5(root / output):
        return None, f"{output} is not the one that the committed dvc.lock names; run `dvc repro`, then commit"
    return commit.strip(), ""


def _git(root: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _md5(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _texts(file: Path) -> dict[str, Any]:
    """A YAML file that DVC wrote, all its values as texts: several times as fast, and a hash is never a number."""
    try:
        content = yaml.load(file.read_bytes(), Loader=_TEXTS)  # noqa: S506  (it knows texts, lists and mappings only)
    except (yaml.YAMLError, RecursionError):
        return _yaml(file)  # says what is wrong
    return content if isinstance(content, dict) else {}


def _yaml(file: Path) -> dict[str, Any]:
    content = read_yaml(file)
    return content if isinstance(content, dict) else {}


def _entry_hash(entry: dict[str, Any]) -> str | None:
    for key in (entry.get("hash"), "md5", "etag", "checksum"):
        if key and entry.get(key):
            return str(entry[key])
    return None


def _plain(path: str) -> str:
    return path if "://" in path else str(PurePosixPath(path))


def _relative(root: Path, path: str | Path) -> str:
    text = str(path)
    if "://" in text:
        return text
    place = Path(text)
    if place.is_absolute() and place.is_relative_to(root.resolve()):
        place = place.relative_to(root.resolve())
    return place.as_posix()
