"""Where a fault is injected: a copy of a finished small campaign, taken back to before a stage.

The undisturbed campaign is made once. What it wrote is the measure of everything after: whatever
stands in `dvc.lock` or lies at an output's path must be it to the byte, at any moment.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from distil_core.lineage.dvc.lock import artifacts, read_entries
from distil_core.lineage.git import git
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
TRAP = Path(__file__).with_name("trap")
TIMEOUT_S = 400.0
STAGES = (*stage_addresses(0), *stage_addresses(1))
FLOW, TASK, REPRO = "distil run", "tasks", "dvc repro"
DOORS = (FLOW, TASK, REPRO)
_COPIED = (
    *("pyproject.toml", "dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore"),
    *(".gitignore", "data/.gitignore", "params.yaml"),
)
_CODE = ("distil_core", "flows", "tasks")
# It knows the folder that it was made in; a copy is recorded anew.
_NOT_COPIED = shutil.ignore_patterns("mlflow.db*", "mlruns", "__pycache__")


class NotSurvivedError(Exception):
    """A fault did harm: what was seen."""


class NotInjectedError(Exception):
    """The fault found nothing to strike at, or cannot be made on this machine: why."""


@dataclass(frozen=True)
class Result:
    """What a command came to. status: below 0, the signal that ended it."""

    status: int
    output: str


class Scene:
    """One fault's workspace, just before `stage` runs. kind: of the fault, for messages."""

    def __init__(self, reference: "Reference", root: Path, stage: str, door: str, random: Random):
        self.reference, self.stage, self.door, self.random = reference, stage, door, random
        self.workspace = Workspace(root)
        self.counter = root.with_name(f"{root.name}.operations")
        self.outputs: list[str] = []
        self.reset()

    @property
    def root(self) -> Path:
        """The workspace's folder."""
        return self.workspace.root

    def reset(self) -> None:
        """The campaign as if `stage` and all after it had never run."""
        self.remove()
        shutil.copytree(self.reference.root, self.root, symlinks=True, ignore=_NOT_COPIED)
        _take_back(self.workspace, STAGES[STAGES.index(self.stage) :])

    def remove(self) -> None:
        """Leave nothing on the disk."""
        shutil.rmtree(self.root, ignore_errors=True)
        for path in self.root.parent.glob(f"{self.counter.name}*"):
            path.unlink()

    def command(self, stage: str | None = None) -> list[str]:
        """What a user types to have the stage done, after `python`."""
        stage = stage or self.stage
        name, _, key = stage.partition("@")
        if self.door == FLOW:
            return ["-m", "distil_flows.cli", "run"]
        if self.door == REPRO:
            return ["-m", "dvc", "repro", stage]
        return ["-m", f"distil_tasks.{name}", *(["--iteration", str(int(key))] if key else [])]

    def start(
        self, *arguments: str, prefix: Iterable[str] = (), **variables: str
    ) -> "subprocess.Popen[str]":
        """Python in the workspace; the door's command without arguments."""
        return subprocess.Popen(
            [*prefix, sys.executable, *(arguments or self.command())],
            cwd=self.root,
            env=environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, prefix: Iterable[str] = (), **variables: str) -> Result:
        """`start`, to the end; `NotSurvivedError` where that does not come."""
        return finish(self.start(*arguments, prefix=prefix, **variables))

    def trap(self, nth: int, delay_s: float = 0.0, number: int = signal.SIGKILL) -> dict[str, str]:
        """Variables under which a command is struck at its nth file operation (0: only counts)."""
        self.counter.unlink(missing_ok=True)
        settings = {
            "counter": str(self.counter),
            "root": str(self.root),
            "nth": nth,
            "delay_s": delay_s,
            "signal": int(number),
        }
        return {"DISTIL_TRAP": json.dumps(settings), "PYTHONPATH": f"src{os.pathsep}{TRAP}"}

    def struck_at(self) -> str | None:
        """The file operation at which the trap struck."""
        file = self.counter.with_name(f"{self.counter.name}.struck")
        return file.read_text(encoding="utf-8") if file.exists() else None

    def require_message(self, result: Result, pattern: str = "") -> None:
        """The command failed and said why, in words, which `told` keeps."""
        self.outputs.append(result.output)
        if result.status == 0:
            raise NotSurvivedError(f"went on as if nothing were wrong:\n{result.output}")
        if "Traceback (most recent call last)" in result.output:
            raise NotSurvivedError(f"a bare traceback:\n{result.output}")
        if not re.search(pattern or r"\w{3}", " ".join(result.output.split())):
            raise NotSurvivedError(f"nothing said that matches {pattern!r}:\n{result.output}")

    def require_whole(self, damaged: Iterable[str] = ()) -> None:
        """Nothing half-written is visible: every entry and output is the undisturbed one.

        damaged: outputs that the fault itself changed.
        """
        entries = read_entries(self.workspace)
        for address, entry in entries.items():
            if entry != self.reference.entries[address]:
                raise NotSurvivedError(f"dvc.lock has another {address} than the undisturbed run")
        for path, md5 in self.reference.outputs.items():
            found = digest(self.root / path)
            if found not in (None, md5) and path not in damaged:
                raise NotSurvivedError(f"{path} is visible half-written or with other content")

    def require_mended(self) -> None:
        """A rerun at the same door ends as if nothing had happened."""
        result = self.run()
        if result.status:
            raise NotSurvivedError(f"the rerun failed:\n{result.output}")
        self.require_finished()

    def require_finished(self) -> None:
        """What the door makes is there, equal to the undisturbed run, and nothing else is."""
        done = STAGES if self.door == FLOW else STAGES[: STAGES.index(self.stage) + 1]
        entries = read_entries(self.workspace)
        missing = [stage for stage in done if stage not in entries]
        if missing:
            raise NotSurvivedError(f"the rerun did not record {', '.join(missing)}")
        self.require_whole()
        left = [
            str(path.relative_to(self.root))
            for path in (self.root / "data").rglob(".*.*")
            if path.suffix in (".partial", ".replaced")
        ]
        if left:
            raise NotSurvivedError(f"left on the disk after the rerun: {', '.join(left)}")
        status = self.run("-m", "dvc", "status", *([] if self.door == FLOW else done))
        if status.status or "up to date" not in status.output:
            raise NotSurvivedError(f"dvc status is not clean:\n{status.output}")
        if self.door == FLOW:
            self._require_records()

    def _require_records(self) -> None:
        prefect = "SELECT name || ' ' || state_name FROM flow_run WHERE state_type NOT IN "
        prefect += "('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')"
        alive = _query(self.root / ".prefect" / "prefect.db", prefect)
        tasks = prefect.replace("FROM flow_run", "FROM task_run")
        alive += _query(self.root / ".prefect" / "prefect.db", tasks)
        if alive:
            raise NotSurvivedError(f"runs of Prefect that look alive: {alive}")
        runs = "SELECT name || ' ' || status FROM runs WHERE lifecycle_stage = 'active'"
        found = sorted(_query(self.workspace.mlflow_database, runs))
        names = ("campaign 1", "iteration 000 (base)", "iteration 001")
        expected = [f"{name} FINISHED" for name in names]
        if found != expected:
            raise NotSurvivedError(f"MLflow has the runs {found}, not {expected}")


class Reference:
    """The undisturbed campaign, and what it wrote: entries of dvc.lock, md5 by path."""

    def __init__(self, root: Path):
        self.root = root
        create(root)
        self.num_operations: dict[tuple[str, str], int] = {}
        result = run_campaign(root)
        if result.status:
            raise RuntimeError(f"the undisturbed run failed:\n{result.output}")
        self.entries = read_entries(Workspace(root))
        self.outputs = {
            path: output.md5
            for entry in self.entries.values()
            for path, output in artifacts(entry, "outs").items()
        }


def environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's own, with the code of the workspace first, and none of its Prefect."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": path, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1", **variables}


def run_campaign(
    root: Path, prefix: Sequence[str] = (), timeout_s: float | None = TIMEOUT_S
) -> Result:
    """`make run` without its installation, started through `prefix`."""
    return finish(
        subprocess.Popen(
            [*prefix, sys.executable, "-m", "distil_flows.cli", "run"],
            cwd=root,
            env=environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ),
        timeout_s,
    )


def finish(process: "subprocess.Popen[str]", timeout_s: float | None = TIMEOUT_S) -> Result:
    """Wait for its end; one that does not come is a failure of its own."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise NotSurvivedError(f"no end after {timeout_s:.0f} s:\n{output}") from None
    return Result(process.returncode, output)


def digest(path: Path) -> str | None:
    """The md5 under which DVC knows a file or folder; None where nothing is."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [
        {
            "md5": hashlib.md5(file.read_bytes()).hexdigest(),
            "relpath": file.relative_to(path).as_posix(),
        }
        for file in files
    ]
    listing.sort(key=lambda item: item["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def small(params: dict[str, Any]) -> dict[str, Any]:
    """The project's settings, with sizes that make a stage a matter of a second."""
    params["num_iterations"] = 1
    params["problems"].update(num_warm_start=64, num_train=64, num_eval=32)
    params["problems"]["generalisation"]["num_problems"] = 8
    phase = params["base"]["phases"][0] | {"num_steps": 8}
    params["base"].update(phases=[phase], batch_size=16, warmup_steps=1, num_corrections=32)
    params["sample"].update(num_prompts=16, num_rollouts=2)
    params["train"].update(num_steps=12, batch_rollouts=8, warmup_steps=1)
    params["evaluate"].update(num_samples=4, num_bootstrap=100)
    params["gate"].update(margins={"pass_at_1": 1.0})
    params["gate"]["alarms"] = dict.fromkeys(params["gate"]["alarms"]) | {"pass_at_n_fell": False}
    return params


def create(root: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = small) -> None:
    """A git repository with the project's code and a campaign that has not run yet, with the
    project's settings as `change` returns them."""
    for name in _COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / "src", root / "src", symlinks=True)
    for name in _CODE:
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    params = change(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")))
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (root / "iterations.yaml").write_text(
        "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"
    )
    user = ("-c", "user.name=faults", "-c", "user.email=faults@example.org")
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        git(root, *user, *arguments)


def _take_back(workspace: Workspace, stages: Iterable[str]) -> None:
    """Forget the stages: their entries, outputs, cached content and cached runs."""
    file = workspace.root / "dvc.lock"
    contents = yaml.safe_load(file.read_text(encoding="utf-8"))
    cache = workspace.root / ".dvc" / "cache"
    shutil.rmtree(cache / "runs", ignore_errors=True)
    removed: list[dict[str, Any]] = []
    text = file.read_text(encoding="utf-8")
    for stage in stages:
        removed += contents["stages"].pop(stage)["outs"]
        block = re.compile(rf"^  {re.escape(stage)}:\n(?:   .*\n|  - .*\n)*", re.MULTILINE)
        text = block.sub("", text)
    kept = {out["md5"] for entry in contents["stages"].values() for out in entry["outs"]}
    file.write_text(text if kept else "schema: '2.0'\nstages: {}\n", encoding="utf-8")
    if not kept:
        file.unlink()
    for out in removed:
        path = workspace.root / out["path"]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        md5 = out["md5"]
        if md5 not in kept:
            (cache / "files" / "md5" / md5[:2] / md5[2:]).unlink(missing_ok=True)


def _query(database: Path, statement: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [str(value) for (value,) in connection.execute(statement)]
