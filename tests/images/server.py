"""A web server on loopback that misbehaves on request, and images to serve."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(seed: int = 0, width: int = 40, height: int = 30) -> NDArray[np.uint8]:
    """Smooth random colours, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def encoded(image: NDArray[Any] | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The image as a file's bytes."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def jpeg(seed: int = 0, width: int = 40, height: int = 30) -> bytes:
    return encoded(picture(seed, width, height), quality=90)


class Server(ThreadingHTTPServer):
    """Counts hits by path; ``/img/<seed>.jpg`` is a picture, other paths are listed in ``Handler``."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hits: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.broken = False
        self.mended = False
        self.delay = 0.0
        self.busy = 0
        self.busiest = 0
        self.closed_until = 0.0
        self.too_early = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def url(self, path: str) -> str:
        return f"http://{self.host}/{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        with self.server.lock:
            self.server.hits[path] += 1
            hit = self.server.hits[path]
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
            self.server.too_early += time.monotonic() < self.server.closed_until
        time.sleep(self.server.delay)
        with self.server.lock:
            self.server.busy -= 1
        if path.startswith("img/"):
            if self.server.broken:
                return self.send(503)
            return self.versioned(path, jpeg(int(path[4:-4]) + 1000 * self.server.mended))
        if path.startswith("lines/"):
            lines, size = map(int, path.split("/")[1:])
            return self.send(200, jpeg(), headers={f"X-{i}": "x" * size for i in range(lines)})
        answers: dict[str, Callable[[], None]] = {
            "gone.jpg": lambda: self.send(410),
            "flaky.jpg": lambda: self.send(500) if hit < 3 else self.send(200, jpeg()),
            "busy.jpg": lambda: self.busy() if hit < 2 else self.send(200, jpeg()),
            "down.jpg": lambda: self.send(200, jpeg()) if self.server.mended else self.send(503),
            "slow.jpg": lambda: (time.sleep(1.5), self.send(200, jpeg()))[1],
            "drip.jpg": self.drip,
            "page.jpg": lambda: self.send(200, b"<html><body>sold out</body></html>"),
            "truncated.jpg": lambda: self.send(200, jpeg()[:-200]),
            "empty.jpg": lambda: self.send(200, b""),
            "reset.jpg": self.reset,
            "short.jpg": lambda: self.send(200, jpeg(), length=len(jpeg()) + 100),
            "long.jpg": lambda: self.send(200, jpeg(), length=len(jpeg()) - 200),
            "big.jpg": lambda: self.send(200, bytes(50_000)),
            "endless.jpg": self.endless,
            "redirect.jpg": lambda: self.send(302, headers={"Location": "/img/7.jpg"}),
            "loop.jpg": lambda: self.send(301, headers={"Location": "/loop.jpg"}),
            "to-link-local.jpg": lambda: self.send(302, headers={"Location": "http://169.254.169.254/latest"}),
            "to-file.jpg": lambda: self.send(302, headers={"Location": "file:///etc/passwd"}),
            "to-bad.jpg": lambda: self.send(302, headers={"Location": "http://[1/"}),
            "secret.jpg": self.secret,
            "secret-moved.jpg": lambda: self.send(302, headers={"Location": "/secret.jpg"}),
        }
        return answers.get(path, lambda: self.send(404))()

    def send(
        self, code: int, body: bytes = b"", *, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body[:length])
        self.close_connection = length is not None

    def versioned(self, path: str, body: bytes) -> None:
        etag = f'"{path}-{self.server.mended}"'
        unchanged = self.headers.get("If-None-Match") == etag
        self.send(304 if unchanged else 200, b"" if unchanged else body, headers={"ETag": etag})

    def busy(self) -> None:
        """Ask for a second's pause; whoever comes within it is counted."""
        self.server.closed_until = time.monotonic() + 1
        self.send(429, headers={"Retry-After": "1"})

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"2710\r\n" + bytes(10_000) + b"\r\n")

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def secret(self) -> None:
        expected = "Basic " + base64.b64encode(b"ann:p@ss").decode()
        self.send(200, jpeg()) if self.headers.get("Authorization") == expected else self.send(401)
