"""Scratch workspaces with the project's own code and a campaign so small that it runs at once."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import yaml

from distil_core.workspace import Workspace
from distil_flows.api_server import answering

PROJECT = Path(__file__).parents[2]
CODE = ("distil_core", "flows", "tasks")
FILES = (
    "pyproject.toml",
    "dvc.yaml",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".gitignore",
    "data/.gitignore",
)


def make_workspace(root: Path, params: dict[str, Any] | None = None) -> Workspace:
    """A committed workspace with these settings, or else the project's in tiny, and no iterations
    yet."""
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    for name in CODE:
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / ".dvc/plots", root / ".dvc/plots")
    shutil.copytree(PROJECT / "src", root / "src", symlinks=True)
    if params is None:
        params = tiny(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (root / "iterations.yaml").write_text(
        "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"
    )
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    return Workspace(root)


def tiny(params: dict[str, Any]) -> dict[str, Any]:
    """The project's settings, with sizes that make a stage a matter of tenths of a second."""
    params["num_iterations"] = 1
    params["problems"].update(num_warm_start=64, num_train=32, num_eval=16)
    phase = params["base"]["phases"][0] | {"num_steps": 4}
    params["base"].update(phases=[phase], batch_size=16, warmup_steps=1)
    if "num_corrections" in params["base"]:
        params["base"]["num_corrections"] = 32
    params["sample"].update(num_prompts=8, num_rollouts=2)
    params["train"].update(num_steps=2, batch_rollouts=8, warmup_steps=1)
    if params["problems"].get("generalisation"):
        params["problems"]["generalisation"]["num_problems"] = 8
    params["evaluate"].update(num_samples=4, num_bootstrap=100)
    # Two steps of training may do anything; what the gate makes of it has tests of its own.
    params["gate"].update(margins={"pass_at_1": 1.0})
    params["gate"]["alarms"] = dict.fromkeys(params["gate"]["alarms"]) | {"pass_at_n_fell": False}
    return params


def environment(**variables: str) -> dict[str, str]:
    """This process's environment for a command in a workspace, whose own code comes first."""
    return programs_first(Path(sys.executable).parent) | {"PYTHONPATH": "src", **variables}


def programs_first(programs: Path) -> dict[str, str]:
    """This process's environment without its settings of Prefect, and with these programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        # Runs are to be picked up at once.
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }


def start(
    root: Path,
    *arguments: str,
    output: int | IO[bytes] = subprocess.PIPE,
    **variables: str,
) -> "subprocess.Popen[str]":
    """`python -m ..` in the workspace `root`, its output in a pipe or a file."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(root: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit status and output of `python -m ..` in the workspace `root`."""
    process = start(root, *arguments, **variables)
    output, _ = process.communicate(timeout=3600)
    return process.returncode, output


def stop(process: "subprocess.Popen[str]") -> str:
    """End the process and its children; returns what it had to say."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return output


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """The API address of a `prefect server start` with the settings in `home`, on a port of its
    own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    arguments = ("prefect", "server", "start", "--port", str(port))
    # Into a file: on a busy machine it complains more than a pipe holds, and then waits for ever.
    with (home / "server.log").open("wb") as log:
        process = start(home, *arguments, output=log, PREFECT_API_URL=url)
    try:
        wait_for("prefect server", lambda: answering(url) == "prefect")
        yield url
    finally:
        stop(process)


def everything(server: str, kind: str) -> list[dict[str, Any]]:
    """What the server's API has of a kind, such as "flow_runs"."""
    found: list[dict[str, Any]] = json.loads(_ask(server, "POST", f"{kind}/filter", b"{}"))
    return found


def delete_deployments(server: str) -> None:
    for deployment in everything(server, "deployments"):
        _ask(server, "DELETE", f"deployments/{deployment['id']}")


def _ask(server: str, method: str, path: str, body: bytes | None = None) -> bytes:
    """The server's answer. As Prefect's own client does, it asks again after a 503, by which the
    server says that its database was busy with another request and nothing was done."""
    request = urllib.request.Request(
        f"{server}/{path}", body, {"Content-Type": "application/json"}, method=method
    )
    answers: list[bytes] = []

    def answered() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answers.append(response.read())
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        return bool(answers)

    wait_for(f"{method} {path}", answered)
    return answers[0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, happened: Callable[[], bool], timeout_s: float = 600.0) -> None:
    """Return once `happened` says so."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)
