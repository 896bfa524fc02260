"""A fast web server in a process of its own that misbehaves by path, and what each image must end in.

``python hostile.py LATENCY_S`` prints its port and serves until its input ends: ``/<kind>/<n>`` answers as ``KINDS``
says, ``/photo/<n>.jpg`` with a photo of 400 × 533 pixels.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import cv2
import numpy as np
from PIL import Image

VARIANTS = 16
PHOTOS = 200
KINDS = {
    "good": "ok",
    "cmyk": "ok",
    "turned": "ok",
    "deep": "ok",
    "animated": "ok",
    "transparent": "ok",
    "dot": "ok",
    "packed": "ok",
    "flaky": "ok",
    "secret": "ok",
    "moved": "ok",
    "text": "not_an_image",
    "page": "not_an_image",
    "cut": "damaged",
    "spoilt": "damaged",
    "bomb": "too_large",
    "heavy": "too_large",
    "endless": "too_large",
    "gone": "http_404",
    "down": "http_503",
    "loop": "http_302",
    "private": "forbidden",
    "local": "forbidden",
    "file": "forbidden",
    "short": "connection",
    "long": "connection",
    "reset": "connection",
    "garbage": "connection",
    "drip": "timeout",
    "silent": "timeout",
}
SLOW = ("drip", "silent")
_PASSWORD = "Basic " + base64.b64encode(b"ann:p@ss").decode()


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture with some grain."""
    random = np.random.default_rng(seed)
    smooth = cv2.resize(
        random.integers(0, 256, (9, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    grain = random.integers(-8, 9, (height, width, 3), dtype=np.int16)
    return Image.fromarray(np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def body(kind: str, variant: int) -> bytes:
    """The bytes behind a path; kinds without an image of their own show the good one."""
    image = picture(variant, 40 + variant, 30)
    if kind == "photo":
        return encoded(picture(variant, 400, 533), quality=85)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        return encoded(image, quality=90, exif=exif)
    if kind == "deep":
        return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")
    if kind == "animated":
        frames = [picture(variant + i, 40, 30).quantize() for i in range(3)]
        return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    if kind == "transparent":
        return encoded(Image.merge("RGBA", (*image.split(), image.convert("L"))), "PNG")
    special = {
        "cmyk": lambda: encoded(image.convert("CMYK"), quality=90),
        "dot": lambda: encoded(picture(variant, 1, 1)),
        "bomb": lambda: _huge_png(),
        "text": lambda: b"no image at all " * 20,
        "page": lambda: b"<!doctype html><html><body>sold out</body></html>",
        "cut": lambda: encoded(image, quality=90)[:-150],
        "spoilt": lambda: encoded(image, "PNG")[:500] + b"spoilt" + encoded(image, "PNG")[506:],
    }
    return special.get(kind, lambda: encoded(image, quality=90))()


def _huge_png() -> bytes:
    """The head of a PNG of 30,000 × 30,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100_000))
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class _Connection(asyncio.Protocol):
    latency = 0.0
    hits: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            asyncio.get_running_loop().call_later(self.latency, self.answer, head.decode("latin-1"))

    def answer(self, head: str) -> None:
        if self.transport.is_closing():
            return
        path = head.split(" ", 2)[1]
        kind, _, rest = unquote(path.partition("?")[0]).strip("/").partition("/")
        self.hits[path] += 1
        variant = int("".join(filter(str.isdigit, rest)) or 0) % (PHOTOS if kind == "photo" else VARIANTS)
        sender = getattr(self, f"_{kind}", None)
        if sender is None:
            self.send(200 if kind in KINDS or kind == "photo" else 404, body(kind, variant))
        else:
            sender(path, variant, head)

    def send(self, status: int, content: bytes = b"", length: int | None = None, headers: str = "") -> None:
        size = len(content) if length is None else length
        self.transport.write(f"HTTP/1.1 {status} x\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + content)
        if length is not None:
            self.transport.close()

    def _packed(self, path: str, variant: int, head: str) -> None:
        self.send(200, gzip.compress(body("good", variant)), headers="Content-Encoding: gzip\r\n")

    def _flaky(self, path: str, variant: int, head: str) -> None:
        self.send(503) if self.hits[path] % 2 else self.send(200, body("good", variant))

    def _secret(self, path: str, variant: int, head: str) -> None:
        self.send(200, body("good", variant)) if _PASSWORD in head else self.send(401)

    def _moved(self, path: str, variant: int, head: str) -> None:
        self.send(302, headers=f"Location: {path.replace('moved', 'good')}\r\n")

    def _long(self, path: str, variant: int, head: str) -> None:
        self.send(200, body("good", variant), length=len(body("good", variant)) - 150)

    def _short(self, path: str, variant: int, head: str) -> None:
        self.send(200, body("good", variant), length=len(body("good", variant)) + 150)

    def _heavy(self, path: str, variant: int, head: str) -> None:
        self.send(200, bytes(100_000), length=10**10)

    def _gone(self, path: str, variant: int, head: str) -> None:
        self.send(404, b"gone")

    def _down(self, path: str, variant: int, head: str) -> None:
        self.send(503)

    def _loop(self, path: str, variant: int, head: str) -> None:
        self.send(302, headers=f"Location: {path}\r\n")

    def _private(self, path: str, variant: int, head: str) -> None:
        self.send(302, headers="Location: http://169.254.169.254/latest/meta-data\r\n")

    def _local(self, path: str, variant: int, head: str) -> None:
        port = self.transport.get_extra_info("sockname")[1]
        self.send(302, headers=f"Location: http://localhost:{port}/good/{variant}\r\n")

    def _file(self, path: str, variant: int, head: str) -> None:
        self.send(302, headers="Location: file:///etc/hostname\r\n")

    def _reset(self, path: str, variant: int, head: str) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _garbage(self, path: str, variant: int, head: str) -> None:
        self.transport.write(b"\x00\xff this is no HTTP\r\n\r\n")
        self.transport.close()

    def _silent(self, path: str, variant: int, head: str) -> None:
        pass

    def _endless(self, path: str, variant: int, head: str) -> None:
        self.transport.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._more(b"4000\r\n" + bytes(0x4000) + b"\r\n", 0.001)

    def _drip(self, path: str, variant: int, head: str) -> None:
        self.transport.write(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n")
        self._more(b"x", 0.1)

    def _more(self, piece: bytes, every: float) -> None:
        if not self.transport.is_closing():
            if self.transport.get_write_buffer_size() < 2**20:
                self.transport.write(piece)
            asyncio.get_running_loop().call_later(every, self._more, piece, every)


class Hostile:
    """The server as a process; ``url`` names its paths, ``cases`` makes images with every fault."""

    def __init__(self, latency_s: float = 0.0) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), str(latency_s)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.host = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *args: object) -> None:
        self.process.kill()
        self.process.communicate()

    def url(self, path: str, host: str = "") -> str:
        return f"http://{host or self.host}/{path}"

    def cases(self, count: int, root: Path, *, slow_every: int = 100) -> list[tuple[list[str], str, bytes | None]]:
        """URLs, status and, where it is ok, the bytes that the server sent, of ``count`` images; files go to root."""
        root.mkdir(parents=True, exist_ok=True)
        outside = root.parent / "outside.jpg"
        outside.write_bytes(body("good", 1))
        (root / "inside.jpg").write_bytes(body("good", 2))
        if not (root / "link.jpg").exists():
            (root / "link.jpg").symlink_to(outside)
        plain = [
            *((["good/same.jpg"], "ok", body("good", 0)) for _ in range(2)),
            (["gone/1", "text/1", "good/3"], "ok", body("good", 3)),
            (["good/f\u00fcr \u4e0a 5.jpg?a=\u00e9 b&c=%20%zz"], "ok", body("good", 5)),
            (["file:inside.jpg"], "ok", body("good", 2)),
            (["file:link.jpg"], "forbidden", None),
            (["file:../outside.jpg"], "forbidden", None),
            (["file:///etc/hostname"], "forbidden", None),
            (["http://10.0.0.1/x.jpg"], "forbidden", None),
            (["http://[::ffff:127.0.0.1]/x.jpg"], "forbidden", None),
            (["http://2130706433/x.jpg"], "forbidden", None),
            (["nonsense"], "forbidden", None),
            ([], "no_url", None),
        ]
        kinds, cases = list(KINDS), []
        for n in range(count):
            kind = kinds[n % len(kinds)]
            if kind in SLOW and n // len(kinds) % slow_every:
                kind = "good"
            if n % 7 == 5:
                urls, status, content = plain[n // 7 % len(plain)]
                cases.append(
                    ([url if ":" in url or url == "nonsense" else self.url(url) for url in urls], status, content)
                )
                continue
            host = f"ann:p%40ss@{self.host}" if kind == "secret" else ""
            shown = "good" if kind in {"packed", "flaky", "secret", "moved"} else kind
            content = body(shown, n % VARIANTS) if KINDS[kind] == "ok" else None
            cases.append(([self.url(f"{kind}/{n}", host)], KINDS[kind], content))
        return cases


async def _serve(latency_s: float) -> None:
    _Connection.latency = latency_s
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    for variant in range(PHOTOS):
        body("photo", variant)
    print(server.sockets[0].getsockname()[1], flush=True)

    def end_with_input() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
