"""`labelstack remote`: what it prints and writes, against an S3 server over HTTP."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labelstack.commands.remote import run
from labelstack.s3.place import NEEDED, Place, policy
from labelstack.support.errors import InputProblems, UserError
from s3_server import CREDENTIALS, Proxy, credentials_in_environment, objects, s3_server
from tiny import environment

SECRET = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
CONFIG, LOCAL = Path(".dvc/config"), Path(".dvc/config.local")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    home = tmp_path / "home"
    home.mkdir()
    credentials_in_environment(monkeypatch, home)
    for level in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"DVC_{level}_CONFIG_DIR", str(home))
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current folder: a git repository with DVC."""
    folder = tmp_path / "clone"
    (folder / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder)
    CONFIG.write_text("[core]\n    analytics = false\n")
    Path(".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    subprocess.run(["git", "init", "-q"], check=True)
    return folder


def dvc_config(*options: str) -> set[str]:
    return {
        *subprocess.run(
            ["dvc", "config", "--list", *options], env=environment(), capture_output=True, text=True, check=True
        ).stdout.splitlines()
    }


def typed(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["labelstack", "remote", *options], env=environment(), capture_output=True, text=True)


def test_sets_the_default_remote_once(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("s3://bucket/team", endpoint_url=server)
    assert dvc_config("--project") == {
        "core.analytics=false",
        "core.remote=storage",
        "remote.storage.url=s3://bucket/team",
        f"remote.storage.endpointurl={server}",
        "remote.storage.region=us-east-1",
    }
    printed = capsys.readouterr().out
    assert printed.count("\nok ") == 8
    for words in ("dvc push", "tracking.artifacts: s3://bucket/team/mlflow", f"MLFLOW_S3_ENDPOINT_URL={server}"):
        assert words in printed
    before = CONFIG.read_bytes()
    run("s3://bucket/team", endpoint_url=server)
    assert CONFIG.read_bytes() == before
    assert not LOCAL.exists()
    assert objects(server) == {}


def test_a_server_that_refuses_checksums_gets_settings_that_last(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from botocore.configloader import load_config

    config = Path(".dvc/aws-config")
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    keys = f"aws_access_key_id = AKIAPROFILEPROFILE00\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "home/credentials").write_text(f"[team]\n{keys}")
    with Proxy(server, refuses_checksums=("501", "NotImplemented")) as proxy:
        run("s3://bucket", endpoint_url=proxy.url, profile="team")
        assert "configpath = aws-config" in CONFIG.read_text()  # whoever clones has the file too
        wanted = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        assert load_config(str(config))["profiles"] == {"default": wanted, "team": wanted}
        printed = capsys.readouterr().out
        for words in ("git add .dvc/config .dvc/aws-config", "DVC reads .dvc/aws-config"):
            assert words in printed
        for words in ("REQUEST_CHECKSUM_CALCULATION", "RESPONSE_CHECKSUM_VALIDATION"):
            assert f"export AWS_{words}=when_required" in printed
        proxy.refuses_checksums = None
        run("s3://bucket", endpoint_url=proxy.url, profile="team")
    assert "configpath" not in CONFIG.read_text()


def test_settings_of_ones_own_are_named_where_they_go_first(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "home/config"
    own.write_text(f"[default]\naws_access_key_id = AKIAPROFILEPROFILE00\naws_secret_access_key = {SECRET}\n")
    with Proxy(server, refuses_checksums=("400", "InvalidArgument")) as proxy:
        run("s3://bucket", endpoint_url=proxy.url)
        assert "DVC reads .dvc/aws-config (where AWS_CONFIG_FILE is not set)" in capsys.readouterr().out
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        run("s3://bucket", endpoint_url=proxy.url)
    assert "configpath" not in CONFIG.read_text()  # it would hide the credentials
    printed = capsys.readouterr().out
    assert "DVC and other programs leave them out with" in printed
    assert SECRET not in printed


def test_the_server_of_the_environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    run("s3://bucket/team")
    assert f"remote.storage.endpointurl={server}" in dvc_config("--project")
    for address in ("http://user:PASSWORD@127.0.0.1:1", "127.0.0.1:PASSWORD"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(InputProblems, match="--endpoint-url") as caught:
            run("s3://bucket/team")
        assert "PASSWORD" not in str(caught.value)


def test_keeps_what_else_is_configured(server: str) -> None:
    CONFIG.write_text(
        "[core]\n    remote = other\n"
        "['remote \"other\"']\n    url = /somewhere\n"
        "['remote \"storage\"']\n    url = s3://old/place\n    endpointurl = http://old\n    profile = old\n"
        "    read_timeout = 7\n"
    )
    run("s3://bucket", endpoint_url=server, name="storage")
    assert dvc_config("--project") == {
        "core.remote=storage",
        "remote.other.url=/somewhere",
        "remote.storage.read_timeout=7",
        "remote.storage.url=s3://bucket",
        f"remote.storage.endpointurl={server}",
        "remote.storage.region=us-east-1",
    }


def test_a_profile_and_a_new_bucket(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = f"aws_access_key_id = AKIAPROFILEPROFILE00\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "home/credentials").write_text(f"[team]\n{keys}")
    run("s3://new-bucket/x", server, region="eu-west-1", profile="team", create=True, name="cloud")
    settings = dvc_config("--project")
    assert {"core.remote=cloud", "remote.cloud.profile=team", "remote.cloud.region=eu-west-1"} <= settings
    assert SECRET not in CONFIG.read_text() + capsys.readouterr().out


def test_nothing_is_written_when_a_check_fails(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = CONFIG.read_bytes()
    with Proxy(server, policy=policy(Place("bucket", "team"), ["s3:ListBucket"])) as proxy:
        with pytest.raises(InputProblems) as caught:
            run("s3://bucket/team", endpoint_url=proxy.url, save_credentials=True)
        printed = capsys.readouterr().out
        assert [problem.partition(":")[0] for problem in caught.value.problems] == ["put", "get", "abort", "delete"]
        assert (CONFIG.read_bytes(), LOCAL.exists()) == (before, False)
        # the lines that are printed are those that are missing
        proxy.policy["Statement"] += json.loads(printed[printed.index("{") : printed.rindex("}") + 1])["Statement"]
        run("s3://bucket/team", endpoint_url=proxy.url)
    assert CONFIG.read_bytes() != before


def test_secrets_go_where_git_does_not_look(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("s3://bucket/team", endpoint_url=server, save_credentials=True)
    assert stat.S_IMODE(LOCAL.stat().st_mode) == 0o600
    assert dvc_config("--local") == {
        f"remote.storage.access_key_id={CREDENTIALS['AWS_ACCESS_KEY_ID']}",
        f"remote.storage.secret_access_key={SECRET}",
    }
    assert SECRET not in CONFIG.read_text()
    subprocess.run(["git", "add", "-A"], check=True)
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    assert "config.local" not in listed
    for key in CREDENTIALS:
        monkeypatch.delenv(key)
    run("s3://bucket/team", endpoint_url=server)
    printed = capsys.readouterr().out
    assert "AKIA…TEST from .dvc/config.local" in printed
    assert SECRET not in printed


def test_new_secrets_replace_old_ones(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LOCAL.write_text(
        "['remote \"storage\"']\n    access_key_id = old\n    secret_access_key = old\n    ssl_verify = false\n"
        "['remote \"other\"']\n    password = kept\n"
    )
    LOCAL.chmod(0o644)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-test")
    run("s3://bucket/team", endpoint_url=server, save_credentials=True)
    assert stat.S_IMODE(LOCAL.stat().st_mode) == 0o600
    settings = dvc_config("--local")
    assert {"remote.other.password=kept", "remote.storage.session_token=token-of-the-test"} <= settings
    assert "old" not in LOCAL.read_text()
    printed = capsys.readouterr().out
    assert "token-of-the-test" not in printed


def test_secrets_are_not_saved_where_git_would_take_them(server: str) -> None:
    Path(".dvc/.gitignore").write_text("/tmp\n")
    before = CONFIG.read_bytes()
    with pytest.raises(InputProblems, match=r"put the line /config\.local into \.dvc/\.gitignore"):
        run("s3://bucket/team", endpoint_url=server, save_credentials=True)
    assert (CONFIG.read_bytes(), LOCAL.exists()) == (before, False)


def test_without_git(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain/.dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "plain")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    run("s3://bucket/team", endpoint_url=server, save_credentials=True)
    assert LOCAL.exists()


def test_settings_of_this_machine_that_go_first_are_named(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    LOCAL.write_text("[core]\n    remote = mine\n['remote \"storage\"']\n    endpointurl = http://elsewhere\n")
    run("s3://bucket/team", endpoint_url=server)
    assert "note: something else is set elsewhere, and goes first here" in capsys.readouterr().out


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"has no \.dvc: run from the folder that holds dvc\.yaml"):
        run("s3://bucket/team")


def test_a_broken_config_is_not_touched(server: str) -> None:
    CONFIG.write_text("[core\n")
    with pytest.raises(UserError, match=r"^\.dvc/config: "):
        run("s3://bucket/team", endpoint_url=server)
    assert CONFIG.read_text() == "[core\n"


def test_typed_with_credentials_in_the_addresses() -> None:
    before = CONFIG.read_bytes()
    result = typed("s3://AKIA:PASS/WORD@bucket/x", "--endpoint-url", "https://user:PASSWORD@host", "--name", "A B")
    assert result.returncode == 2
    assert result.stderr.count("holds credentials") == 2
    assert "3 problems" in result.stderr
    assert "PASS" not in result.stdout + result.stderr
    assert CONFIG.read_bytes() == before


def test_typed_and_denied(server: str) -> None:
    with Proxy(server, policy={"Statement": []}) as proxy:
        result = typed("s3://bucket/team", "--endpoint-url", proxy.url)
    assert result.returncode == 2
    assert f"s3://bucket/team ({CONFIG} is as it was): 5 problems" in result.stderr
    assert all(f'"{action}"' in result.stdout for action in NEEDED)
    assert SECRET not in result.stdout + result.stderr
