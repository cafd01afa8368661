"""A Prefect server of the user's own that is down, dies amid a run, or is started anew."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.faults.scene import FLOW, STAGES, NotInjectedError, Scene, finish
from distil_flows.api_server import answering

_START_S = 90.0


def server_down(scene: Scene) -> str:
    """Nothing answers at the address that the user set."""
    url = f"http://127.0.0.1:{_free_port()}/api"
    result = scene.run(PREFECT_API_URL=url)
    scene.require_message(result, "no Prefect server answers at .*prefect server start")
    scene.require_whole()
    scene.require_mended()
    return url


def server_killed(scene: Scene) -> str:
    """The server dies while the flow runs; the run says so, and the next one goes on."""
    port = _free_port()
    with _server(scene, port) as server:
        process = scene.start(PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        where = _wait_for_operations(scene, process)
        os.killpg(server.pid, signal.SIGKILL)
        result = finish(process)
    if result.status:
        scene.require_message(result, "(?i)prefect")
    scene.require_whole()
    scene.require_mended()
    return f"{where}; exit {result.status}"


def server_restarted(scene: Scene) -> str:
    """The server is killed and started anew while the flow runs."""
    port = _free_port()
    with _server(scene, port) as server:
        process = scene.start(PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        where = _wait_for_operations(scene, process)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        with _server(scene, port):
            result = finish(process)
    if result.status:
        scene.require_message(result, "(?i)prefect")
    scene.require_whole()
    scene.require_mended()
    return f"{where}; exit {result.status}"


@contextmanager
def _server(scene: Scene, port: int) -> Iterator["subprocess.Popen[str]"]:
    url = f"http://127.0.0.1:{port}/api"
    arguments = ("-m", "prefect", "server", "start", "--port", str(port))
    process = scene.start(*arguments, PREFECT_API_URL=url)
    try:
        _wait(lambda: answering(url) == "prefect", "the Prefect server")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_for_operations(scene: Scene, process: "subprocess.Popen[str]") -> str:
    """Return once the flow is at the scene's stage, at a moment drawn by lot."""
    busy = scene.root / ".distil" / "flow-runs"
    _wait(
        lambda: process.poll() is not None or (busy.exists() and any(busy.glob("[!.]*"))),
        "the flow's start",
    )
    seconds = scene.random.uniform(0, 6)
    time.sleep(seconds)
    if process.poll() is not None:
        raise NotInjectedError(f"the flow was over: {finish(process).output}")
    return f"{seconds:.1f} s into the flow"


def _wait(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _START_S
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {_START_S:.0f} s")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


KINDS = {
    "Prefect server down": (server_down, (FLOW,), STAGES),
    "Prefect server killed": (server_killed, (FLOW,), STAGES),
    "Prefect server restarted": (server_restarted, (FLOW,), STAGES),
}
