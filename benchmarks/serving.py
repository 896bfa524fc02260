"""The served ensemble: are 200 mixed requests answered rightly, and how fast is it against plain calls in Python?

    python benchmarks/serving.py [WORKSPACE] [--images 64] [--requests 4] [--rounds 7]

WORKSPACE is the folder of a finished `dvc repro` (default: here). The script starts `mlflow models serve` for its
champion on loopback and takes both sides in turns: the same images over HTTP as base64 JSON, and in this process, from
the files' bytes, what one would write without the ensemble class. With the default pipeline it takes about two minutes.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.folder import Spec, View, network_file, read_spec
from labelstack.images.shards.shard_files import read_shard, shard_paths
from labelstack.params import load_params
from labelstack.predictions import Predictions, assemble_cube
from labelstack.registry.versions import download, resolve
from labelstack.support.quiet import load_tensorflow
from labelstack.tracking.runs import Tracker, connect

REQUESTS = 200
Direct = Callable[[list[bytes]], tuple[NDArray[np.float32], NDArray[np.bool_]]]


class Pictures(ThreadingHTTPServer):
    """Images at ``/<index>.jpg``, a page at ``/page.jpg``, 404 for the rest."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, images: list[bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.strip("/").removesuffix(".jpg")
                body = images[int(name)] if name.isdecimal() else b"<html>sold out</html>" if name == "page" else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def pool(workspace: Path, count: int) -> list[bytes]:
    """The first stored images of the test split."""
    found: list[bytes] = []
    for path in shard_paths(workspace / "data/images/test"):
        found += [bytes(data) for data in read_shard(path).bytes if data is not None]
        if len(found) >= count:
            break
    if not found:
        sys.exit(f"{workspace}: no test images in data/images/test; run `dvc repro` there first")
    return (found * (count // len(found) + 1))[:count]


def by_hand(folder: Path, spec: Spec) -> Direct:
    """Plain calls of every member: decode, networks with test-time views, stackers, blend, decision."""
    load_tensorflow()
    from labelstack.images.pixels.decode import to_stored_jpeg
    from labelstack.images.pixels.tta import Looks, id_of
    from labelstack.networks.inference import compile_predict, finish_of, load_model, over_views
    from labelstack.stacking.blending import blend
    from labelstack.stacking.deciding.decisions import Decision
    from labelstack.stacking.stackers.averaging import mean_of
    from labelstack.stacking.stackers.construction import load_fold_ensemble

    settings = spec.settings
    looks = {
        view: Looks(spec.tta(view), view.image_size, view.resize)
        for name in spec.needed_models
        for view in spec.views[name].values()
    }

    def network(name: str, fold: str, view: View) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        model = load_model(folder / network_file(name, fold))
        forward, finish = compile_predict(model, settings.combine), finish_of(model, settings.combine)
        transforms, most = looks[view].transforms, settings.batch_size
        return lambda x: over_views(forward, x, transforms, finish=finish, most=most)

    networks = {
        name: [(view, network(name, fold, view)) for fold, view in spec.views[name].items()]
        for name in spec.needed_models
    }
    stackers = {name: load_fold_ensemble(folder / "stackers" / name) for name in spec.needed_stackers}
    decision = Decision.from_dict(spec.decision)

    def predict(images: list[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        stored = [
            to_stored_jpeg(data, settings.store_size, settings.jpeg_quality, settings.damaged)[0] for data in images
        ]
        pixels = {view: np.stack([look(data, id_of(data)) for data in stored]) for view, look in looks.items()}
        members = {name: mean_of([run(pixels[view]) for view, run in each]) for name, each in networks.items()}
        if stackers:
            ids = np.arange(len(images))
            cube = assemble_cube({name: Predictions(ids, P) for name, P in members.items()}, ids)
            members |= {name: stacker.predict_proba(cube) for name, stacker in stackers.items()}
        P = blend({name: members[name] for name in spec.blended}, spec.blended, exclusive=settings.exclusive)
        return P, decision.decide(P)

    return predict


@contextmanager
def served(tracker: Tracker, name: str, workspace: Path, open_host: str) -> Iterator[int]:
    """The port of `mlflow models serve` for the champion."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "MLFLOW_TRACKING_URI": tracker.uri,
        "LABELSTACK_ALLOW_HOSTS": open_host,
        "LABELSTACK_ALLOW_PATHS": tempfile.gettempdir(),
    }
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=workspace, env=os.environ | environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            while not answers(port):
                if process.poll() is not None:
                    log.seek(0)
                    sys.exit(log.read().decode())
                time.sleep(0.2)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def answers(port: int) -> bool:
    """Whether the server is up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def payload(rows: list[str]) -> bytes:
    """A request's body."""
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}}).encode()


def post(port: int, body: bytes) -> list[dict[str, Any]]:
    """The rows of an answer; raise ``RuntimeError`` on anything but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {text[:300]!r}")
        return list(json.loads(text)["predictions"])
    finally:
        connection.close()


def mixed(images: list[bytes], folder: Path, host: str) -> tuple[list[list[str]], list[list[int | None]]]:
    """Rows of 200 requests, and for each row the index of its image, or None where an error is right."""
    choose = random.Random(2018)
    for index, data in enumerate(images):
        (folder / f"{index}.jpg").write_bytes(data)
    (folder / "note.txt").write_text("no image")
    bad = [str(folder / "gone.jpg"), "!garbage!", f"http://{host}/gone.jpg", str(folder / "note.txt")]
    bad += [f"http://{host}/page.jpg", "http://127.0.0.1:9/private.jpg", base64.b64encode(images[0][:99]).decode()]
    requests: list[list[str]] = []
    expected: list[list[int | None]] = []
    for number in range(REQUESTS):
        rows: list[str] = []
        truth: list[int | None] = []
        for _ in range(1 + number % 4):
            index = choose.randrange(len(images))
            text = base64.b64encode(images[index]).decode()
            good = [str(folder / f"{index}.jpg"), text, f"data:image/jpeg;base64,{text}", f"http://{host}/{index}.jpg"]
            is_good = choose.random() < 0.6
            rows.append(choose.choice(good if is_good else bad))
            truth.append(index if is_good else None)
        requests.append(rows)
        expected.append(truth)
    return requests, expected


def check(port: int, images: list[bytes], host: str, right: list[list[int]]) -> str:
    """Send 200 mixed requests, four at a time; the table's line, or exit with what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        requests, expected = mixed(images, Path(folder), host)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda rows: post(port, payload(rows)), requests))
    wrong = []
    for rows, truth, answer in zip(requests, expected, found, strict=True):
        for row, index, got in zip(rows, truth, answer, strict=True):
            good = not got["error"] and got["label_id"] == right[index] if index is not None else bool(got["error"])
            if not good:
                wrong.append(f"{row[:80]}: {got}")
    if wrong:
        sys.exit("\n".join([f"{len(wrong)} rows answered wrongly", *wrong[:10]]))
    flat = [index for truth in expected for index in truth]
    return (
        f"{REQUESTS} of {REQUESTS} requests answered rightly: {len(flat)} rows, {flat.count(None)} of them bad images"
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", nargs="?", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=64, help="in one request")
    parser.add_argument("--requests", type=int, default=4, help="in one round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    workspace = options.workspace.resolve()
    params = load_params(workspace / "params.yaml")
    tracker = connect(params.tracking, workspace, create=False)
    version = resolve(tracker, "@champion")
    images = pool(workspace, options.images * options.requests)
    batches = [images[i : i + options.images] for i in range(0, len(images), options.images)]
    bodies = [payload([base64.b64encode(data).decode() for data in batch]) for batch in batches]
    pictures = Pictures(images)
    with tempfile.TemporaryDirectory() as temporary, served(tracker, version.name, workspace, pictures.host) as port:
        folder = download(tracker, f"models:/{version.name}/{version.version}", "", Path(temporary))
        spec = read_spec(folder)
        direct = by_hand(folder, spec)
        decided = np.concatenate([direct(batch)[1] for batch in batches])
        right = [[spec.label_id[i] for i in np.flatnonzero(row)] for row in decided]
        line = check(port, images, pictures.host, right)
        ways: dict[str, Callable[[], object]] = {
            "members called directly": lambda: [direct(batch) for batch in batches],
            "served, one request at a time": lambda: [post(port, body) for body in bodies],
            "served, two requests at a time": lambda: list(two.map(lambda body: post(port, body), bodies)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        with ThreadPoolExecutor(2) as two:
            for turn in range(options.rounds + 1):
                for name, work in ways.items():
                    taken = timed(work)
                    if turn:  # the first round warms up
                        seconds[name].append(taken)
    members = f"{len(spec.needed_models)} base models, {len(spec.needed_stackers)} stackers"
    print(f"{version.name} v{version.version}: {members}")
    print(line)
    print(f"{options.rounds} rounds of {len(bodies)} × {options.images} images, medians; ratio: median of the rounds'")
    reference = seconds["members called directly"]
    print(f"\n{'':32}{'images/s':>10}{'ratio':>8}")
    for name, found in seconds.items():
        ratio = statistics.median(r / t for r, t in zip(reference, found, strict=True))
        print(f"{name:32}{len(images) / statistics.median(found):>10.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
