"""A tracking server that does not answer is known before any work."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from team_server import free_port
from tiny import PATIENCE, Workspace, environment


def test_the_pipeline_stops_at_once_when_the_server_of_params_is_dead(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        workspace.params(tracking={"uri": url})
        ended = workspace.run("dvc", "repro", ok=False)
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # asked once, by the first stage
            silent.accept()
    assert ended.returncode != 0
    assert f"MLflow at {url}: no answer within 5 s. Start the server, or set tracking.uri" in ended.stderr
    assert re.findall("Running stage '([^']+)'", ended.stdout) == ["settings", "sample"]
    assert not (workspace.root / "data/sample").exists()


@pytest.mark.parametrize("stage", [("ingest",), ("download", "train")])
def test_later_first_stages_see_it_too_and_show_no_password(copied: Workspace, stage: tuple[str, ...]) -> None:
    port = free_port()
    before = (copied.root / "metrics/ingest.json").stat().st_mtime_ns
    ended = subprocess.run(
        ["labelstack", "stage", *stage], cwd=copied.root, capture_output=True, text=True, timeout=PATIENCE,
        env=environment() | {"MLFLOW_TRACKING_URI": f"http://me:geheim-5d1@127.0.0.1:{port}"},
    )  # fmt: skip
    assert ended.returncode == 2
    assert f"MLflow at http://127.0.0.1:{port}: no answer" in ended.stderr
    assert "5d1" not in ended.stdout + ended.stderr
    assert (copied.root / "metrics/ingest.json").stat().st_mtime_ns == before


def test_a_database_costs_the_first_stages_no_import_of_mlflow() -> None:
    script = (
        "import sys\n"
        "from labelstack.params import Params\n"
        "from labelstack.stages.common import reachable\n"
        "reachable(Params(models={'a': {'backbone': 'small_cnn'}}, stackers={'b': {'kind': 'mean'}}))\n"
        "print('mlflow' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"
