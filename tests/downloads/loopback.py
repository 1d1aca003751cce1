"""A web server on this machine that serves a folder laid out by host (`<root>/<host>/<path>`) and can misbehave.

With ECHOLUNG_MIRROR set to its `url` it stands for the internet. Load it with `conftest.py`'s fixture `loopback`.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Loopback:
    """How the server behaves, and what it was asked.

    Attributes:
        root: the folder served; hosts are its folders.
        break_after: bytes after which each answer breaks off; 0: never.
        breaks: how many answers break off, for each path; -1: all.
        ranges: whether it knows Range.
        tags: whether it sends an ETag.
        wrong: paths of which it serves other bytes of the same length.
        status: path -> status to answer with, in place of the file.
        busy: path -> how many times it answers 503 before it serves the file.
        delay: seconds before each 64 kB.
        crawl_after: bytes, of all files together, after which every 64 kB takes a second; 0: never.
        page: paths in place of which it sends a web page.
        asked: every request: (path, first byte asked for).
        sent: path -> bytes sent.
    """

    root: Path
    break_after: int = 0
    breaks: int = -1
    ranges: bool = True
    tags: bool = True
    wrong: set[str] = field(default_factory=set)
    status: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    delay: float = 0.0
    crawl_after: int = 0
    page: set[str] = field(default_factory=set)
    asked: list[tuple[str, int]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    pause: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Loopback

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        state = self.state
        path = unquote(urlsplit(self.path).path).lstrip("/")
        span = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        start = int(span) if span and state.ranges else 0
        state.asked.append((path, start))
        file = state.root / path
        if state.busy.get(path, 0):
            state.busy[path] -= 1
            return self.say(503)
        if path in state.status:
            return self.say(state.status[path])
        if path in state.page:
            return self.say(200, b"<html>Please sign in</html>", "text/html; charset=utf-8")
        if not file.is_file():
            return self.say(404)
        body = file.read_bytes()
        if path in state.wrong:
            body = bytes(byte ^ 1 for byte in body)
        if start and start >= len(body):
            return self.say(416, more={"Content-Range": f"bytes */{len(body)}"} | self.tag(body))
        self.send_response(206 if span and state.ranges else 200)
        if span and state.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for name, value in self.tag(body).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.write(path, body[start:])
        return None

    def tag(self, body: bytes) -> dict[str, str]:
        return {"ETag": f'"{hash(body)}"'} if self.state.tags else {}

    def write(self, path: str, body: bytes) -> None:
        state = self.state
        breaking = state.break_after and len(body) > state.break_after
        if breaking and (state.breaks < 0 or state.broken[path] < state.breaks):
            state.broken[path] += 1
            body, self.close_connection = body[: state.break_after], True
        for at in range(0, len(body), 1 << 16):
            crawling = state.crawl_after and sum(state.sent.values()) >= state.crawl_after
            if crawling or state.delay:
                state.pause.wait(1.0 if crawling else state.delay)
            try:
                self.wfile.write(body[at : at + (1 << 16)])
            except OSError:  # the other side has gone
                self.close_connection = True
                return
            state.sent[path] += len(body[at : at + (1 << 16)])

    def say(self, status: int, body: bytes = b"", kind: str = "text/plain", more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(root: Path) -> Iterator[Loopback]:
    """Serve `root` while the block runs; change the state yielded to make the server misbehave."""
    state = Loopback(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        state.pause.set()
        server.shutdown()
        server.server_close()
