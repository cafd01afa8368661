"""A real OpenAI-compatible HTTP server in a thread, with faults on demand."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_DRIPS = {
    "drip": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 300,
    "drip of headers": b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20,
}


@dataclass
class LocalEndpoint:
    """answer: text and finish reason for a request body. faults: what the next requests meet
    instead of an answer, in order. seen: all requests as (path, headers, body, at monotonic s)."""

    answer: Callable[[dict[str, Any]], tuple[str | None, str]]
    faults: list[Any] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], dict[str, Any], float]] = field(default_factory=list)
    tokens_per_answer: int | None = 10
    delay_s: float = 0.0
    most_at_once: int = 0
    url: str = ""

    def __enter__(self) -> "LocalEndpoint":
        endpoint, lock, under_way = self, threading.Lock(), [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    endpoint.seen.append((self.path, dict(self.headers), body, time.monotonic()))
                    fault = endpoint.faults.pop(0) if endpoint.faults else None
                    under_way[0] += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, under_way[0])
                try:
                    time.sleep(endpoint.delay_s)
                    self._reply(body, fault)
                finally:
                    with lock:
                        under_way[0] -= 1

            def _reply(self, body: dict[str, Any], fault: Any) -> None:
                if fault == "disconnect":
                    self.close_connection = True
                elif fault == "half":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"choices": [')
                    self.close_connection = True
                elif fault == "slow":
                    time.sleep(4.0)
                    self.close_connection = True
                elif isinstance(fault, str) and fault in _DRIPS:
                    self.close_connection = True
                    for byte in _DRIPS[fault]:
                        try:
                            self.wfile.write(bytes([byte]))
                        except OSError:
                            return
                        time.sleep(0.1)
                elif isinstance(fault, bytes):
                    # Sent as it is, head and all.
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.wfile.write(fault)
                elif fault == "not gzip":
                    self._send(200, b"{}", {"Content-Encoding": "gzip"})
                elif isinstance(fault, str):
                    self._send(200, fault.encode(), {})
                elif fault is not None:
                    status, headers = fault
                    text = f"no: {self.headers.get('Authorization')}".encode()
                    self._send(status, text, headers)
                else:
                    self._send(200, json.dumps(self._answer(body)).encode(), {})

            def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
                text, reason = endpoint.answer(body)
                choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
                if self.path.endswith("/chat/completions"):
                    choice["message"] = {"role": "assistant", "content": text}
                else:
                    choice["text"] = text
                answer: dict[str, Any] = {"choices": [choice]}
                if endpoint.tokens_per_answer is not None:
                    answer["usage"] = {"total_tokens": endpoint.tokens_per_answer}
                return answer

            def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nothing: the tests look at `seen`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
