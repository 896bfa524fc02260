"""A small HTTPS server that offers HTTP/2 and HTTP/1.1, with a certificate of its own."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived


def make_certificate(folder: Path, host: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate for a host and 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


class Http2Server:
    """Answers every path with one body, ``/big`` with 300,000 bytes, a number as status; counts by protocol.

    ``/lines/<n>/<size>`` has so many more headers of so many bytes each.
    """

    def __init__(
        self, certificate: Path, key: Path, body: bytes, protocols: tuple[str, ...] = ("h2", "http/1.1")
    ) -> None:
        self.body = body
        self.requests: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self.connections = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(list(protocols))
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def start() -> None:
            self.server = await self.loop.create_server(lambda: _Talk(self), "127.0.0.1", 0, ssl=self.context)
            ready.set()

        self.loop.create_task(start())
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        ready.wait(10)
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)


class _Talk(asyncio.Protocol):
    def __init__(self, server: Http2Server) -> None:
        self.server = server

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.http2 = transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        if self.http2:
            self.connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
            self.connection.initiate_connection()
            transport.write(self.connection.data_to_send())

    def data_received(self, data: bytes) -> None:
        if not self.http2:
            self.server.requests["http/1.1"] += 1
            self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.server.body)}\r\n\r\n".encode())
            self.transport.write(self.server.body)
            return
        for event in self.connection.receive_data(data):
            if isinstance(event, RequestReceived):
                self.answer(event.stream_id, dict(event.headers))
        self.transport.write(self.connection.data_to_send())

    def answer(self, stream: int, headers: dict[str, str]) -> None:
        self.server.requests["h2"] += 1
        self.server.hosts[headers[":authority"]] += 1
        path = headers[":path"]
        status = path[1:] if path[1:].isdigit() and len(path) == 4 else "200"
        lines, size = map(int, path.split("/")[2:]) if path.startswith("/lines/") else (0, 0)
        more = [(f"x-{i}", "x" * size) for i in range(lines)]
        body = bytes(60_000) if path == "/big" else self.server.body
        self.connection.send_headers(
            stream, [(":status", status), ("content-length", str(len(body))), ("etag", '"a"'), *more]
        )
        for start in range(0, len(body), 16_000):
            self.connection.send_data(stream, body[start : start + 16_000], end_stream=start + 16_000 >= len(body))
