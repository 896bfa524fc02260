"""`labelstack remote`: check a place in S3, then make it the default DVC remote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.s3.checks import inspect
from labelstack.s3.findings import Check, Findings, masked
from labelstack.s3.place import Place, parse_place
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import WITHOUT_CHECKSUMS, replacing

if TYPE_CHECKING:
    from dvc.config import Config

DVC = Path(".dvc")
LOCAL = DVC / "config.local"
AWS = DVC / "aws-config"
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
    aws = findings.without_checksums and _own_config_is_enough(findings)
    changed = _write(config, name, findings.place, aws)
    if save_credentials:
        changed |= _write_secrets(config, name, findings.credentials)
    _next(findings.place, name, changed, _overruled(name, findings.place), aws)
    if findings.without_checksums:
        _tell_checksums(findings.place, aws)


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


def _own_config_is_enough(findings: Findings) -> bool:
    """Whether DVC may read a configuration of its own in the place of the user's: not if that holds the credentials."""
    return findings.source in ("env", "shared-credentials-file", "explicit")


def _write(config: Config, name: str, place: Place, aws: bool) -> bool:
    """Set the remote and make it the default; other keys of it stay. Return whether anything changed.

    With ``aws``, an AWS configuration file beside .dvc/config has the settings that DVC has no keys for.
    """
    from dvc.config_schema import RelPath

    before = config.load_one("repo")
    old = before.get("remote", {}).get(name, {})
    ours = RelPath(AWS.resolve())
    kept = {key: value for key, value in old.items() if key not in _KEYS and (key, value) != ("configpath", ours)}
    section = kept | _section(place) | ({"configpath": ours} if aws and "configpath" not in kept else {})
    if aws:
        _write_aws(place)
    if before.get("remote", {}).get(name) == section and before.get("core", {}).get("remote") == name:
        return False
    with config.edit("repo", validate=False) as content:
        content.setdefault("remote", {})[name] = section
        content.setdefault("core", {})["remote"] = name
    return True


def _write_aws(place: Place) -> None:
    settings = "".join(f"{key} = {value}\n" for key, value in WITHOUT_CHECKSUMS.items())
    sections = ["default", *([f"profile {place.profile}"] if place.profile else [])]
    text = "# Written by `labelstack remote`: the server refuses the checksum headers of AWS's clients.\n"
    text += "".join(f"[{section}]\n{settings}" for section in sections)
    if not AWS.exists() or AWS.read_text(encoding="utf-8") != text:
        with replacing(AWS) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _tell_checksums(place: Place, aws: bool) -> None:
    """What else has to know that the server refuses checksum headers."""
    variables = [f"  export AWS_{key.upper()}={value}" for key, value in WITHOUT_CHECKSUMS.items()]
    elsewhere = os.environ.get("AWS_CONFIG_FILE")
    print("\nThe server refuses the checksum headers that AWS's clients send.")
    if aws and not elsewhere:
        print(f"DVC leaves them out, as {AWS} says; other programs do so with")
    else:
        file = elsewhere or "~/.aws/config"
        section = f"profile {place.profile}" if place.profile else "default"
        print(f"DVC reads {file} here: put these two lines into its section [{section}]")
        print(*(f"  {key} = {value}" for key, value in WITHOUT_CHECKSUMS.items()), sep="\n")
        print("or set, before `dvc push`,")
    print(*variables, sep="\n")


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


def _next(place: Place, name: str, changed: bool, overruled: list[str], aws: bool) -> None:
    print(
        f"\nremote {name}: {place.url} is the default remote in {DVC / 'config'}" + ("" if changed else ", as before")
    )
    if overruled:
        print(f"note: {', '.join(overruled)} is set elsewhere and goes first here (`dvc config --list --show-origin`)")
    saved = _saved(_config(), name)
    if saved:
        lasting = "; they expire with their session token" if "session_token" in saved else ""
        print(f"credentials: {masked(saved['access_key_id'])} in {LOCAL}{lasting}")
    files = f".dvc/config {AWS}" if aws else ".dvc/config"
    print(f"\nNext:\n  git add {files} dvc.lock metrics && git commit -m Share\n  dvc push\n")
    print(f"MLflow's artifacts go there too with tracking.artifacts: s3://{place.bucket}/{place.key('mlflow')}")
    print("in params.yaml, for a new tracking.experiment" + (", and" if place.endpoint_url else "."))
    if place.endpoint_url:
        print(f"  export MLFLOW_S3_ENDPOINT_URL={place.endpoint_url}")
