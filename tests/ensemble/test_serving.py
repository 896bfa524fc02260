"""The registered ensemble behind `mlflow models serve` and `mlflow models predict`, as a user types them."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stores import answers, free_port, wait_for
from tiny import PATIENCE, Workspace, environment

CHAMPION = ["-m", "models:/labelstack@champion", "--env-manager", "local"]
STORE = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder."""

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@dataclass
class Served:
    """A running server; ``submitted`` holds the submission's labels by the file name of the image."""

    port: int
    web: str
    folder: Path
    log: Path
    submitted: dict[str, list[int]]

    def post(self, body: Any) -> tuple[int, Any]:
        """Status and content of an answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def rows(self, images: list[Any], **params: Any) -> list[dict[str, Any]]:
        """The answer's rows."""
        body: dict[str, Any] = {"dataframe_records": [{"image": image} for image in images]}
        status, content = self.post(body | ({"params": params} if params else {}))
        assert status == 200, content
        return list(content["predictions"])


def submitted(root: Path) -> dict[str, list[int]]:
    (file,) = (root / "submission").glob("*.csv")
    lines = [line.split(",") for line in file.read_text().splitlines()[1:]]
    return {f"{image}.jpg": [int(label) for label in labels.split()] for image, labels in lines}


@pytest.fixture(scope="module")
def served(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = finished.root / "data/sample/images/test"
    site = Site(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=site.serve_forever, daemon=True).start()
    web, port = f"127.0.0.1:{site.server_address[1]}", free_port()
    log = tmp_path_factory.mktemp("served") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["mlflow", "models", "serve", *CHAMPION, "--port", str(port)],
            cwd=finished.root, stdout=output, stderr=output, start_new_session=True,
            env=environment() | STORE | {"LABELSTACK_ALLOW_HOSTS": web, "LABELSTACK_ALLOW_PATHS": str(folder)},
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), 120)
        assert process.poll() is None, log.read_text()
        yield Served(port, web, folder, log, submitted(finished.root))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        site.shutdown()
        site.server_close()


def test_200_mixed_requests_are_all_answered_rightly(served: Served, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    names = sorted(served.submitted)
    truncated = base64.b64encode((served.folder / names[0]).read_bytes()[:300]).decode()
    bad = [
        "gone.jpg",
        str(tmp_path / "note.txt"),
        "/proc/kmsg",
        "/dev/zero",
        "!garbage!",
        truncated,
        None,
        7,
        "file:///etc/passwd",
    ]
    bad += [f"http://{served.web}/gone.jpg", "http://127.0.0.1:9/x.jpg", "http://169.254.169.254/latest", str(tmp_path)]
    choose = random.Random(1)

    def request(number: int) -> tuple[list[Any], list[list[int] | None]]:
        images: list[Any] = []
        expected: list[list[int] | None] = []
        for _ in range(1 + number % 3):
            name = choose.choice(names)
            file = served.folder / name
            text = base64.b64encode(file.read_bytes()).decode()
            ways = [str(file), f"data/sample/images/test/{name}", text, f"http://{served.web}/{name}"]
            good = choose.random() < 0.6
            images.append(choose.choice(ways if good else bad))
            expected.append(served.submitted[name] if good else None)
        return images, expected

    requests = [request(number) for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(served.rows, [images for images, _ in requests]))
    for (images, expected), rows in zip(requests, found, strict=True):
        assert len(rows) == len(images)
        for image, labels, row in zip(images, expected, rows, strict=True):
            if labels is None:
                assert row["error"], image
                assert "\n" not in row["error"]
                assert row["label_id"] == row["labels"] == row["probability"] == []
            else:
                assert row["error"] is None, image
                assert row["label_id"] == labels, image
                assert len(row["labels"]) == len(row["probability"]) == len(labels)


def test_all_probabilities_on_request(served: Served) -> None:
    name = min(served.submitted)
    image = str(served.folder / name)
    (short,) = served.rows([image])
    (row,) = served.rows([image], all_probabilities=True)
    assert "probabilities" not in short
    labels = json.loads((served.folder.parents[3] / "metrics/evaluation.json").read_text())["n_labels"]
    assert len(row["probabilities"]) == labels
    assert set(row["probability"]) <= set(row["probabilities"])
    assert all("::" in label for label in row["labels"])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"dataframe_records": [{"picture": "a.jpg"}]}, "missing inputs ['image']"),
        ({"rows": [{"image": "a.jpg"}]}, "exactly one of the input fields"),
        (b"{nonsense", "valid JSON"),
    ],
)
def test_requests_that_hold_no_images_are_refused_clearly(served: Served, body: Any, text: str) -> None:
    status, content = served.post(body)
    assert status == 400
    assert text in content


def test_too_many_rows_are_refused_with_413(served: Served) -> None:
    status, content = served.post({"dataframe_records": [{"image": "!"}] * 257})
    assert status == 413
    assert "257 rows in one request; this server takes at most 256" in content


def test_no_rows_no_answers(served: Served) -> None:
    body = {"dataframe_split": {"columns": ["image"], "data": []}}
    assert served.post(body) == (200, {"predictions": []})


def test_the_log_is_quiet_and_tells_no_secrets(served: Served) -> None:
    (row,) = served.rows([f"http://ann:hunter2@{served.web}/gone.jpg?token=hunter2"])
    assert row["error"] == f"{served.web}: answered HTTP 404 (Not Found)"
    time.sleep(0.1)
    log = served.log.read_text()
    assert "hunter2" not in log
    for chatter in ("cuda", "oneDNN", "TF-TRT", "AVX", "Traceback", "%|"):
        assert chatter not in log


def test_mlflow_models_predict(finished: Workspace, tmp_path: Path) -> None:
    labels = submitted(finished.root)
    name = max(labels)
    rows = [{"image": f"data/sample/images/test/{name}"}, {"image": "gone.jpg"}]
    (tmp_path / "images.json").write_text(json.dumps({"dataframe_records": rows}))
    done = subprocess.run(
        ["mlflow", "models", "predict", *CHAMPION, "-i", str(tmp_path / "images.json")],
        cwd=finished.root, env=environment() | STORE | {"LABELSTACK_ALLOW_PATHS": "data/sample"}, capture_output=True,
        text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    good, bad = json.loads(done.stdout)["predictions"]
    assert good["label_id"] == labels[name]
    assert bad["error"] == "gone.jpg: neither an image file in a folder that is open to requests nor base64 of one"
    assert "cuda" not in done.stderr
