"""Run the presets' campaigns that are missing, or report what is there."""

import argparse
import sys
from pathlib import Path

from benchmarks.domains.campaign import Run, execute, preset_seed
from benchmarks.domains.report import write_report
from distil_core.errors import DistilError

DOMAINS = ("math", "science", "code", "tools")
_DOCUMENT = Path("docs/domains.md")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.domains", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(".distil/domains"), help="where results are kept"
    )
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument(
        "--seeds", type=int, default=3, help="how many: the preset's own and those after it"
    )
    parser.add_argument(
        "--report", action="store_true", help=f"tables into {_DOCUMENT}, a figure a domain"
    )
    options = parser.parse_args(arguments)
    runs = {
        domain: [Run(domain, preset_seed(domain) + i) for i in range(options.seeds)]
        for domain in options.domains
    }
    try:
        if options.report:
            write_report(runs, options.folder, _DOCUMENT)
        else:
            run_missing(runs, options.folder)
    except DistilError as error:
        sys.exit(f"{error}")


def run_missing(runs: dict[str, list[Run]], folder: Path) -> None:
    """Every run without a result, each domain's first seed first."""
    for same_seed in zip(*runs.values(), strict=True):
        for run in same_seed:
            if run.result(folder) is None:
                execute(run, folder)
                print(f"{run.domain}, seed {run.seed}: {run.file(folder)}", flush=True)


if __name__ == "__main__":
    main()
