"""MLflow's pages as `distil ui` serves them: the bare address leads to the campaign.

MLflow opens at its overview of GenAI traces, of which a campaign has none. Its own server runs this
application by the entry point in pyproject.toml (`mlflow server --app-name distil`).
"""

import json
import os
from typing import Any

from distil_core.lineage.mlflow import _internals

APP_NAME = "distil"
"""The application's name for MLflow, as pyproject.toml has it."""

START_PAGE_VARIABLE = "DISTIL_START_PAGE"
"""The address that a page without one goes to, relative to MLflow's (`#/experiments/..`)."""


def create_app() -> Any:
    """MLflow's ASGI application, whose first page goes on to the campaign."""
    app = _internals.pages_application()
    page = os.environ.get(START_PAGE_VARIABLE, "")
    if page:
        app.add_middleware(_WithStartPage, script=_script(page))
    return app


def _script(page: str) -> bytes:
    """Only without a page in the address: MLflow's links and others' bookmarks stay as they are."""
    target = json.dumps(page).replace("<", "\\u003c")
    return f"<script>if (!/^#\\/./.test(location.hash)) location.hash = {target};</script>".encode()


class _WithStartPage:
    """Adds the script to the head of the document at `/`, of which there is one."""

    def __init__(self, app: Any, script: bytes):
        self._app = app
        self._script = script

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        # Otherwise the browser may keep a copy of the document without the script.
        kept = [h for h in scope["headers"] if h[0] not in (b"if-none-match", b"if-modified-since")]
        start: dict[str, Any] = {}
        body = bytearray()

        async def collect(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                await self._send(start, bytes(body), send)

        await self._app({**scope, "headers": kept}, receive, collect)

    async def _send(self, start: dict[str, Any], body: bytes, send: Any) -> None:
        document = body.replace(b"<head>", b"<head>" + self._script, 1)
        dropped = (b"content-length", b"etag", b"last-modified")
        headers = [h for h in start["headers"] if h[0].lower() not in dropped]
        headers.append((b"content-length", str(len(document)).encode()))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": document})
