"""A Prefect API to report to: the one the user runs, or one of our own for as long as a run lasts.

Prefect's own temporary server outlives a killed parent, gives up after 20 s and shows no pages.
Ours ends with the process that started it, however that ends, and uses the workspace's database,
so that `prefect server start` shows the same runs later.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distil_core.errors import DistilError
from distil_core.workspace import Workspace
from flows.start_up import kept_for_good

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
_HOST = "127.0.0.1"
# The line of a traceback that names the exception; frames are indented.
_ERROR_LINE = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt)\b.*:")


class PrefectApiError(DistilError):
    """No Prefect API can be reached, or ours did not start."""


@dataclass(frozen=True)
class PrefectApi:
    """url: of the API. pages_url: of its pages. own: started for this run, ends with it.

    wait_until_ready: returns once the API answers; until then other work can be done.
    """

    url: str
    pages_url: str
    own: bool
    wait_until_ready: Callable[[], None]


def answering(url: str) -> Literal["prefect", "other", "nothing"]:
    """What listens at the API address `url`."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return "prefect" if response.read().strip() == b"true" else "other"
    except urllib.error.HTTPError:
        return "other"
    except (OSError, ValueError):
        return "nothing"


def configured_url() -> str:
    """The API address in force: the shell's PREFECT_API_URL, else that of pyproject.toml."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return str(settings.api.url or f"http://{_HOST}:{settings.server.api.port}/api").rstrip("/")


def require_answering(url: str) -> None:
    """Raise `PrefectApiError`, with what to do, unless a Prefect API answers at `url`."""
    found = answering(url)
    if found == "nothing":
        raise PrefectApiError(
            f"no Prefect server answers at {url}. Start one in another terminal with "
            "`prefect server start`, or set PREFECT_API_URL to the address of yours."
        )
    if found == "other":
        raise PrefectApiError(
            f"something else than a Prefect server answers at {url}. Start one on another port, "
            "in a terminal of its own:\n"
            f"  export PREFECT_API_URL=http://{_HOST}:4300/api\n"
            "  prefect server start --port 4300\n"
            "and set the same PREFECT_API_URL here."
        )


@contextmanager
def prefect_api(workspace: Workspace) -> Iterator[PrefectApi]:
    """The configured API if it answers, else a server of our own while the block runs.

    An address set in the shell is never replaced: if it does not answer, `PrefectApiError`.
    """
    url = configured_url()
    pages_url = url.removesuffix("/api")
    if "PREFECT_API_URL" in os.environ:
        require_answering(url)
    if answering(url) == "prefect":
        yield PrefectApi(url, pages_url, False, lambda: None)
        return
    log_file = workspace.scratch_dir / "prefect-server.log"
    own_url = f"http://{_HOST}:{_free_port()}/api"
    with _server(own_url, log_file) as process, _in_force(own_url, pages_url):

        def wait() -> None:
            _wait_until_ready(own_url, process, log_file)

        try:
            yield PrefectApi(own_url, pages_url, True, wait)
        finally:
            _send_what_is_queued()


@contextmanager
def _server(url: str, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.api_server", url],
            # The server reads it to notice our end.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PREFECT_API_URL": url},
            # Ctrl-C is meant for us; the server must live to be told how the run ended.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _in_force(url: str, pages_url: str) -> Iterator[None]:
    """`url` is this process's API. Links lead to where `prefect server start` shows the runs."""
    from prefect.context import refresh_global_settings_context

    variables = {"PREFECT_API_URL": url, "PREFECT_UI_URL": pages_url}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    refresh_global_settings_context()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        refresh_global_settings_context()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while answering(url) != "prefect":
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            how = "ended at once" if ended else f"was not ready after {START_TIMEOUT_S:.0f} s"
            log = log_file.read_text(encoding="utf-8", errors="replace")
            raise PrefectApiError(
                f"the Prefect server for this run {how}: {_explain(log)}\n"
                f"All it said is in {log_file}."
            )
        time.sleep(0.1)


def _explain(log: str) -> str:
    """The error that a server's log ends with, not the frames around it, and what to do."""
    errors = [line.strip() for line in log.splitlines() if _ERROR_LINE.match(line)]
    said = [line.strip() for line in log.splitlines() if line.strip()]
    last = (errors or said or ["it said nothing"])[-1]
    if "database is locked" in log:
        database = Path(os.environ.get("PREFECT_HOME", ".prefect"), "prefect.db")
        return (
            f"its database is locked by another process ({last}). `fuser -v {database}` names who "
            "holds it: end that process, or wait for it, and run again"
        )
    return f"{last}. `distil doctor` checks the installation"


def _send_what_is_queued() -> None:
    """States of task runs and log lines are sent from queues; the server must hear them all."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=STOP_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        return int(listener.getsockname()[1])


def _end_with_parent() -> None:
    """The other end of stdin closes when the parent ends, even if it was killed."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _serve(url: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with kept_for_good():
        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app(final=True)
    port = int(url.removesuffix("/api").rpartition(":")[2])
    uvicorn.run(app, host=_HOST, port=port, log_level="warning")


if __name__ == "__main__":
    _serve(sys.argv[1])
