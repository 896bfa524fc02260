"""`labelstack remote`: check a place in S3, then make it the default DVC remote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.errors import InputProblems, UserError
from labelstack.s3_checks import inspect
from labelstack.s3_findings import Check, Findings, masked
from labelstack.s3_place import Place, parse_place

if TYPE_CHECKING:
    from dvc.config import Config

DVC = Path(".dvc")
LOCAL = DVC / "config.local"
SECRETS = ("access_key_id", "secret_access_key", "session_token")
_MARKS = {"ok": "ok", "missing": "missing", "untested": "-"}


def run(
    url: str,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    create: bool = False,
    name: str = "storage",
    save_credentials: bool = False,
) -> None:
    """Check everything that DVC will do there, print what was found, and write .dvc/config when all of it works.

    Raises
    ------
    UserError
        Outside of a folder with .dvc, or with every failed check at once; then nothing is written.
    """
    if not DVC.is_dir():
        raise UserError(f"{Path.cwd()} has no .dvc: run from the folder that holds dvc.yaml")
    place = parse_place(url, endpoint_url, region, profile, name)
    config = _config()
    saved = {} if save_credentials else _saved(config, name)
    findings = inspect(place, create, saved)
    if save_credentials:
        findings.checks.append(_git_ignores())
    _show(findings)
    if findings.problems:
        raise InputProblems(f"{place.url} ({DVC / 'config'} is as it was)", findings.problems)
    changed = _write(config, name, findings.place)
    if save_credentials:
        changed |= _write_secrets(config, name, findings.credentials)
    _next(findings.place, name, changed, _overruled(name, findings.place))


def _config() -> Config:
    from dvc.config import Config, ConfigError

    try:
        return Config(str(DVC.resolve()), validate=False)
    except ConfigError as error:
        raise UserError(f"{DVC / 'config'}: {error}") from None


def _saved(config: Config, name: str) -> dict[str, str]:
    """Credentials of the remote that an earlier call kept; DVC would use them before all others."""
    section = config.load_one("local").get("remote", {}).get(name, {})
    found = {key: section[key] for key in SECRETS if section.get(key)}
    return found if {"access_key_id", "secret_access_key"} <= found.keys() else {}


def _git_ignores() -> Check:
    """Whether git leaves the file with secrets alone; without git there is nothing to leak it to."""
    inside = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], capture_output=True)
    if inside.returncode != 0:
        return Check("config.local", "ok", "no git repository here")
    ignored = subprocess.run(["git", "check-ignore", "-q", str(LOCAL)], capture_output=True)
    if ignored.returncode == 0:
        return Check("config.local", "ok", "git ignores it")
    return Check("config.local", "missing", f"git would take {LOCAL}: put the line /config.local into .dvc/.gitignore")


def _show(findings: Findings) -> None:
    for check in findings.checks:
        print(f"{_MARKS[check.state]:8} {check.name:12} {check.text}")
    policy = findings.policy()
    if policy:
        print("\nThis IAM policy would grant what is denied:\n\n" + json.dumps(policy, indent=2) + "\n")


def _section(place: Place) -> dict[str, str]:
    settings = {
        "url": place.url, "endpointurl": place.endpoint_url, "region": place.region, "profile": place.profile,
    }  # fmt: skip
    return {key: value for key, value in settings.items() if value}


def _write(config: Config, name: str, place: Place) -> bool:
    """Set the remote and make it the default; other keys of it stay. Return whether anything changed."""
    before = config.load_one("repo")
    kept = {key: value for key, value in before.get("remote", {}).get(name, {}).items() if key not in _KEYS}
    section = kept | _section(place)
    if before.get("remote", {}).get(name) == section and before.get("core", {}).get("remote") == name:
        return False
    with config.edit("repo", validate=False) as content:
        content.setdefault("remote", {})[name] = section
        content.setdefault("core", {})["remote"] = name
    return True


_KEYS = ("url", "endpointurl", "region", "profile")


def _write_secrets(config: Config, name: str, credentials: Any) -> bool:
    """Keep credentials in .dvc/config.local, for this user's eyes only. Return whether anything changed."""
    values = dict(zip(SECRETS, (credentials.access_key, credentials.secret_key, credentials.token), strict=True))
    wanted = {key: value for key, value in values.items() if value}
    before = config.load_one("local").get("remote", {}).get(name, {})
    os.close(os.open(LOCAL, os.O_CREAT | os.O_WRONLY, 0o600))
    LOCAL.chmod(0o600)
    section = {key: value for key, value in before.items() if key not in SECRETS} | wanted
    if section == before:
        return False
    with config.edit("local", validate=False) as content:
        content.setdefault("remote", {})[name] = section
    return True


def _overruled(name: str, place: Place) -> list[str]:
    """Settings of this machine or user that DVC takes before those of .dvc/config."""
    merged = _config()
    section = merged.get("remote", {}).get(name, {})
    wanted = _section(place)
    keys = [f"remote.{name}.{key}" for key in _KEYS if section.get(key) != wanted.get(key)]
    return [*(["core.remote"] if merged.get("core", {}).get("remote") != name else []), *keys]


def _next(place: Place, name: str, changed: bool, overruled: list[str]) -> None:
    print(
        f"\nremote {name}: {place.url} is the default remote in {DVC / 'config'}" + ("" if changed else ", as before")
    )
    if overruled:
        print(f"note: {', '.join(overruled)} is set elsewhere and goes first here (`dvc config --list --show-origin`)")
    saved = _saved(_config(), name)
    if saved:
        lasting = "; they expire with their session token" if "session_token" in saved else ""
        print(f"credentials: {masked(saved['access_key_id'])} in {LOCAL}{lasting}")
    print("\nNext:\n  git add .dvc/config dvc.lock metrics && git commit -m Share\n  dvc push\n")
    print(f"MLflow's artifacts go there too with tracking.artifacts: s3://{place.bucket}/{place.key('mlflow')}")
    print("in params.yaml, for a new tracking.experiment" + (", and" if place.endpoint_url else "."))
    if place.endpoint_url:
        print(f"  export MLFLOW_S3_ENDPOINT_URL={place.endpoint_url}")
