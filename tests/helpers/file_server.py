"""A web server on this machine that sends files as well, and as badly, as a test asks."""

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` by name.

    `conduct` has, by name, how the next requests are answered, one word each: "whole", "half" (it
    announces all and closes after half), "deaf" (the whole file, whatever part is asked for),
    "endless" (more than the file, without announcing a length), a status such as "404", or
    "to:NAME" (a redirect). After the last word every answer is right. `asked` lists the requests as
    (name, first byte).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.conduct: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int]] = []

    def address(self, name: str) -> str:
        """The URL of a file."""
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.server.asked.append((name, first))
        words = self.server.conduct.get(name)
        word = words.pop(0) if words else "whole"
        data = self.server.files.get(name)
        if word.startswith("to:"):
            self.send_response(302)
            self.send_header("Location", self.server.address(word[3:]))
            self.end_headers()
        elif word.isdecimal() or data is None:
            self.send_error(int(word) if word.isdecimal() else 404)
        elif first and first >= len(data):
            self.send_error(416)
        else:
            self._send(data, 0 if word == "deaf" else first, word)

    def _send(self, data: bytes, first: int, word: str) -> None:
        self.send_response(206 if first else 200)
        rest = data[first:]
        if word == "endless":
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side has heard enough
                for _ in range(64):
                    self.wfile.write(bytes(2**18))
            return
        self.send_header("Content-Length", str(len(rest)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if word == "half" else rest)

    def log_message(self, *args) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """A running server, which ends with the block."""
    server = FileServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
