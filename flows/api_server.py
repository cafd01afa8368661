"""A Prefect API to report to: the user's, or one of our own for as long as a run lasts.

Prefect's own temporary server outlives a killed parent, gives up after 20 s and shows no pages.
Ours ends with the process that started it, however that ends, and uses the workspace's database, so
that `prefect server start` shows the same runs later.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distil_core.files import private_file, private_folder
from distil_core.process_variables import variables_set
from distil_core.workspace import Workspace
from distil_flows import _internals
from distil_flows.api_identity import PrefectApiError, answering, check_version, is_ours
from distil_flows.start_up import exempt_from_garbage_collection

START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 10.0
DEFAULT_URL = "http://127.0.0.1:4200/api"
"""As this project's pyproject.toml and Prefect itself have it: named by nobody."""

__all__ = [
    "PrefectApi",
    "PrefectApiError",
    "answering",
    "configured_url",
    "prefect_api",
    "require_answering",
    "require_own",
]

_HOST = "127.0.0.1"
_ON_ANOTHER_PORT = (
    f"  export PREFECT_API_URL=http://{_HOST}:4300/api\n"
    "  prefect server start --port 4300\n"
    "and set the same PREFECT_API_URL here."
)
# The line of a traceback that names the exception; frames are indented.
_ERROR_LINE = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt)\b.*:")


@dataclass(frozen=True)
class PrefectApi:
    """url: of the API. pages_url: of its pages. own: started for this run, and ends with it.

    wait_until_ready: returns once the API answers; other work can be done until then. password: for
    its pages; '' for none. note: a line for the user; '' for none.
    """

    url: str
    pages_url: str
    own: bool
    wait_until_ready: Callable[[], None]
    password: str = ""
    note: str = ""


def configured_url() -> str:
    """The API address in force: the shell's PREFECT_API_URL, else that of pyproject.toml."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return str(settings.api.url or f"http://{_HOST}:{settings.server.api.port}/api").rstrip("/")


def is_chosen(url: str) -> bool:
    """Whether the user named this address, and so vouches for what answers there."""
    return "PREFECT_API_URL" in os.environ or url != DEFAULT_URL


def require_answering(url: str) -> str:
    """Raise `PrefectApiError`, with what to do, unless a Prefect API of this version answers at
    `url`. Returns a line for the user, '' where there is nothing to say."""
    found = answering(url)
    if found == "nothing":
        raise PrefectApiError(
            f"no Prefect server answers at {url}. Start one in another terminal with "
            "`prefect server start`, or set PREFECT_API_URL to the address of yours."
        )
    if found == "other":
        raise PrefectApiError(
            f"something else than a Prefect server answers at {url}. Start one on another port, "
            f"in a terminal of its own:\n{_ON_ANOTHER_PORT}"
        )
    return check_version(url)


def require_own(url: str) -> str:
    """Like `require_answering`; unless the user chose the address, the server must also be this
    workspace's."""
    if is_chosen(url) or answering(url) != "prefect" or is_ours(url):
        return require_answering(url)
    raise PrefectApiError(
        f"the Prefect server at {url} is not this workspace's: it does not show what stands in "
        f"{_home() / 'prefect.db'}, so another workspace or another user started it. To share it, "
        f"`export PREFECT_API_URL={url}`; to have one of your own, in a terminal of its own:\n"
        f"{_ON_ANOTHER_PORT}"
    )


@contextmanager
def prefect_api(workspace: Workspace) -> Iterator[PrefectApi]:
    """The configured API if it answers and is the user's, else a server of our own for the block.

    An address set in the shell is never replaced: if it does not answer, `PrefectApiError` is
    raised. What answers at the default address must prove that it is this workspace's.
    """
    url = configured_url()
    pages_url = url.removesuffix("/api")
    if "PREFECT_API_URL" in os.environ:
        yield PrefectApi(url, pages_url, False, lambda: None, note=require_answering(url))
        return
    found = answering(url)
    if found == "prefect" and (is_chosen(url) or is_ours(url)):
        yield PrefectApi(url, pages_url, False, lambda: None, note=check_version(url))
        return
    log_file = workspace.scratch_dir / "prefect-server.log"
    password = f"distil:{secrets.token_urlsafe(16)}"
    with (
        _server(log_file, password) as (process, own_url),
        _in_force(own_url, pages_url, password),
    ):

        def wait() -> None:
            _wait_until_ready(own_url, process, log_file)

        try:
            note = _what_else_is_there(url, found)
            yield PrefectApi(own_url, pages_url, True, wait, password, note)
        finally:
            _internals.flush_queues(STOP_TIMEOUT_S)


def _what_else_is_there(url: str, found: str) -> str:
    if found == "nothing":
        return ""
    what = (
        "A Prefect server that is not this workspace's"
        if found == "prefect"
        else "Something else than a Prefect server"
    )
    return (
        f"{what} answers at {url}; this run has a server of its own. "
        f"To report there all the same, `export PREFECT_API_URL={url}`."
    )


@contextmanager
def _server(log_file: Path, password: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The server's process, and the address of its API. It asks for the password, as any user of
    the machine may connect to a port."""
    private_folder(log_file.parent)
    private_folder(_home())
    private_file(log_file)
    with log_file.open("wb") as log, socket.socket() as listener:
        # Bound here, so that no other server can take the port before ours is up.
        listener.bind((_HOST, 0))
        listener.listen()
        url = f"http://{_HOST}:{listener.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "distil_flows.api_server", str(listener.fileno())],
            # The server reads this pipe to notice when this process ends.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PREFECT_API_URL": url,
                "PREFECT_API_AUTH_STRING": password,
                "PREFECT_SERVER_API_AUTH_STRING": password,
            },
            pass_fds=[listener.fileno()],
            # Ctrl-C is for this process only; the server must live to be told how the run ended.
            start_new_session=True,
            umask=0o077,
        )
    try:
        yield process, url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _home() -> Path:
    from prefect.settings import get_current_settings

    return get_current_settings().home


@contextmanager
def _in_force(url: str, pages_url: str, password: str) -> Iterator[None]:
    """In the block `url` is this process's API. Links lead to where `prefect server start` shows
    the runs."""
    variables = {
        "PREFECT_API_URL": url,
        "PREFECT_UI_URL": pages_url,
        "PREFECT_API_AUTH_STRING": password,
    }
    try:
        with variables_set(variables):
            _internals.reload_settings()
            yield
    finally:
        _internals.reload_settings()


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
    """The error at the end of a server's log, without the frames around it, and what to do."""
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


def _end_with_parent() -> None:
    """Wait for the other end of stdin to close, as it does when the parent ends, even if it was
    killed."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _serve(descriptor: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with exempt_from_garbage_collection():
        import uvicorn

        app = _internals.server_app()
    listener = socket.socket(fileno=descriptor)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
