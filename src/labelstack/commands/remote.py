"""`labelstack remote`: check a place in S3, then make it the default DVC remote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.s3.checks import Findings, inspect
from labelstack.s3.place import Place, parse_place
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import WITHOUT_CHECKSUMS, replacing

if TYPE_CHECKING:
    from dvc.config import Config

DVC = Path(".dvc")
LOCAL = DVC / "config.local"
AWS = DVC / "aws-config"
SECRETS = ("access_key_id", "secret_access_key", "session_token")
_KEYS = ("url", "endpointurl", "region", "profile")


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
    found = inspect(place, create, {} if save_credentials else _saved(config, name))
    if (
        save_credentials
        and subprocess.run(["git", "check-ignore", "-q", LOCAL], stderr=subprocess.DEVNULL).returncode == 1
    ):
        found.note("config.local", False, f"git would take {LOCAL}: put the line /config.local into .dvc/.gitignore")
    _show(found)
    if found.problems:
        raise InputProblems(f"{place.url} ({DVC / 'config'} is as it was)", found.problems)
    # a configuration file of DVC's own goes in the place of the user's: not if that holds the credentials
    aws = found.without_checksums and found.source in ("env", "shared-credentials-file", "explicit")
    _write(config, name, found.place, aws)
    if save_credentials:
        _write_secrets(config, name, found.credentials)
    _next(found, name, aws)


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


def _show(found: Findings) -> None:
    for name, (good, text) in found.checks.items():
        print(f"{'ok' if good else 'missing':8} {name:12} {text}")
    policy = found.policy()
    if policy:
        print("\nThis IAM policy would grant what is denied:\n\n" + json.dumps(policy, indent=2) + "\n")


def _write(config: Config, name: str, place: Place, aws: bool) -> None:
    """Set the remote and make it the default; other keys of it stay.

    With ``aws``, an AWS configuration file beside .dvc/config has the settings that DVC has no keys for.
    """
    from dvc.config_schema import RelPath

    ours = RelPath(AWS.resolve())
    if aws:
        settings = "".join(f"{key} = {value}\n" for key, value in WITHOUT_CHECKSUMS.items())
        sections = ["default", *([f"profile {place.profile}"] if place.profile else [])]
        with replacing(AWS) as temporary:
            temporary.write_text("".join(f"[{section}]\n{settings}" for section in sections), encoding="utf-8")
    with config.edit("repo", validate=False) as content:
        remotes = content.setdefault("remote", {})
        kept = {key: value for key, value in remotes.get(name, {}).items() if key not in _KEYS and value != ours}
        remotes[name] = ({"configpath": ours} if aws else {}) | kept | _section(place)
        content.setdefault("core", {})["remote"] = name


def _section(place: Place) -> dict[str, str]:
    values = (place.url, place.endpoint_url, place.region, place.profile)
    return {key: value for key, value in zip(_KEYS, values, strict=True) if value}


def _write_secrets(config: Config, name: str, credentials: Any) -> None:
    """Keep credentials in .dvc/config.local, for this user's eyes only."""
    values = zip(SECRETS, (credentials.access_key, credentials.secret_key, credentials.token), strict=True)
    os.close(os.open(LOCAL, os.O_CREAT | os.O_WRONLY, 0o600))
    LOCAL.chmod(0o600)
    with config.edit("local", validate=False) as content:
        remotes = content.setdefault("remote", {})
        kept = {key: value for key, value in remotes.get(name, {}).items() if key not in SECRETS}
        remotes[name] = kept | {key: value for key, value in values if value}


def _next(found: Findings, name: str, aws: bool) -> None:
    place = found.place
    print(f"\nremote {name}: {place.url} is the default remote in {DVC / 'config'}")
    merged = _config()
    if merged["core"]["remote"] != name or not _section(place).items() <= merged["remote"][name].items():
        print("note: something else is set elsewhere, and goes first here (`dvc config --list --show-origin`)")
    files = f".dvc/config {AWS}" if aws else ".dvc/config"
    print(f"\nNext:\n  git add {files} dvc.lock metrics && git commit -m Share\n  dvc push\n")
    print(f"MLflow's artifacts go there too with tracking.artifacts: s3://{place.bucket}/{place.key('mlflow')}")
    print("in params.yaml, for a new tracking.experiment" + (", and" if place.endpoint_url else "."))
    if place.endpoint_url:
        print(f"  export MLFLOW_S3_ENDPOINT_URL={place.endpoint_url}")
    if found.without_checksums:
        told = f"DVC reads {AWS} (where AWS_CONFIG_FILE is not set); o" if aws else "DVC and o"
        print(f"\nThe server refuses the checksum headers of AWS's clients. {told}ther programs leave them out with")
        print(*(f"  export AWS_{key.upper()}={value}" for key, value in WITHOUT_CHECKSUMS.items()), sep="\n")
