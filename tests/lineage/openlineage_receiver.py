"""A small server that takes OpenLineage events as a catalogue does."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """taken: method, path, authorization and body of each request. refuse_from: the number of the
    first event that it answers with 422; None to take all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[str, str, str | None, dict[str, Any]]] = []
        self.refuse_from: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refuse_from = self.server.refuse_from
        refused = refuse_from is not None and len(self.server.taken) >= refuse_from
        if not refused:
            authorization = self.headers.get("Authorization")
            self.server.taken.append(("POST", self.path, authorization, json.loads(body)))
        self.send_response(422 if refused else 201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
