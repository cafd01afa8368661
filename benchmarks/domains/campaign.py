"""One preset's campaign at one seed: in a clone of this repository, as a user runs it."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.expert_reads_feedback import label_accuracies
from distil_core.campaign import load_iteration_params
from distil_core.errors import DistilError
from distil_core.files import write_text
from distil_core.lineage.git import git
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
PRESETS = PROJECT / "presets"
_MEMORY_POLL_S = 0.5


@dataclass(frozen=True)
class Run:
    """A preset by its file's name, the seed that takes the place of its own, and further settings
    that differ from it, as `--set` takes them."""

    domain: str
    seed: int
    settings_set: tuple[str, ...] = ()

    def settings(self) -> str:
        """The preset's text with this seed."""
        text = (PRESETS / f"{self.domain}.yaml").read_text(encoding="utf-8")
        return re.sub(r"(?m)^seed: \d+", f"seed: {self.seed}", text, count=1)

    def file(self, folder: Path) -> Path:
        """Where the result is kept; its name carries a digest of the settings, not of comments."""
        values = json.dumps(yaml.safe_load(self.settings()), sort_keys=True)
        digest = hashlib.blake2b("\n".join([values, *self.settings_set]).encode(), digest_size=4)
        return folder / f"{self.domain}-{self.seed}-{digest.hexdigest()}.json"

    def result(self, folder: Path) -> dict[str, Any] | None:
        """What `execute` wrote; None where it has not been run with these settings."""
        file = self.file(folder)
        found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
        return found


def preset_seed(domain: str) -> int:
    """The seed that the preset itself has, from which the further ones are counted."""
    values: dict[str, Any] = yaml.safe_load((PRESETS / f"{domain}.yaml").read_text("utf-8"))
    return int(values["seed"])


def execute(run: Run, folder: Path) -> None:
    """Run the campaign and write its result. Raises `DistilError` where the run does not finish.

    The clone is of the last commit, so that a result belongs to a state of the code that has a
    name.
    """
    with tempfile.TemporaryDirectory(prefix=f"distil-{run.domain}-") as scratch:
        workspace = Workspace(Path(scratch) / "workspace")
        git(PROJECT, "clone", "--quiet", "--no-hardlinks", ".", str(workspace.root))
        settings = workspace.root / "presets" / "benchmark.yaml"
        settings.write_text(run.settings(), encoding="utf-8")
        if run.settings_set:
            # What does not depend on them, such as the base policy, is made once a seed.
            cache = f"[cache]\n    dir = {folder.resolve() / 'cache'}\n"
            write_text(workspace.root / ".dvc" / "config.local", cache)
        restart = ("-m", "distil_flows.cli", "restart", "--params", "presets/benchmark.yaml")
        changed = (argument for setting in run.settings_set for argument in ("--set", setting))
        measured((*restart, *changed), workspace.root)
        cost = measured(("-m", "distil_flows.cli", "run"), workspace.root)
        result = {
            **asdict(run),
            "commit": git(workspace.root, "rev-parse", "HEAD").strip(),
            **cost,
            **_outcome(workspace, with_expert=not run.settings_set),
        }
    write_text(run.file(folder), json.dumps(result, indent=1) + "\n")


def _outcome(workspace: Workspace, with_expert: bool) -> dict[str, Any]:
    params = load_iteration_params(workspace, 1)
    curve, seconds = [], []
    for iteration in range(params.num_iterations + 1):
        curve.append(json.loads(workspace.metrics_file(iteration).read_text()))
        seconds.append(json.loads(workspace.timings_file(iteration).read_text()))
    outcome: dict[str, Any] = {"curve": curve, "stage_seconds": seconds}
    if with_expert:
        accuracies = label_accuracies(workspace, params)
        outcome["expert"] = {name: asdict(accuracy) for name, accuracy in accuracies.items()}
    return outcome


def measured(arguments: Sequence[str], root: Path) -> dict[str, float]:
    """Run Python there; its wall and processor seconds, and the most memory that it and its
    children held together."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _session_bytes(process.pid))
            time.sleep(_MEMORY_POLL_S)
        if process.returncode:
            output.seek(0)
            raise DistilError(f"{' '.join(arguments)} in {root} failed:\n{output.read()[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": time.monotonic() - started,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory_mb": peak_bytes / 1e6,
    }


def _session_bytes(session: int) -> int:
    """Resident memory of all processes of a session; pages shared between them count each time."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * resource.getpagesize()
    return total
