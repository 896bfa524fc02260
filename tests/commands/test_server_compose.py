"""The compose file and the image of docs/server: what they start is what `labelstack server` needs."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from tiny import REPOSITORY, environment


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "docs/server/compose.yaml").read_text())


def test_the_compose_file_gives_the_server_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    server = services["server"]
    needed = {"LABELSTACK_DATABASE", "LABELSTACK_ARTIFACTS", "MLFLOW_S3_ENDPOINT_URL", "PGPASSWORD"}
    needed |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert needed <= set(server["environment"])
    assert server["environment"]["LABELSTACK_DATABASE"] == "postgresql://labelstack@database/labelstack"
    assert server["environment"]["MLFLOW_S3_ENDPOINT_URL"] == "http://storage:9000"
    assert services["database"]["environment"]["POSTGRES_DB"] == "labelstack"
    assert services["database"]["environment"]["POSTGRES_USER"] == "labelstack"
    assert server["depends_on"] == {
        "database": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    bucket = server["environment"]["LABELSTACK_ARTIFACTS"].removeprefix("s3://").partition("/")[0]
    assert bucket in json.dumps(services["bucket"])


def test_the_compose_file_keeps_secrets_and_ports_to_itself(compose: dict[str, Any]) -> None:
    secrets = [
        value
        for service in compose["services"].values()
        for key, value in service.get("environment", {}).items()
        if "PASSWORD" in key or "SECRET" in key or "ACCESS_KEY" in key
    ]
    assert len(secrets) >= 6
    assert all(value.startswith("${") and ":?" in value for value in secrets)
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {"database", "storage"} == set(compose["volumes"])
    for name in ("database", "storage", "server"):
        assert compose["services"][name]["healthcheck"]["test"]
        assert compose["services"][name]["restart"] == "unless-stopped"


def test_the_image_installs_the_lock_file_and_starts_the_command() -> None:
    lines = (REPOSITORY / "docs/server/Dockerfile").read_text().splitlines()
    assert lines[0].startswith("FROM python:3.11-slim")
    assert any("requirements.lock" in line for line in lines)
    (command,) = [line.partition(" ")[2] for line in lines if line.startswith("CMD")]
    first, second, *options = json.loads(command)
    assert (first, second) == ("labelstack", "server")
    listed = subprocess.run(["labelstack", "server", "--help"], env=environment(), capture_output=True, text=True)
    assert all(option in listed.stdout for option in options if option.startswith("--"))
    user = [line.split()[1] for line in lines if line.startswith("USER")]
    assert user
    assert user[-1] != "root"
