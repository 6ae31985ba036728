"""A web server on 127.0.0.1 that misbehaves as told, and remembers what it was asked.

with Server({"/a.zip": Answer(content)}) as server:
    Downloader().download([server.url("/a.zip")], ...)
server.asked  # [("/a.zip", None), ("/a.zip", "bytes=100-")]: path and Range of each request
server.sent   # bytes of bodies that were sent
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How to answer for one path.

    `failures`: statuses of the first answers. `drop_after`: bytes of a body after which the
    connection is closed, for the first `drops` bodies. `length`: what Content-Length says, whatever
    is sent; -1 for no such line. `rest`: the most bytes that are sent of a range. `pause`: called
    before each block.
    """

    content: bytes = b""
    type: str = "application/zip"
    failures: list[int] = field(default_factory=list)
    drop_after: int | None = None
    drops: int = 10**9
    length: int | None = None
    rest: int | None = None
    ranges: bool = True
    wrong_range: bool = False
    etag: str | None = '"1"'
    retry_after: str | None = None
    pause: Callable[[], None] = lambda: None


class Server:
    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked_range = request.headers.get("Range")
        with self.lock:
            self.asked.append((request.path, asked_range))
            answer = self.answers.get(request.path)
            failure = answer.failures.pop(0) if answer and answer.failures else None
        if answer is None or failure:
            self._head(request, 404 if answer is None else failure, {"Content-Length": "0"}, answer)
            return
        total = len(answer.content)
        start, status, headers = 0, 200, {"Content-Type": answer.type}
        if asked_range and answer.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked_range)[1])
            if request.headers.get("If-Range", answer.etag) != answer.etag:
                start = 0
            elif start >= total:
                span = {"Content-Range": f"bytes */{total}", "Content-Length": "0"}
                self._head(request, 416, span, answer)
                return
            else:
                shift = 1 if answer.wrong_range else 0
                headers["Content-Range"] = f"bytes {start + shift}-{total - 1}/{total}"
                status = 206
        body = answer.content[start:]
        if status == 206:
            body = body[: answer.rest]
        length = answer.length if answer.length is not None and status == 200 else len(body)
        if length >= 0:
            headers["Content-Length"] = str(length)
        self._head(request, status, headers, answer)
        with self.lock:
            dropped = answer.drop_after is not None and answer.drops > 0
            answer.drops -= dropped
        body = body[: answer.drop_after] if dropped else body
        try:
            for place in range(0, len(body), 2**16):
                answer.pause()
                block = body[place : place + 2**16]
                request.wfile.write(block)
                with self.lock:
                    self.sent += len(block)
        except OSError:
            dropped = True  # the other side went away
        if dropped or len(body) != length:
            request.close_connection = True

    def _head(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        answer: Answer | None,
    ) -> None:
        request.send_response(status)
        if answer and answer.etag:
            headers = {**headers, "ETag": answer.etag}
        if answer and answer.retry_after:
            headers = {**headers, "Retry-After": answer.retry_after}
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
