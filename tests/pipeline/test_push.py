"""The README's chapter on S3, typed against an S3 server over HTTP: push, clone, pull, nothing left to do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.tiny import Workspace, environment

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
    yield url
    server.stop()


def run(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_push_then_a_clone_has_nothing_to_do(finished: Workspace, tmp_path: Path, s3: str) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    finished.copy(origin)
    run(origin, "dvc", "remote", "add", "-d", "storage", "s3://bucket/labelstack")
    run(origin, "dvc", "remote", "modify", "storage", "endpointurl", s3)
    run(origin, "dvc", "push")
    run(origin, "git", "add", "dvc.lock", "metrics", ".dvc/config")
    run(origin, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "Run")
    for file in (origin / ".dvc/config", origin / "dvc.lock"):
        assert "secret-of-the-test" not in file.read_text()

    run(tmp_path, "git", "clone", "-q", str(origin), str(clone))
    run(clone, "dvc", "pull")
    assert "Running stage" not in run(clone, "dvc", "repro")
    for folder in ("models", "data/predictions", "submission"):
        files = [file for file in (origin / folder).rglob("*") if file.is_file() and file.name != ".gitignore"]
        assert files
        for file in files:
            assert (clone / file.relative_to(origin)).read_bytes() == file.read_bytes()
