"""Feedback tables beside JSONL and a naive list column: bytes, speed, memory, and what is lost.

`python -m benchmarks.feedback_table` writes and reads made distributions over 151,936 ids at K = 20
and 100, each in a process of its own. `--parts reading` trains nothing, but reads a table of 10
million tokens as training does, in a seeded order, beside loading it whole. MB/s are of what a list
column holds in memory, 16 bytes for each id with its log-probability, for every format.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.feedback_table.distributions import Distributions, make_distributions
from benchmarks.feedback_table.errors import errors
from benchmarks.feedback_table.formats import FORMATS, NAIVE, TOP_P, feedback_rows, num_bytes
from benchmarks.feedback_table.reading import print_reading, read_child
from benchmarks.measure import (
    Run,
    machine,
    markdown_table,
    minimum_of,
    own_peak_mb,
    run_in_turn,
)

NUM_POSITIONS = 50_000
TOP_KS = (20, 100)
_ARRAYS = ("ids_nk", "logprobs_nk", "exponents_n")


def main() -> None:
    """Print the tables."""
    arguments = _parse_arguments()
    if arguments.child == "read":
        read_child(Path(arguments.at[0]), arguments.at[1], int(arguments.at[2]))
        return
    if arguments.child == "format":
        _format_child(*arguments.at)
        return
    if "formats" in arguments.parts:
        print(f"{machine()}; {NUM_POSITIONS:,} tokens; least of {arguments.repeats} runs in turn.")
        for top_k in TOP_KS:
            print(f"\nK = {top_k}\n\n{_formats(top_k, arguments.repeats)}", flush=True)
    if "reading" in arguments.parts:
        print(f"\n{print_reading(arguments.tokens, arguments.repeats)}")


def _formats(top_k: int, repeats: int) -> str:
    found = make_distributions(NUM_POSITIONS, top_k)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, **{name: getattr(found, name) for name in _ARRAYS})
        child = [sys.executable, "-m", "benchmarks.feedback_table", "--child", "format", "--at"]
        commands = {
            name: [*child, name, str(data), str(Path(folder) / f"{number}")]
            for number, name in enumerate(FORMATS)
        }
        runs = run_in_turn(commands, repeats)
    lost = {name: errors(found, feedback_rows(found, *setting)) for name, setting in TOP_P.items()}
    return format_table(runs, lost, NUM_POSITIONS, top_k)


def format_table(
    runs: Mapping[str, Sequence[Run]],
    lost: Mapping[str, Mapping[str, float]],
    num_positions: int,
    top_k: int,
) -> str:
    """A row for each format; the naive list column is 1."""

    def smallest(name: str, figure: str) -> float:
        return minimum_of(runs[name], lambda run: float(run.figures[figure]))

    megabytes = 16 * top_k * num_positions / 1e6
    naive_size = smallest(NAIVE, "bytes") / num_positions
    rows = []
    for name in runs:
        size, of_distributions = (
            smallest(name, figure) / num_positions for figure in ("bytes", "distribution_bytes")
        )
        error = lost.get(name)
        rows.append(
            [
                name,
                f"{size:.1f}",
                f"1/{naive_size / size:.1f}",
                f"1/{16 * top_k / size:.1f}",
                f"{of_distributions:.1f}",
                f"1/{naive_size / of_distributions:.1f}",
                f"{megabytes / smallest(name, 'write_s'):.0f}",
                f"{megabytes / smallest(name, 'read_s'):.0f}",
                f"{minimum_of(runs[name], lambda run: run.peak_mb):.0f}",
                f"{error['variation_mean']:.1e}" if error else "0",
                f"{error['variation_max']:.1e}" if error else "0",
                f"{error['gradient']:.1e}" if error else "0",
            ]
        )
    header = ["", "bytes a token", "of the list column", "of it in memory"]
    header += [
        "distributions alone",
        "of the list column",
        "write MB/s",
        "read MB/s",
        "peak MB",
        "variation, mean",
        "largest",
        "gradient",
    ]
    return markdown_table(header, rows)


def _format_child(name: str, data: str, path: str) -> None:
    with np.load(data) as arrays:
        found = Distributions(*(arrays[key] for key in _ARRAYS))
    form, file = FORMATS[name], Path(path)
    started = time.perf_counter()
    form.write(found, file)
    written = time.perf_counter()
    form.read(file)
    done = time.perf_counter()
    seconds = {"write_s": written - started, "read_s": done - written}
    print(json.dumps({**num_bytes(file), **seconds, "peak_mb": own_peak_mb()}))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feedback_table", description=__doc__
    )
    parser.add_argument("--parts", nargs="+", choices=("formats", "reading"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=10_000_000, help="of the table to read")
    parser.add_argument("--child", choices=("format", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--at", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.parts = arguments.parts or ["formats", "reading"]
    return arguments


if __name__ == "__main__":
    main()
