"""The team's server: a real PostgreSQL, an S3 server over HTTP, two people who register at the same moment."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow.server.security_utils import is_allowed_host_header
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy.engine import make_url

from labelstack.commands import server
from labelstack.support.storage import sha256
from labelstack.tracking.store import resolve_uri
from postgres import Postgres, postgres
from s3_server import CREDENTIALS, Proxy, objects, s3_server
from team_server import TeamServer, free_port, refused, team_server
from tiny import PATIENCE, Workspace, environment
from tiny import typed as one_process

PASSWORD = "pg-0f3b9c-of-the-test"


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres(PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def store() -> Iterator[Proxy]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in CREDENTIALS.items():
            patch.setenv(key, value)
        with s3_server() as url, Proxy(url) as proxy:
            yield proxy


@pytest.fixture(scope="module")
def s3(store: Proxy) -> str:
    return store.url


def settings(database: Postgres, name: str, s3: str, **more: str) -> dict[str, str]:
    return {
        "LABELSTACK_DATABASE": database.uri(name),
        "PGPASSWORD": PASSWORD,
        "LABELSTACK_ARTIFACTS": "s3://bucket/team",
        "MLFLOW_S3_ENDPOINT_URL": s3,
        **CREDENTIALS,
        **more,
    }


@pytest.fixture(scope="module")
def team(database: Postgres, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    database.create("team")
    with team_server(tmp_path_factory.mktemp("team"), settings(database, "team", s3)) as running:
        yield running


def client_environment(url: str) -> dict[str, str]:
    """A person's shell: the server's address, no keys of S3 or PostgreSQL."""
    return {k: v for k, v in environment(quick=True).items() if not k.startswith("AWS_")} | {"MLFLOW_TRACKING_URI": url}


def typed(folder: Path, url: str, *command: str, **more: str) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=client_environment(url) | more, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_two_people_who_register_at_once_make_two_whole_versions(
    team: TeamServer, database: Postgres, store: Proxy, s3: str, finished: Workspace, tmp_path: Path
) -> None:
    first, second = finished.copy(tmp_path / "first"), finished.copy(tmp_path / "second")
    second.params(blend={"method": "equal"})
    second.run(*one_process("stage blend", "stage evaluate", "stage submit"))

    started = [
        subprocess.Popen(
            ["labelstack", "stage", "register"], cwd=each.root, env=client_environment(team.url),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for each in (first, second)
    ]  # fmt: skip
    for process in started:
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said

    registered = [json.loads((w.root / "models/ensemble/registration.json").read_text()) for w in (first, second)]
    assert sorted(int(each["version"]) for each in registered) == [1, 2]
    assert len({each["digest"] for each in registered}) == 2
    aliases = dict(
        row[:2]
        for row in database.query("team", "SELECT alias, version FROM registered_model_aliases")  # type: ignore[misc]
    )
    assert {"candidate", "champion"} <= set(aliases)
    assert set(aliases.values()) <= {1, 2}

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    photo = next((finished.root / "data/sample/images/test").glob("*.jpg"))
    for each, workspace in zip(registered, (first, second), strict=True):
        ((run_id, artifacts),) = database.query(
            "team",
            "SELECT r.run_uuid, r.artifact_uri FROM model_versions v JOIN runs r ON v.run_id = r.run_uuid "
            f"WHERE v.version = {each['version']}",
        )
        assert run_id == each["run_id"]
        assert str(artifacts).startswith("mlflow-artifacts:/")  # through the server, so clients need no keys
        to = folder / str(each["version"])
        fetch = ("mlflow", "artifacts", "download", "-u", each["uri"], "-d", str(to))
        typed(folder, team.url, *fetch, MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false")
        (blend,) = to.rglob("blend.json")
        assert blend.read_bytes() == (workspace.root / "models/ensemble/blend.json").read_bytes()
        networks = sorted((workspace.root / "models/networks").glob("*/all/model.keras"))
        assert networks
        assert {sha256(file) for file in networks} <= {sha256(file) for file in to.rglob("*.keras")}
        (checksums,) = to.rglob("checksums.json")
        for name, digest in json.loads(checksums.read_text()).items():
            assert sha256(checksums.parent / name) == digest
        predicted = typed(folder, team.url, "labelstack", "predict", "--model", each["uri"], str(photo))
        assert f"1 of 1 images labelled by labelstack v{each['version']}" in predicted
    assert not [one.target for one in store.requests if "X-Amz-Signature" in one.target]  # people never went to S3
    stored = objects(s3, prefix="team/")
    assert sum(key.endswith("/blend.json") for key in stored) >= 2

    again = typed(first.root, team.url, "labelstack", "stage", "register")
    assert "registered before" in again
    assert database.query("team", "SELECT count(*) FROM model_versions") == [(2,)]


def test_a_stage_logs_its_run_to_the_server(team: TeamServer, database: Postgres, finished: Workspace) -> None:
    workspace = finished
    before = database.query("team", "SELECT count(*) FROM runs WHERE name = 'stack/xgboost'")
    copied = workspace.copy(team.log.parent / "logs")
    typed(copied.root, team.url, "labelstack", "stage", "stack", "xgboost")
    after = database.query("team", "SELECT count(*) FROM runs WHERE name = 'stack/xgboost'")
    assert after[0][0] == before[0][0] + 1  # type: ignore[operator]
    run = json.loads((copied.root / "models/stackers/xgboost/run.json").read_text())
    logged = dict(
        row[:2]
        for row in database.query("team", f"SELECT key, value FROM metrics WHERE run_uuid = '{run['run_id']}'")  # type: ignore[misc]
    )
    assert logged["samples_f1_cross_fitted"] == run["metrics"]["samples_f1_cross_fitted"]
    assert run["tracking_uri"] == team.url


def test_ps_and_the_log_show_no_secret(team: TeamServer) -> None:
    shown = team.commands() + team.log.read_text()
    assert "mlflow server" in shown
    assert "postgresql+psycopg2://labelstack@127.0.0.1" in shown
    for secret in (PASSWORD, CREDENTIALS["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in shown


def test_the_server_listens_on_loopback_and_knows_its_names_only(team: TeamServer) -> None:
    search = f"{team.url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(search, timeout=10).status_code == 200
    assert requests.get(search, headers={"Host": "evil.example"}, timeout=10).status_code == 403
    assert team.listening() == {("127.0.0.1", int(team.url.rpartition(":")[2]))}


@pytest.mark.long
def test_a_name_that_is_allowed_may_change_things_from_the_browser_and_a_password_in_the_uri_stays_hidden(
    database: Postgres, tmp_path: Path
) -> None:
    name = "ml.team.example"
    database.create("named")
    found = {
        "LABELSTACK_DATABASE": database.uri("named", password=True).replace("postgresql://", "postgres://"),
        "LABELSTACK_ARTIFACTS": str(tmp_path / "artifacts"),
    }
    with team_server(tmp_path, found, "--allow", name) as named:
        search = f"{named.url}/ajax-api/2.0/mlflow/runs/search"
        port = named.url.rpartition(":")[2]

        def posted(host: str, origin: str) -> int:
            headers = {"Host": host, "Origin": origin}
            return requests.post(search, json={"experiment_ids": ["0"]}, headers=headers, timeout=10).status_code

        assert posted(f"{name}:{port}", f"http://{name}:{port}") == 200
        assert posted(name, f"https://{name}") == 200  # behind a proxy with TLS
        assert posted(f"127.0.0.1:{port}", "https://elsewhere.example") == 403
        assert posted("elsewhere.example", f"http://{name}:{port}") == 403
        assert PASSWORD not in named.commands() + named.log.read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"PGPASSWORD": "wrong-7c1"}, "password authentication failed"),
        ({"PGPASSWORD": ""}, "no password supplied (a password goes into PGPASSWORD, or ~/.pgpass)"),
        ({"LABELSTACK_DATABASE": "postgresql://labelstack@127.0.0.1:{port}/nowhere"}, "does not exist"),
        ({"LABELSTACK_DATABASE": "postgresql://labelstack@127.0.0.1:{closed}/team"}, "Connection refused"),
        ({"LABELSTACK_DATABASE": "postgresql://u@no-such-host.invalid/team"}, "could not translate host name"),
        ({"LABELSTACK_DATABASE": "sqlite:///mlflow.db"}, "is not a PostgreSQL URI"),
        ({"LABELSTACK_DATABASE": "postgresql://u:secret-7c1@h:x/d"}, "is not a PostgreSQL URI"),
        ({"LABELSTACK_DATABASE": "mysql://u:secret-7c1@h/d"}, "is not a PostgreSQL URI"),
        ({"LABELSTACK_ARTIFACTS": "s3://no-such-bucket/team"}, "no-such-bucket"),
        ({"LABELSTACK_ARTIFACTS": "ftp://somewhere/x"}, "LABELSTACK_ARTIFACTS: expected s3://bucket/prefix"),
        ({"LABELSTACK_ARTIFACTS": "s3://key:secret-7c1@bucket/x"}, "holds credentials"),
        ({"MLFLOW_S3_ENDPOINT_URL": "http://me:secret-7c1@h"}, "MLFLOW_S3_ENDPOINT_URL holds credentials"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "credentials"),
        ({"LABELSTACK_ARTIFACTS": "{file}/below"}, "can't be written"),
    ],
)
def test_what_is_wrong_is_said_before_the_server_starts(
    database: Postgres, s3: str, tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    filled = {
        key: value.replace("{port}", str(database.port))
        .replace("{closed}", str(free_port()))
        .replace("{file}", str(file))
        for key, value in change.items()
    }
    said = refused(tmp_path, settings(database, "postgres", s3, HOME=str(tmp_path)) | filled)
    assert expected in said
    assert "1 problem\n" in said
    assert not [secret for secret in (PASSWORD, "7c1", *list(CREDENTIALS.values())[:2]) if secret in said]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, {})
    assert "2 problems" in said
    assert "LABELSTACK_DATABASE: is not set" in said
    assert "LABELSTACK_ARTIFACTS: is not set" in said
    closed = f"postgresql://u:secret-7c1@127.0.0.1:{free_port()}/d"
    said = refused(tmp_path, {"LABELSTACK_DATABASE": closed, "LABELSTACK_ARTIFACTS": "/proc/x"}, "--host", "192.0.2.1")
    assert "3 problems" in said
    assert "7c1" not in said


def test_tables_of_another_mlflow_are_told_with_the_command_that_mends_them(
    database: Postgres, s3: str, tmp_path: Path
) -> None:
    for name, version, expected in (
        (
            "old",
            "451aebb31d03",
            "older MLflow: back the database up with pg_dump, then run `mlflow db upgrade postgresql",
        ),
        ("new", "ffffffffffff", "newer MLflow: install that one here"),
    ):
        database.create(name)
        database.query(name, "CREATE TABLE alembic_version (version_num VARCHAR(32))", rows=False)
        database.query(name, f"INSERT INTO alembic_version VALUES ('{version}')", rows=False)
        assert expected in refused(tmp_path, settings(database, name, s3))


def test_the_server_is_told_what_it_needs_by_its_environment() -> None:
    typed = {
        "LABELSTACK_DATABASE": "postgres://me:secret-7c1@host:5433/db?sslmode=require&password=other-7c1",
        "LABELSTACK_ARTIFACTS": "s3://bucket/team/",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "PATH": "/bin",
    }
    found = server.settings(typed)
    assert "7c1" not in repr(found)
    told = server.environment(found, typed, server.names("127.0.0.1", ["ml.example"]), 5001)
    assert told["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg2://me@host:5433/db?sslmode=require"
    assert told["PGPASSWORD"] == "secret-7c1"
    assert told["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://bucket/team"
    assert told["PATH"] == "/bin"
    assert not {"LABELSTACK_DATABASE", "LABELSTACK_ARTIFACTS", "MLFLOW_TRACKING_URI"} & set(told)
    for host in ("localhost:5001", "[::1]:5001", "[::1]", "ml.example", "ml.example:443"):
        assert is_allowed_host_header(told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","), host)
    assert not is_allowed_host_header(told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","), "ml.example.evil:5001")
    assert "https://ml.example" in told["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    own = typed | {"MLFLOW_SERVER_ALLOWED_HOSTS": "mine"}
    assert server.environment(found, own, [], 5001)["MLFLOW_SERVER_ALLOWED_HOSTS"] == "mine"
    checksums = {"AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"}
    assert not checksums & set(told)
    elsewhere = server.environment(found, typed | {"MLFLOW_S3_ENDPOINT_URL": "http://s3:9000"}, [], 5001)
    assert {elsewhere[name] for name in checksums} == {"when_required"}  # some servers know nothing of them
    in_files = server.settings(typed | {"LABELSTACK_ARTIFACTS": "/data/a%20b?c"})
    told = server.environment(in_files, typed, [], 5001)
    assert told["MLFLOW_ARTIFACTS_DESTINATION"] == "file:///data/a%2520b%3Fc"
    assert local_file_uri_to_path(told["MLFLOW_ARTIFACTS_DESTINATION"]) == "/data/a%20b?c"


def test_an_open_server_answers_to_this_machine_s_name() -> None:
    assert server.names("127.0.0.1", []) == ["localhost", "127.0.0.1", "[::1]"]
    for anywhere in ("0.0.0.0", "::"):
        found = server.names(anywhere, [])
        assert {socket.gethostname(), "localhost"} <= set(found)
        assert anywhere not in found
    assert "192.0.2.7" in server.names("192.0.2.7", [])


def test_a_database_without_server_is_opened_by_the_driver_that_is_installed(tmp_path: Path) -> None:
    for uri in ("postgresql://me@host/db", "postgresql+psycopg2://me@host/db", "PostgreSQL://me@host/db"):
        assert make_url(resolve_uri(uri, tmp_path)).get_dialect().import_dbapi().__name__ == "psycopg2"
