"""A small server that speaks the model hub's calls for an upload: create, preupload, LFS,
commit."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class Hub(ThreadingHTTPServer):
    """repositories: visibility by name. files: content by name, of the last commit. token: the one
    that may write."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.summary = ""
        self.token = "hf_writes"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in self.server.repositories else 200
            self.server.repositories.setdefault(name, asked["visibility"])
            return self._answer({"url": f"{self.server.address}/{name}", "id": name}, status)
        repository = next((r for r in self.server.repositories if f"/{r}" in self.path), None)
        if repository is None:
            return self._answer({"error": "Repository not found"}, 404)
        return self._of_repository(repository, body)

    def _of_repository(self, repository: str, body: bytes) -> None:
        if self.path == f"/api/models/{repository}/preupload/main":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        if self.path == f"/{repository}.git/info/lfs/objects/batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        assert self.path == f"/api/models/{repository}/commit/main"
        self._commit([json.loads(line) for line in body.splitlines()])
        address = f"{self.server.address}/{repository}/commit/{COMMIT}"
        return self._answer({"commitUrl": address, "commitOid": COMMIT, "success": True})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        self.server.files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.summary = value["summary"]
            elif line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.stored[value["oid"]]

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.stored[oid] = content
        self._answer({})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
