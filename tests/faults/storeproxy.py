"""Stands between Penstock and a real S3 server: writes down every request, and answers chosen ones as bad days do.

A fault is a name of FAULTS. `before` means that the server never got the request, `after` that it did what was asked
and the answer was lost.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FAULTS = (
    "500 before",
    "500 after",
    "503 before",
    "409 before",
    "dropped before",
    "dropped after",
    "silent before",
    "silent after",
    "truncated",
)
_ERROR = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>planted</Message></Error>'
_CODES = {500: b"InternalError", 503: b"SlowDown", 409: b"ConditionalRequestConflict"}
_HOPS = ("connection", "transfer-encoding", "keep-alive", "content-length")


@dataclass(frozen=True)
class Request:
    """What came in: method, path with query, and whether it must not replace anything."""

    number: int
    method: str
    path: str
    conditional: bool


@dataclass
class StoreProxy:
    """`endpoint` is where it listens. `choose` gives the fault of a request, or None; it is called once for each.

    With `unconditional`, the folder of the server's buckets, the store puts every object that is sent, whatever is there:
    the header that forbids it is signed, so what is in the way is deleted instead.
    """

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    choose: Callable[[Request], str | None] = lambda _: None
    silence_seconds: float = 3.0
    unconditional: Path | None = None
    failed: int = 0

    def fail_once(self, number: int, fault: str) -> None:
        """Let the `number`-th request from now on, counted from 0, have a fault."""
        at = len(self.requests) + number
        self.choose = lambda request: fault if request.number == at else None

    def well(self) -> None:
        """No faults from now on."""
        self.choose = lambda _: None


@contextmanager
def store_proxy(port: int) -> Iterator[StoreProxy]:
    """A proxy before the server that listens on `port` of this machine."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def handle_one_request(self) -> None:
            with suppress(ConnectionError, TimeoutError):
                super().handle_one_request()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                conditional = "If-None-Match" in self.headers
                request = Request(len(proxy.requests), self.command, self.path, conditional)
                proxy.requests.append(request)
                fault = proxy.choose(request)
                proxy.failed += fault is not None
            how, _, when = (fault or "").partition(" ")
            if proxy.unconditional is not None and conditional:
                (proxy.unconditional / unquote(self.path).lstrip("/")).unlink(missing_ok=True)
            if when != "before":
                status, headers, content = self.forward(body)
            if how in ("", "truncated"):
                self.send(status, headers, content, len(content) // 2 if how else len(content))
            elif how == "silent":
                time.sleep(proxy.silence_seconds)
                self.close_connection = True
            elif how == "dropped":
                self.close_connection = True
            else:
                content = _ERROR % _CODES[int(how)]
                self.send(int(how), [("Content-Type", "application/xml")], content, len(content))

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the library's names

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                connection.close()

        def send(self, status: int, headers: list[tuple[str, str]], content: bytes, sent: int) -> None:
            length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOPS:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[:sent])
            if sent < len(content):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = StoreProxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
