"""A web server on this machine that behaves as badly as a test wants it to."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from itmc.domains.fetch import FetchError, File, fetch
from itmc.domains.progress import Silent

CONTENT = bytes(range(256)) * 40  # 10240 bytes
CHANGED = CONTENT[::-1]
HALF = 5000
REST = f"bytes={HALF}-"
SUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = "images.tar"
SCRIPT = """
import sys
from pathlib import Path
from itmc.domains.fetch import File, fetch
from itmc.domains.progress import Silent
from itmc.errors import UsageError
try:
    fetch(File.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Silent())
except UsageError as error:
    print(error)
"""


def wanted(*urls: str, checksum: str | None = SUM, name: str = NAME) -> File:
    """The file with ``CONTENT``."""
    return File(name=name, urls=urls, checksum=checksum)


def fail_once(url: str, folder: Path, checksum: str | None = SUM) -> None:
    """A call that fails at its only attempt."""
    with pytest.raises(FetchError):
        fetch(wanted(url, checksum=checksum), folder, Silent(), attempts=1)


def visible(folder: Path) -> list[str]:
    """Names in a folder, without locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def dead_url() -> str:
    """An address at whose port nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


@dataclass
class Page:
    """One answer. ``headers`` override what is sent by itself; None leaves a header out."""

    content: bytes = b""
    status: int = 200
    ranges: bool = True
    """Whether Range and If-Range are honoured."""
    etag: str | None = '"one"'
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    stall: int | None = None
    """Bytes of the body after which nothing comes until the server's ``go`` is set."""
    chunked: bool = False
    headers: dict[str, str | None] = field(default_factory=dict)


PAGE = b"\xef\xbb\xbf\n <!DOCTYPE html><title>Sign in</title>"
BAD = [
    *((f"HTTP {status}", Page(status=status)) for status in (403, 404, 500, 503)),
    ("web page", Page(b"any", headers={"Content-Type": "text/html; charset=utf-8"})),
    ("web page", Page(PAGE)),
    ("web page", Page(b"<HTML><body>")),
    ("encoded", Page(CONTENT, headers={"Content-Encoding": "gzip"})),
    (f"expected {SUM}, found sha256:", Page(CHANGED)),
    ("ftp", Page(status=302, headers={"Location": "ftp://127.0.0.1/"})),
]
LONG = CHANGED + CHANGED
REST_ONLY = bytes(HALF) + CONTENT[HALF:]  # right for whoever asks only for the rest
WEAK: dict[str, str | None] = {"ETag": 'W/"one"'}
DATED = WEAK | {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}
CASES = {  # a download that is cut, what comes next, the ranges asked for, the If-Range
    "as it is": (Page(CONTENT, cut=HALF), Page(REST_ONLY), [None, REST], '"one"'),
    "of unknown length": (
        Page(CONTENT, cut=HALF, chunked=True), Page(REST_ONLY, chunked=True), [None, REST],
        '"one"'),
    "with only the length to compare": (
        Page(CONTENT, cut=HALF, etag=None), Page(REST_ONLY, etag=None), [None, REST], None),
    "with only a weak ETag to compare": (
        Page(CONTENT, cut=HALF, chunked=True, headers=WEAK),
        Page(REST_ONLY, chunked=True, headers=WEAK), [None, REST], None),
    "with a date": (
        Page(CONTENT, cut=HALF, headers=DATED), Page(REST_ONLY, headers=DATED), [None, REST],
        DATED["Last-Modified"]),
    "with nothing to compare": (
        Page(CHANGED, cut=HALF, chunked=True, etag=None), Page(CONTENT), [None, None], None),
    "where the server ignores ranges": (
        Page(CHANGED, cut=HALF), Page(CONTENT, ranges=False), [None, REST], '"one"'),
    "changed meanwhile": (
        Page(CHANGED, cut=HALF, etag='"old"'), Page(CONTENT), [None, REST], '"old"'),
    "of which all has come (416)": (
        Page(CONTENT, cut=len(CONTENT), chunked=True), Page(CONTENT),
        [None, f"bytes={len(CONTENT)}-"], '"one"'),
    "of which more than all has come (416)": (
        Page(LONG, cut=20000, chunked=True), Page(CONTENT), [None, "bytes=20000-", None], '"one"'),
}  # fmt: skip


class Dying(list[Page]):
    """Pages that break the handler when they are first looked at."""

    looked = False

    def __len__(self) -> int:
        if not self.looked:
            self.looked = True
            raise ConnectionAbortedError
        return super().__len__()


class Server:
    """Pages by path, and what was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Page]] = {}
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of each request."""
        self.headers: list[dict[str, str]] = []
        self.go, self.stalled = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def serve(self, path: str, *pages: Page) -> str:
        """Answer with ``pages`` in turn, then with the last of them for ever; returns the URL."""
        self.pages[path] = list(pages)
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def ranges(self) -> list[str | None]:
        """The Range headers asked for."""
        return [asked for _, asked in self.requests]

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Serve until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.go.set()
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers["Range"]))
                server.headers.append(dict(self.headers))
                pages = server.pages[self.path]
                self.close_connection = True
                self.answer(pages.pop(0) if len(pages) > 1 else pages[0])

            def answer(self, page: Page) -> None:
                status, body = page.status, page.content
                headers: dict[str, str | None] = {"Content-Type": "application/octet-stream"}
                asked = re.fullmatch("bytes=([0-9]+)-", self.headers["Range"] or "")
                dated = page.headers.get("Last-Modified")
                same = self.headers["If-Range"] in (None, page.etag, dated)
                if asked and page.ranges and same and status == 200:
                    start, size = int(asked[1]), len(body)
                    status = 206 if start < size else 416
                    span = f"{start}-{size - 1}" if status == 206 else "*"
                    headers["Content-Range"] = f"bytes {span}/{size}"
                    body = body[start:]
                headers |= {"ETag": page.etag, "Content-Length": str(len(body))}
                if page.chunked:
                    headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
                self.send_response(status)
                for name, value in (headers | page.headers).items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.send(page, body)

            def send(self, page: Page, body: bytes) -> None:
                if page.stall is not None:
                    self.wfile.write(body[: page.stall])
                    body = body[page.stall :]
                    server.stalled.set()
                    server.go.wait()
                part = body[: page.cut]
                if page.chunked:
                    part = b"%x\r\n%s\r\n" % (len(part), part)
                    part += b"0\r\n\r\n" if page.cut is None else b""
                self.wfile.write(part)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        return Handler
