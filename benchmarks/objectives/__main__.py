"""Run what is missing of the study, or report what is there."""

import argparse
import itertools
import sys
import time
from pathlib import Path

from benchmarks.objectives.bench import Bench, make_bench
from benchmarks.objectives.campaign import Run, execute
from benchmarks.objectives.report import write_report
from benchmarks.objectives.results import Results
from benchmarks.objectives.settings import COMPUTE, quick
from benchmarks.objectives.tasks import TASKS
from distil_core.errors import DistilError

_DOCUMENT = Path("docs/objectives.md")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objectives", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(".distil/study"), help="where results are kept"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="everything in miniature, no report")
    parser.add_argument(
        "--report", action="store_true", help=f"tables into {_DOCUMENT}, figures beside it"
    )
    options = parser.parse_args(arguments)
    tasks = {name: TASKS[name] for name in options.tasks}
    if options.quick:
        tasks = {name: quick(task) for name, task in tasks.items()}
    results = Results(options.folder, tasks)
    try:
        if options.report:
            write_report(results, _DOCUMENT)
        else:
            run_missing(results)
    except DistilError as error:
        sys.exit(f"{error}")


def run_missing(results: Results) -> None:
    """Every run without a result, task after task: first tuning, then test at the chosen rates."""
    import torch

    torch.set_num_threads(COMPUTE.num_threads)
    for task in results.tasks:
        for runs in (results.tuning_runs, results.test_runs):
            missing = [run for run in runs(task) if not results.file(run).exists()]
            for seed, group in itertools.groupby(missing, key=lambda run: run.seed):
                bench = make_bench(results.tasks[task], seed, results.folder / "bases")
                for run in group:
                    _timed(bench, run, results)


def _timed(bench: Bench, run: Run, results: Results) -> None:
    start = time.process_time()
    execute(bench, run, results.file(run))
    seconds = time.process_time() - start
    print(
        f"{run.task} {run.purpose} seed {run.seed} {run.method} "
        f"lr {run.learning_rate:g}: {seconds:.1f} CPU-seconds",
        flush=True,
    )


if __name__ == "__main__":
    main()
