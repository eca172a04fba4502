"""A server on this machine that answers as a test tells it to: late, cut off, with a wrong length or a wrong file."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable
from typing import Any

CONTENT = bytes(range(256)) * 2000  # 512 000 bytes
SHA = hashlib.sha256(CONTENT).hexdigest()


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server:
    """A server whose answer to a path is a function of the handler; it remembers the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range")))
                answer = server.answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}{path}"

    def ranges(self, path: str) -> list[str | None]:
        return [asked for name, asked in self.requests if name == path]


def serve(content: bytes = CONTENT, *, etag: str | None = '"v1"', ranges: bool = True, cut: int | None = None,
          length: int | None = None, times: int = 10**6) -> Answer:  # fmt: skip
    """Answer with `content`; the first `times` answers end after `cut` bytes of body or announce another `length`."""
    left = [times]

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked, start = handler.headers.get("Range"), 0
        if ranges and asked and handler.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_error(416)
                return
        left[0] -= 1
        misbehave = left[0] >= 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            handler.send_header("ETag", etag)
        announced = length if misbehave and length is not None else len(content) - start
        handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        body = content[start:]
        handler.wfile.write(body[:cut] if misbehave and cut is not None else body)
        handler.close_connection = True

    return answer
