"""A served ensemble under good, bad and hostile requests: is all answered rightly, and does its memory stay flat?

    python benchmarks/serving_soak.py [--minutes 5] [--clients 4] [--seed 1] [--plain]

A tiny ensemble of untrained networks is stored in a folder of its own and served on loopback by MLflow's application
behind labelstack's limits (``ensemble/guarded_app.py``); ``--plain``: without them, as `mlflow models serve` does.
Clients send mixed requests until the time is over: images as base64, paths and URLs, whose labels must be those that
the same ensemble gives in this process; rows that must end in an error; bodies that must be refused with 400, 413 or
415. Every answer is checked; rows for which no time was left, a stated limit, are counted apart. The exit code is 1
if one was wrong, if there was any 5xx but a stated 503, or if the server holds more than 1.2 times at the end of what
it held after a fifth of the time.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from images import bombs
from labelstack.ensemble.folder import ONLY, EnsembleSettings, NetworkPart, Parts, View, assemble_folder
from labelstack.support.quiet import load_tensorflow

LABELS = 6
GOOD = 24
EVERY_S = 10.0
GROWTH = 1.2
NO_TIME = "no time was left for this image; ask for fewer at once"  # half the server's time limit was over
Check = Callable[[int, Any], str | None]  # status, content → what is wrong


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder."""

    def log_message(self, *_: object) -> None:
        pass


def tiny_parts(folder: Path) -> Parts:
    """Two untrained networks and means of them."""
    load_tensorflow()
    import keras

    from labelstack.networks.inference import save_model
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label
    from labelstack.params.models import HeadSection, ModelSection
    from labelstack.stacking.deciding.decisions import Decision

    head = HeadSection(pooling="average", units=[], dropout=0)
    models = {}
    for seed, (name, size) in enumerate({"one": 16, "two": 24}.items()):
        keras.utils.set_random_seed(seed)
        section = ModelSection(backbone="small_cnn", image_size=size, head=head)
        save_model(build_model(section, multi_label(section, LABELS)), folder / name / "model.keras")
        models[name] = [NetworkPart(ONLY, folder / name / "model.keras", View(size))]
    (folder / "blend.json").write_text(json.dumps({"weights": {"one": 0.6, "two": 0.4}}))
    decision = Decision("global", thresholds=np.full(LABELS, 0.5, np.float32)).to_dict()
    thresholds = {str(i): 0.5 for i in range(LABELS)}
    rule = {"strategy": "global", "thresholds": thresholds, "decision": decision}
    (folder / "thresholds.json").write_text(json.dumps(rule))
    (folder / "requirements.lock").write_text("")
    return Parts(
        models=models,
        stackers={},
        blend=folder / "blend.json",
        thresholds=folder / "thresholds.json",
        labels=[(i, f"=label {i}") for i in range(LABELS)],
        settings=EnsembleSettings(batch_size=16, store_size=64),
    )


def good_images(folder: Path) -> list[Path]:
    """Small pictures in three formats."""
    folder.mkdir(parents=True)
    files = []
    for n in range(GOOD):
        pixels = np.random.default_rng(n).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        suffix, kind = [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")][n % 3]
        files.append(folder / f"{n}.{suffix}")
        Image.fromarray(pixels).resize((80 + n, 90), Image.Resampling.BICUBIC).save(files[-1], kind)
    return files


def hostile_images() -> dict[str, str]:
    """Name → base64 of an image that takes long, much, or is none."""
    big = io.BytesIO()
    Image.new("RGBA", (9_999, 9_999), (9, 99, 199, 99)).save(big, "PNG", compress_level=1)
    made = {
        "scans": bombs.empty_scans(2000, 20_000),
        "some scans": bombs.empty_scans(500, 300),
        "chunks": bombs.png_with(bombs.chunk(b"teXt", b"") * 100_000),
        "exif": bombs.exif_jpeg(bombs.directory(5000, 60_000)),
        "tile": bombs.tall_tile(12_000),
        "runs": bombs.run_length_bmp(9000),
        "junk": b"\xff\xd8" + b"\xff" * 3_000_000,
        "noise": random.Random(0).randbytes(20_000),
    }
    found = {name: base64.b64encode(data).decode() for name, data in made.items()}
    return found | {"big": base64.b64encode(big.getvalue()).decode()}


@contextmanager
def served(
    uri: str, tracking_uri: str, folder: Path, host: str, log: Path, *, plain: bool
) -> Iterator[tuple[int, int]]:
    """Port and process id of the server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    app = "mlflow.pyfunc.scoring_server.app:app" if plain else "labelstack.ensemble.guarded_app:app"
    environment = {
        "__pyfunc_model_path__": uri,
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "60",
        "LABELSTACK_ALLOW_HOSTS": host,
        "LABELSTACK_ALLOW_PATHS": str(folder),
        "LABELSTACK_MAX_REQUEST_BYTES": "8000000",
    }
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), app]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while ask(port, "GET", "/ping")[0] != 200:
                if process.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.2)
            yield port, process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, kind: str | None = "application/json"
) -> tuple[int, Any]:
    """Status and content of an answer; 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.strip() else None
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    except ValueError as error:
        return response.status, repr(error)
    finally:
        connection.close()


class Mix:
    """Requests drawn by chance, each with the check of its answer."""

    def __init__(self, files: list[Path], right: dict[str, list[int]], host: str, hostile: dict[str, str]) -> None:
        self.files, self.right, self.host, self.hostile = files, right, host, hostile
        self.base64 = {file: base64.b64encode(file.read_bytes()).decode() for file in files}
        self.bad = [
            "gone.jpg", "!garbage!", "/proc/kmsg", "/dev/zero", "/etc/passwd", "file:///etc/passwd", "../",
            f"http://{host}/gone.jpg", "http://127.0.0.1:9/x.jpg", "http://169.254.169.254/latest",
            None, "=1+1",
            self.base64[files[0]][:80],
        ]  # fmt: skip
        self.refused: list[tuple[str, bytes, str | None, set[int]]] = [
            ("deep", b"[" * 100_000, "application/json", {400}),
            ("deep in a table", b'{"instances": ' + b"[" * 50_000, "application/json", {400}),
            ("no JSON", b"{nonsense", "application/json", {400}),
            ("half a character", self._body(["\ud800.jpg", self.base64[files[0]]]), "application/json", {400}),
            ("no UTF-8", b"\xff\xfe" * 50, "application/json", {400}),
            ("two tables", b'{"inputs": [], "instances": []}', "application/json", {400}),
            ("no column", b'{"dataframe_records": [{"picture": "a"}]}', "application/json", {400}),
            ("rows", self._body(["!"] * 257), "application/json", {413}),
            ("10,000 rows", self._body([self.base64[files[0]][:400]] * 10_000), "application/json", {413}),
            ("bytes", self._body(["A" * 9_000_000]), "application/json", {413}),
            ("no type", self._body([]), None, {415}),
            ("parquet", b"PAR1" * 100, "application/vnd.apache.parquet", {415}),
        ]

    def draw(self, choose: random.Random) -> tuple[str, bytes, str | None, Check]:
        """Kind, body, content type and check."""
        chance = choose.random()
        if chance < 0.12:
            name, body, kind, statuses = choose.choice(self.refused)
            return name, body, kind, lambda status, _: None if status in statuses else f"HTTP {status}"
        rows: list[tuple[str | None, list[int] | None]] = []
        for _ in range(choose.randint(1, 6)):
            if choose.random() < 0.65:
                file = choose.choice(self.files)
                ways = [self.base64[file], str(file), f"http://{self.host}/{file.name}"]
                rows.append((choose.choice(ways), self.right[file.name]))
            else:
                rows.append((choose.choice(self.bad), None))
        name = "mixed rows"
        if chance > 0.9:
            name = choose.choice(list(self.hostile)) if chance > 0.99 else choose.choice([*self.hostile][:-1])
            either = name in ("big", "tile")  # costly, but images
            rows.insert(choose.randrange(len(rows) + 1), (self.hostile[name], [-1] if either else None))
        return name, self._body([row for row, _ in rows]), "application/json", partial(self._check, rows)

    @staticmethod
    def _body(rows: list[str | None]) -> bytes:
        return json.dumps({"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}}).encode()

    @staticmethod
    def _check(rows: list[tuple[str | None, list[int] | None]], status: int, content: Any) -> str | None:
        if status == 503:
            return None
        if status != 200:
            return f"HTTP {status}: {str(content)[:300]}"
        for (row, labels), found in zip(rows, content["predictions"], strict=True):
            if labels == [-1] or str(found["error"]).endswith(NO_TIME):
                continue
            if bool(found["error"]) != (labels is None) or (labels is not None and found["label_id"] != labels):
                return f"{str(row)[:60]}: {found}"
        return None


def resident(pid: int) -> float:
    """Megabytes that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Run everything and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="MLflow's application without the limits around it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        parts = tiny_parts(root / "parts")
        assemble_folder(root / "ensemble", parts)
        files = good_images(root / "images")
        from labelstack.ensemble.ensemble import Ensemble
        from labelstack.ensemble.log import log_ensemble
        from labelstack.params.tracking import TrackingSection
        from labelstack.tracking.runs import connect

        own = Ensemble.load(root / "ensemble").predict(files, progress=False)
        right = {file.name: labels for file, labels in zip(files, own["label_id"], strict=True)}
        tracker = connect(TrackingSection(), root)
        with tracker.run("blend", "ensemble") as run:
            uri = log_ensemble(run, parts, requirements=root / "parts/requirements.lock").uri
        site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root / "images")))
        threading.Thread(target=site.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{site.server_address[1]}"
        mix = Mix(files, right, host, hostile_images())
        log = root / "log"
        with served(uri, tracker.uri, root / "images", host, log, plain=options.plain) as (port, pid):
            report = soak(options, mix, port, pid)
        tracebacks = log.read_text().count("Traceback")
    print(f"{tracebacks} tracebacks in the server's log")
    sys.exit(report)


def soak(options: argparse.Namespace, mix: Mix, port: int, pid: int) -> int:
    """Send requests from several threads until the time is over; the exit code."""
    end, started = time.monotonic() + 60 * options.minutes, time.monotonic()
    kinds: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    taken: list[float] = []
    lock, out_of_time = threading.Lock(), 0

    def client(number: int) -> None:
        nonlocal out_of_time
        choose = random.Random(f"{options.seed} {number}")
        while time.monotonic() < end:
            name, body, kind, check = mix.draw(choose)
            begun = time.monotonic()
            status, content = ask(port, "POST", "/invocations", body, kind)
            seconds = time.monotonic() - begun
            problem = check(status, content)
            with lock:
                kinds[name] += 1
                statuses[status] += 1
                out_of_time += status == 200 and NO_TIME in json.dumps(content)
                if name == "mixed rows":
                    taken.append(seconds)
                if problem:
                    wrong.append(f"{name}: {problem}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    held: list[tuple[float, float]] = []
    while any(thread.is_alive() for thread in threads):
        held.append((time.monotonic() - started, resident(pid)))
        for thread in threads:
            thread.join(EVERY_S / len(threads))
    time.sleep(2)
    held.append((time.monotonic() - started, resident(pid)))
    print(
        f"{kinds.total()} requests in {held[-1][0]:.0f} s, {len(wrong)} answered wrongly, {out_of_time} with rows for "
        "which no time was left"
    )
    print("HTTP " + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    print("kinds " + ", ".join(f"{name} {count}" for name, count in kinds.most_common()))
    ordered = sorted(taken)
    print(
        f"mixed rows: median {statistics.median(ordered):.2f} s, 99 % {ordered[int(0.99 * (len(ordered) - 1))]:.2f} s"
    )
    step = max(1, len(held) // 15)
    print("server MB " + ", ".join(f"{at:.0f} s: {size:.0f}" for at, size in [*held[:-1:step], held[-1]]))
    print("\n".join(wrong[:10]))
    first = max(size for at, size in held if at <= max(held[-1][0] / 5, held[0][0]))
    grown = held[-1][1] / first
    print(f"at the end {grown:.2f} times the most of the first fifth; allowed {GROWTH}")
    return int(bool(wrong) or grown > GROWTH)


if __name__ == "__main__":
    main()
