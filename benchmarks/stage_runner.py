"""What a stage costs beside its own work: our runner, and DVC's own with a thin client.

`python -m benchmarks.stage_runner` makes campaigns of 1 and of 40 iterations in a temporary folder
and brings the last iteration's stages up to date in two ways, in turn and in the same process:

- ours, `distil_core.lineage.dvc.stage.run_stage`, which calls the stage's body in this process;
- DVC's, `Repo.reproduce` of the one stage, whose command is a client that asks this process to run
  the body, over a Unix socket. DVC locks, restores, digests and records.

The bodies write a few bytes, so that what is measured is what lies around them. Then each way is
tried on what a stage's runner has to hold.
"""

import argparse
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.faults.scene import create, small
from benchmarks.measure import machine, markdown_table
from distil_core.campaign.iterations import restart
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.lock import lock_file
from distil_core.lineage.dvc.session import load_stage, open_repo
from distil_core.lineage.dvc.stage import run_stage
from distil_core.lineage.dvc.upstream import load_pipeline
from distil_core.pipeline import stage_addresses
from distil_core.process_variables import variables_set
from distil_core.workspace import Workspace
from distil_flows.stages import stage_versions

HISTORY = (1, 40)
OUTCOMES = ("unchanged", "ran", "restored")
SOCKET = "DISTIL_STAGE_SOCKET"

_CLIENT = f"""\
import os, socket, sys

with socket.socket(socket.AF_UNIX) as client:
    client.connect(os.environ["{SOCKET}"])
    client.sendall(os.environ["DVC_STAGE"].encode())
    client.shutdown(socket.SHUT_WR)
    sys.exit(client.recv(1) != b"y")
"""

Runner = Callable[[str, bool], Any]
Body = Callable[[str], None]


@dataclass
class Campaign:
    """A workspace whose stages' bodies write a few bytes. body: what either runner has called."""

    workspace: Workspace
    outputs: dict[str, list[Path]]
    body: Body
    socket: str

    def ours(self, address: str, force: bool) -> None:
        """Bring the stage up to date by our runner."""
        run_stage(self.workspace, address, lambda: self.body(address), force)

    def dvcs(self, address: str, force: bool) -> None:
        """The same by DVC's."""
        with _internals.open_repo(self.workspace.root) as repo:
            repo.reproduce(targets=[address], single_item=True, force=force)

    def write(self, address: str) -> None:
        """The usual body: every output of the stage, the same bytes each time."""
        for path in self.outputs[address]:
            file = path if path.suffix else path / "part-0"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text('{"pass_at_1": 0.5}' if path.suffix == ".json" else "k,a\n1,2\n")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stage_runner", description=__doc__)
    parser.add_argument("--history", type=int, nargs="+", default=list(HISTORY), metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    rows, kept = [], []
    for history in arguments.history:
        with tempfile.TemporaryDirectory() as folder, campaign(Path(folder), history) as made:
            rows += [
                row(history, outcome, measure(made, history, outcome, arguments.repeats))
                for outcome in OUTCOMES
            ]
            kept = [[text, *(probe(made, run) for run in (made.ours, made.dvcs))]
                    for text, probe in PROBES]  # fmt: skip
    print(f"{machine()}; medians of {arguments.repeats} times 6 stages, in turn.\n")
    header = ["iterations", "stage", "ours s", "DVC's s", "more s", "ratio"]
    print(markdown_table([*header, "ours CPU s", "DVC's CPU s", "ratio"], rows))
    print()
    print(markdown_table(["what a runner has to hold", "ours", "DVC's"], kept))


@contextmanager
def campaign(folder: Path, history: int) -> Iterator[Campaign]:
    """A campaign of so many iterations, every stage recorded."""
    root = folder / "campaign"
    create(root, lambda params: {**small(params), "num_iterations": history})
    for file in (root / "tasks").glob("*.py"):
        file.write_text(_CLIENT)
    workspace = Workspace(root)
    restart(workspace, stage_versions())
    with open_repo(workspace, "problems") as repo:
        definitions = load_pipeline(load_stage(repo, "problems")).definitions
    outputs = {
        address: [root / path for path in sorted(definition.outputs)]
        for address, definition in definitions.items()
    }
    made = Campaign(workspace, outputs, lambda _: None, str(folder / "socket"))
    made.body = made.write
    with chdir(root), _listening(made):
        for iteration in range(history + 1):
            for address in stage_addresses(iteration):
                made.ours(address, False)
        yield made


@contextmanager
def _listening(made: Campaign) -> Iterator[None]:
    """Run bodies for clients, which DVC starts with this process's variables."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # The copied stages, which are clients now, and not those that are installed.
    sources = str(made.workspace.root / "src")
    variables = {SOCKET: made.socket, "PATH": path, "PYTHONPATH": sources}
    with variables_set(variables), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(made.socket)
        listener.listen()
        threading.Thread(target=_serve, args=(made, listener), daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _serve(made: Campaign, listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            address = connection.makefile().read()
            try:
                made.body(address)
            except Exception as error:
                print(f"{address}: {error}", file=sys.stderr)
                connection.sendall(b"n")
            else:
                connection.sendall(b"y")


def measure(
    made: Campaign, history: int, outcome: str, repeats: int
) -> dict[str, tuple[float, float]]:
    """Median seconds and processor seconds of a stage by either runner."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "dvcs": []}
    for _ in range(repeats):
        for address in stage_addresses(history):
            for name, times in found.items():
                if outcome == "restored":
                    _remove(made.outputs[address][0])
                run: Runner = getattr(made, name)
                started, cpu = time.monotonic(), _cpu_s()
                run(address, outcome == "ran")
                times.append((time.monotonic() - started, _cpu_s() - cpu))
    return {
        name: (median(seconds for seconds, _ in times), median(cpu for _, cpu in times))
        for name, times in found.items()
    }


def _cpu_s() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def row(history: int, outcome: str, found: dict[str, tuple[float, float]]) -> list[str]:
    """Of the first table."""
    (ours, ours_cpu), (dvcs, dvcs_cpu) = found["ours"], found["dvcs"]
    seconds = [f"{ours:.2f}", f"{dvcs:.2f}", f"{dvcs - ours:+.2f}", f"{dvcs / ours:.1f}"]
    cpu = [f"{ours_cpu:.2f}", f"{dvcs_cpu:.2f}", f"{dvcs_cpu / ours_cpu:.1f}"]
    return [str(history), outcome, *seconds, *cpu]


def _no_outputs_of_a_failure(made: Campaign, run: Runner) -> str:
    def body(address: str) -> None:
        made.outputs[address][0].write_text("half")
        raise ValueError("fails halfway")

    failed = _runs(made, run, "sample@001", body)
    left = made.outputs["sample@001"][0].exists()
    made.ours("sample@001", False)
    return "no, half of it is left" if left or failed is None else "yes"


def _refuses_changed_inputs(made: Campaign, run: Runner) -> str:
    rollouts = made.outputs["sample@001"][0]
    before = rollouts.read_bytes()

    def body(address: str) -> None:
        made.write(address)
        rollouts.write_bytes(b"of another run")

    refused = _runs(made, run, "consult@001", body)
    rollouts.write_bytes(before)
    made.ours("consult@001", True)
    return "yes" if refused else "no, recorded as made from the new ones"


def _refuses_stale_sources(made: Campaign, run: Runner) -> str:
    file = lock_file(made.workspace)
    before = file.read_text(encoding="utf-8")
    locked = yaml.safe_load(before)
    del locked["stages"]["sample@001"]
    file.write_text(yaml.safe_dump(locked, sort_keys=False), encoding="utf-8")
    refused = _runs(made, run, "consult@001", made.write)
    file.write_text(before, encoding="utf-8")
    return "yes" if refused else "no, runs with what lies there"


def _replaces_the_lock_file(made: Campaign, run: Runner) -> str:
    file, frozen = lock_file(made.workspace), made.workspace.frozen_params_file(1)
    before = file.stat().st_ino
    settings = frozen.read_text(encoding="utf-8")
    frozen.write_text(settings.replace("seed: ", "seed: 1", 1), encoding="utf-8")
    run("sample@001", False)
    replaced = file.stat().st_ino != before
    frozen.write_text(settings, encoding="utf-8")
    made.ours("sample@001", False)
    return "yes" if replaced else "no, it is written over in place"


def _others_may_use_it(made: Campaign, run: Runner) -> str:
    said: list[int] = []

    def body(address: str) -> None:
        made.write(address)
        command = [sys.executable, "-m", "dvc", "status", "--quiet", "problems"]
        said.append(subprocess.run(command, capture_output=True, check=False).returncode)

    _runs(made, run, "sample@001", body)
    return "yes" if said == [0] else "no"


PROBES: tuple[tuple[str, Callable[[Campaign, Runner], str]], ...] = (
    ("a body that fails leaves no outputs", _no_outputs_of_a_failure),
    ("inputs that change meanwhile are refused", _refuses_changed_inputs),
    ("a stage whose sources are not recorded is refused", _refuses_stale_sources),
    ("a kill leaves the lock file whole", _replaces_the_lock_file),
    ("other commands may use the repository meanwhile", _others_may_use_it),
)


def _runs(made: Campaign, run: Runner, address: str, body: Body) -> Exception | None:
    """How running the stage with another body ends."""
    made.body = body
    try:
        run(address, True)
    except Exception as error:
        return error
    finally:
        made.body = made.write
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
