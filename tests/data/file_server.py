"""A real HTTP server on this machine that serves one file, well or badly, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server does is set by its fields, also while it runs."""

    content: bytes
    etag: str = '"v1"'
    ranges: bool = True
    """Whether it understands Range."""
    break_after: list[int] = field(default_factory=list)
    """Bytes of the body after which the connection is cut, for the first, second ... answer."""
    status: list[int] = field(default_factory=list)
    """Answers other than the file, for the first, second ... request."""
    pause_s: float = 0.0
    """Wait before the body."""
    drip_s: float = 0.0
    """Wait after each kilobyte of the body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that are sent instead of the right ones; an empty value leaves one out."""
    redirect: dict[str, str] = field(default_factory=dict)
    """Path: where it sends on to."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of each request."""
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, request.headers.get("Range")))
        status = self.status.pop(0) if self.status else 200
        if request.path in self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if status != 200:
            request.send_error(status)
            return
        first = self._first(request)
        if first is not None and first >= len(self.content):
            request.send_error(416)
            return
        body = self.content[first or 0 :]
        headers = {"Content-Type": "application/zip", "Content-Length": str(len(body)), "ETag": self.etag}
        if first is not None:
            headers["Content-Range"] = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
        request.send_response(200 if first is None else 206)
        for name, value in (headers | self.headers).items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        self._send(request, body)

    def _first(self, request: BaseHTTPRequestHandler) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range", self.etag) == self.etag
        return int(found[1]) if found and same and self.ranges else None

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        until = self.break_after.pop(0) if self.break_after else len(body)
        time.sleep(self.pause_s)
        step = 1024 if self.drip_s else len(body) or 1
        for start in range(0, min(until, len(body)), step):
            request.wfile.write(body[start : min(start + step, until)])
            request.wfile.flush()
            time.sleep(self.drip_s)


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Run it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client went away, as some tests want
                server.answer(self)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
