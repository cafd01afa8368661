"""A scratch copy of the code with the scripted verifier, and verification runs in it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[3]

PROGRAM = """
import json, sys
from pathlib import Path
from distil_core.config.models import Component, ConsultParams
from distil_core.errors import DistilError
from distil_core.problems.base import Problem
from distil_core.verifiers.base import Verification
from distil_core.verifiers.pool import *
call = json.loads(sys.argv[1])
params = ConsultParams(
    verifier=Component(name="scripted", options={"build": call["build"]}),
    reveal="nothing",
    verify_timeout_s=call["timeout_s"],
)
jobs = [
    VerificationJob(Problem(f"prompt {index % call['problems']}", "right"), text)
    for index, text in enumerate(call["responses"])
]
try:
    with Journal(Path("journal.sqlite"), settings_digest(params, 1)) as journal:
        print(json.dumps({"resumed": journal.num_resumed}), flush=True)
        verify_all(iter(jobs), len(jobs), params, call["num_workers"], journal,
                   lambda done, total: None, call["chunk_size"])
        for job in jobs:
            outcome = journal.find(job.key)
            print(json.dumps(outcome.verdict if isinstance(outcome, Verification)
                             else {"error": str(outcome)}))
        journal.remove()
except DistilError as error:
    print(json.dumps({"raised": type(error).__name__, "text": str(error)}))
"""


class ScratchRun:
    """Runs of one scratch folder; its journal and call log stay between them."""

    def __init__(self, root: Path):
        self.root = root
        package = root / "distil_core"
        shutil.copytree(
            PROJECT / "distil_core", package, ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(
            Path(__file__).parent / "scripted_verifier.py", package / "verifiers/scripted.py"
        )

    def start(
        self,
        responses: Sequence[str],
        num_workers: int = 2,
        timeout_s: float | None = 60.0,
        chunk_size: int = 4,
        build: str = "",
        problems: int = 1,
    ) -> "subprocess.Popen[str]":
        call = {
            "responses": list(responses),
            "num_workers": num_workers,
            "timeout_s": timeout_s,
            "chunk_size": chunk_size,
            "build": build,
            "problems": problems,
        }
        # Where the packages are, should this Python have been told so.
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(call)],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def results(self, responses: Sequence[str], **settings: Any) -> list[Any]:
        """What the run printed after its first line, and that it left no process."""
        process = self.start(responses, **settings)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert self.processes() == []
        return [json.loads(line) for line in output.splitlines()][1:]

    def calls(self) -> Counter[str]:
        path = self.root / "calls.log"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return Counter(line.partition(" ")[2] for line in lines)

    def workers(self) -> set[int]:
        """Ids of the processes that have judged something."""
        lines = (self.root / "calls.log").read_text(encoding="utf-8").splitlines()
        return {int(line.partition(" ")[0]) for line in lines}

    def worker_at(self, response: str) -> int:
        """The process that began to judge this response last."""
        lines = (self.root / "calls.log").read_text(encoding="utf-8").splitlines()
        return next(int(line.split(" ")[0]) for line in reversed(lines) if line.endswith(response))

    def processes(self) -> list[int]:
        """All processes that live in the folder, zombies left aside."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.root:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"not within 120 s: {what}"
            time.sleep(0.02)
