"""A walk through MLflow UI and report of a finished run, as a person would take it, with pictures.

The tests take it over the tiny workspace. The README's pictures come from the run in the project's folder:
`PYTHONPATH=tests python -m ui_pictures . docs/images plain_cnn`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from browser import Browser, browser
from labelstack.tracking.views import view_url
from tiny import PATIENCE, environment

_CELLS = """[...document.querySelectorAll('.ag-row [col-id]')].map(cell =>
    [cell.closest('.ag-row').getAttribute('row-index'), cell.getAttribute('col-id'), cell.innerText])"""


@contextmanager
def mlflow_ui(root: Path) -> Iterator[str]:
    """The server that `make ui` starts, on a free port; yields its URL."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    process = subprocess.Popen(
        ["labelstack", "ui", "--port", str(port)],
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, "labelstack ui ended"
            assert time.monotonic() < deadline, "labelstack ui does not answer"
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def runs_table(window: Browser, url: str, experiment: str, picture: Path) -> list[dict[str, str]]:
    """The runs table as the link of `labelstack ui` shows it; for each run the texts of its cells by column."""
    window.open(
        view_url(experiment, url), until="document.body.innerText.includes('blend/ensemble')", timeout_s=PATIENCE
    )
    close_panels(window)
    # datasets, models and scores come with answers of their own
    window.wait(f"({_CELLS}).some(([, column, text]) => column === 'attributes.`Models`' && text.trim() !== '-')")
    window.screenshot(picture)
    rows: dict[str, dict[str, str]] = {}
    for row, column, text in window.evaluate(_CELLS):
        rows.setdefault(row, {})[column.replace("`", "").partition(".")[2] or column] = text
    return list(rows.values())


def run_page(window: Browser, url: str, experiment: str, run_id: str, pictures: Path) -> dict[str, str]:
    """Overview, curves and artifacts of one run; returns the text of each."""
    base = f"{url}/#/experiments/{experiment}/runs/{run_id}"
    texts = {}
    for page, path, until in (
        ("run", "", "document.body.innerText.includes('samples_f1_cross_fitted')"),
        ("curves", "/model-metrics", "document.querySelectorAll('.js-plotly-plot svg.main-svg').length > 2"),
        ("artifacts", "/artifacts", "document.body.innerText.includes('thresholds.json')"),
    ):
        window.open(f"{base}{path}", until=until, timeout_s=PATIENCE)
        time.sleep(0.5)  # plots fade in
        window.screenshot(pictures / f"mlflow-{page}.png")
        texts[page] = window.text()
    return texts


def model_page(window: Browser, url: str, experiment: str, model_id: str, picture: Path) -> str:
    """A logged model's files; returns the page's text."""
    window.open(
        f"{url}/#/experiments/{experiment}/models/{model_id}/artifacts",
        until="document.body.innerText.includes('MLmodel')",
        timeout_s=60,
    )
    window.screenshot(picture)
    return window.text()


def registry_pages(window: Browser, url: str, name: str, version: int, pictures: Path) -> dict[str, str]:
    """The registered model's page with its versions, and the page of one; returns the text of each."""
    texts = {}
    for page, path, until in (
        ("registry", f"/models/{name}", f"document.body.innerText.includes('Version {version}')"),
        ("version", f"/models/{name}/versions/{version}", "document.querySelectorAll('table').length > 1"),
    ):
        named = "/candidate|champion/.test(document.body.innerText)"
        window.open(f"{url}/#{path}", until=f"({until}) && {named}", timeout_s=PATIENCE)
        close_panels(window)
        if page == "registry":  # the champions' history stands above the versions
            tables = window.driver.find_elements("css selector", "table, [role=table]")
            window.driver.execute_script("arguments[0].scrollIntoView()", tables[-1])
        window.screenshot(pictures / f"mlflow-{page}.png")
        texts[page] = window.text().replace("\xa0", " ")
    return texts


def compare_page(window: Browser, url: str, experiment: str, run_ids: list[str], picture: Path) -> str:
    """The comparison of runs: its text without params that are equal; the picture shows the scores."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [experiment]))
    window.open(
        f"{url}/#/compare-runs?runs={runs}&experiments={experiments}",
        until="document.body.innerText.includes('Show diff only')",
        timeout_s=PATIENCE,
    )
    close_panels(window)
    window.find('button[aria-label="Parameters - Show diff only"]').click()
    plots, _, params, *_ = window.driver.find_elements("css selector", ".du-bois-light-collapse-header")
    plots.click()
    window.wait("!document.body.innerText.includes('Parallel Coordinates Plot')")
    text = window.text()
    params.click()
    time.sleep(1)  # sections fold up
    window.screenshot(picture)
    return text


def close_panels(window: Browser) -> None:
    """Close what MLflow opens over a page."""
    for button in window.driver.find_elements("css selector", 'button[aria-label="Close"]'):
        button.click()


def report(window: Browser, page: Path, pictures: Path) -> None:
    """The report at desktop and phone width; it may not scroll sideways, nor complain in the console."""
    for name, width, height, phone in (("report", 1280, 900, False), ("report-phone", 390, 844, True)):
        window.viewport(width, height, phone=phone)
        window.open(page.resolve().as_uri())
        assert window.evaluate("innerWidth") == width
        assert window.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert window.count(".gallery img") >= 24
        window.screenshot(pictures / f"{name}.png")


def main(root: Path, pictures: Path, model: str) -> None:
    """Take all pictures of a finished run."""
    run = json.loads((root / "models/base" / model / "run.json").read_text())
    with mlflow_ui(root) as url, browser() as window:
        window.viewport(1700, 760)
        runs_table(window, url, run["experiment_id"], pictures / "mlflow-runs.png")
        run_page(window, url, run["experiment_id"], run["run_id"], pictures)
        registered = json.loads((root / "models/ensemble/registration.json").read_text())
        registry_pages(window, url, registered["name"], int(registered["version"]), pictures)
        runs = [json.loads(file.read_text()) for file in sorted((root / "models/stackers").glob("*/run.json"))]
        ids = [each["run_id"] for each in runs[:2]]
        compare_page(window, url, run["experiment_id"], ids, pictures / "mlflow-compare.png")
        report(window, root / "report/index.html", pictures)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
