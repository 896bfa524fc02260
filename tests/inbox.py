"""A server on loopback that takes what apprise sends (its scheme json://), and keeps it."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Inbox:
    """Messages as they came: title, message, and bodies as bytes."""

    port: int = 0
    status: int = 200
    slow: float = 0  # seconds before an answer
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where apprise sends to."""
        return f"json://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What came, in order."""
        return [json.loads(body) for body in self.bodies]

    @property
    def titles(self) -> list[str]:
        """Titles without the folder's name."""
        return [message["title"].partition(": ")[2] for message in self.messages]


@contextmanager
def inbox() -> Iterator[Inbox]:
    """A server that runs within the context."""
    kept = Inbox()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(kept.slow)
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
