"""What a person sees in the MLflow UI after a run, through `labelstack ui` and a real browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import browser
from pipeline.tiny import Workspace, environment

# Where the pictures go; the README shows those of a run of the embedded default.
PICTURES = os.environ.get("LABELSTACK_SCREENSHOTS")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def ui(finished: Workspace) -> Iterator[str]:
    """The UI that `make ui` opens, over the finished workspace."""
    port = free_port()
    process = subprocess.Popen(
        ["labelstack", "ui", "--port", str(port)],
        cwd=finished.root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "labelstack ui ended"
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_runs_table_and_a_run_page(ui: str, finished: Workspace, tmp_path: Path) -> None:
    pictures = Path(PICTURES) if PICTURES else tmp_path
    run = json.loads((finished.root / "models/base/wide/run.json").read_text())
    experiment, run_id = run["experiment_id"], run["run_id"]
    with browser() as window:
        window.viewport(1500, 900)
        window.open(
            f"{ui}/#/experiments/{experiment}/runs?compareRunsMode=TABLE",
            until="document.body.innerText.includes('train/wide')",
            timeout_s=120,
        )
        window.wait("document.body.innerText.includes('samples_f1')", timeout_s=60)
        table = window.text()
        for name in ("train/wide", "train/deep", "stack/cnn", "stack/xgboost", "blend/ensemble"):
            assert name in table
        assert "samples_f1" in table
        window.screenshot(pictures / "mlflow-runs.png")

        window.open(
            f"{ui}/#/experiments/{experiment}/runs/{run_id}",
            until="document.body.innerText.includes('samples_f1_cross_fitted')",
            timeout_s=60,
        )
        assert "models.wide" in window.text() or "backbone" in window.text()
        window.screenshot(pictures / "mlflow-run.png")

        window.open(
            f"{ui}/#/experiments/{experiment}/runs/{run_id}/model-metrics",
            until="document.querySelector('.js-plotly-plot, .plotly') && document.body.innerText.includes('loss')",
            timeout_s=60,
        )
        window.screenshot(pictures / "mlflow-curves.png")

        window.open(
            f"{ui}/#/experiments/{experiment}/runs/{run_id}/artifacts",
            until="document.body.innerText.includes('thresholds.json')",
            timeout_s=60,
        )
        for name in ("model", "plots", "history.csv", "thresholds.json"):
            assert name in window.text()
        window.screenshot(pictures / "mlflow-artifacts.png")
    for name in ("mlflow-runs", "mlflow-run", "mlflow-curves", "mlflow-artifacts"):
        assert (pictures / f"{name}.png").stat().st_size > 20_000


def test_the_report_of_a_real_run(finished: Workspace, tmp_path: Path) -> None:
    pictures = Path(PICTURES) if PICTURES else tmp_path
    page = (finished.root / "report/index.html").as_uri()
    with browser() as window:
        for name, width, height, phone in (("report", 1280, 900, False), ("report-phone", 390, 844, True)):
            window.viewport(width, height, phone=phone)
            window.open(page)
            assert window.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
            assert window.evaluate("innerWidth") == width
            assert window.count(".gallery img") >= 24
            window.screenshot(pictures / f"{name}.png")
        assert window.console_errors() == []
        text = window.text()
    for name in ("wide", "deep", "cnn", "xgboost", "blend"):
        assert name in text
