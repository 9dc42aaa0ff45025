"""A judge on 127.0.0.1 that replies what a test says, and writes down what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | int | bytes
"""The text of a chat completion, an HTTP status, or a body as it is."""


class StubJudge:
    """Replies, one after the other or by what is asked.

    Args:
        reply: returns the reply to a prompt.
    """

    def __init__(self, reply: Callable[[str], Reply]) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""

    @property
    def prompts(self) -> list[str]:
        """Return the prompts so far."""
        return [each["messages"][0]["content"] for each in self.asked]


@contextmanager
def judge_server(reply: Callable[[str], Reply]) -> Iterator[StubJudge]:
    """Serve a judge for as long as the block runs."""
    stub = StubJudge(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.asked.append(body)
            stub.headers.append(dict(self.headers))
            stub.paths.append(self.path)
            found = stub.reply(body["messages"][0]["content"])
            status = found if isinstance(found, int) else 200
            if isinstance(found, bytes):
                data = found
            else:
                data = json.dumps({"choices": [{"message": {"content": found}}]}).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{stub.url}/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
