"""How fast responses are verified: rows/s by number of workers, memory by rows, time to resume.

`python -m benchmarks.consult` verifies GSM8K-style answers, all different, with a named verifier
(`--verifier final_number`). Its peer is a plain loop over the verifier, which keeps nothing and
stops for good when it is interrupted. `--rows` sets how many; `--memory` measures peak memory of
the verifying process and its workers from a thousand rows to `--rows`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from distil_core.config.models import Component, ConsultParams
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.verifiers import build_verifier
from distil_core.verifiers.pool import Journal, VerificationJob, settings_digest, verify_all


def main() -> None:
    """Print a line for each measurement."""
    arguments = _parse_arguments()
    if arguments.one is not None:
        print(json.dumps(_verify(arguments.verifier, arguments.rows, arguments.one)))
        return
    loop_s = _loop(arguments.verifier, arguments.rows)
    print(f"{arguments.rows} answers, verifier {arguments.verifier}")
    print(f"  plain loop              {arguments.rows / loop_s:8.0f} rows/s  1.00")
    for num_workers in (1, 2):
        seconds = _measure(arguments.verifier, arguments.rows, num_workers)["seconds"]
        rate = arguments.rows / seconds
        print(f"  {num_workers} worker{'s' * (num_workers > 1):18}{rate:8.0f} rows/s", end="  ")
        print(f"{loop_s / seconds:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        _verify(arguments.verifier, arguments.rows, 2, Path(folder), keep=True)
        resumed = _verify(arguments.verifier, arguments.rows, 2, Path(folder))
    print(f"  resume with all verdicts kept: {resumed['seconds']:.2f} s")
    if arguments.memory:
        rows = 1000
        while rows <= arguments.rows:
            found = _measure(arguments.verifier, rows, 2)
            print(f"  {rows:7} rows: peak {found['parent_mb']:.0f} MB", end="")
            print(f" and {found['worker_mb']:.0f} MB in the largest worker")
            rows *= 10


def _jobs(num_rows: int) -> Iterator[VerificationJob]:
    """Solutions of three to seven lines, a third of them wrong, one in nine without answer."""
    for row in range(num_rows):
        random = Random(row)
        total, lines = random.randrange(2, 90), []
        for _ in range(random.randrange(3, 8)):
            step = random.randrange(2, 90)
            lines.append(f"Then there are {total} + {step} = {total + step} of them, row {row}.")
            total += step
        answer = total + (row % 3 == 0)
        if row % 9:
            lines.append(f"#### {answer}")
        problem = Problem(f"How many are there in row {row}?", f"Counted.\n#### {total}")
        yield VerificationJob(problem, "\n".join(lines))


def _params(verifier: str) -> ConsultParams:
    return ConsultParams(
        verifier=Component(name=verifier), reveal="expected_outputs", verify_timeout_s=60.0
    )


def _loop(name: str, num_rows: int) -> float:
    verifier = build_verifier(_params(name))
    started = time.perf_counter()
    for job in _jobs(num_rows):
        verifier.verify(job.problem, job.response)
    seconds = time.perf_counter() - started
    verifier.close()
    return seconds


def _measure(name: str, num_rows: int, num_workers: int) -> dict[str, float]:
    """In a process of its own, whose peak memory is then of this run alone."""
    command = [sys.executable, "-m", "benchmarks.consult", "--verifier", name]
    command += ["--rows", str(num_rows), "--one", str(num_workers)]
    found: dict[str, float] = json.loads(subprocess.check_output(command, text=True))
    return found


def _verify(
    name: str, num_rows: int, num_workers: int, folder: Path | None = None, keep: bool = False
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as own:
        params = _params(name)
        started = time.perf_counter()
        path = (folder or Path(own)) / "journal.sqlite"
        with Journal(path, settings_digest(params, 1)) as journal:
            verify_all(_jobs(num_rows), num_rows, params, num_workers, journal, no_progress)
            seconds = time.perf_counter() - started
            if not keep:
                journal.remove()
    return {
        "seconds": seconds,
        "parent_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consult")
    parser.add_argument("--verifier", default="final_number", help="one that needs no options")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", type=int, metavar="WORKERS", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
