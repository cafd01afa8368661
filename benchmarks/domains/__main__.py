"""Run the presets' campaigns that are missing, or report what is there."""

import argparse
import sys
from itertools import chain, zip_longest
from pathlib import Path

from benchmarks.domains.beside import BESIDE, beside
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
        "--beside",
        action="store_true",
        help=f"also with other objectives, at equal rollouts: {', '.join(BESIDE)}",
    )
    parser.add_argument(
        "--report", action="store_true", help=f"tables into {_DOCUMENT}, a figure a domain"
    )
    options = parser.parse_args(arguments)
    runs = {
        domain: [Run(domain, preset_seed(domain) + i) for i in range(options.seeds)]
        for domain in options.domains
    }
    asked = {
        domain: list(chain.from_iterable(beside(same).values())) if options.beside else same
        for domain, same in runs.items()
    }
    try:
        if options.report:
            write_report(runs, options.folder, _DOCUMENT, with_beside=options.beside)
        else:
            run_missing(asked, options.folder)
    except DistilError as error:
        sys.exit(f"{error}")


def run_missing(runs: dict[str, list[Run]], folder: Path) -> None:
    """Every run without a result, each domain's first seed first."""
    for same_place in zip_longest(*runs.values()):
        for run in filter(None, same_place):
            if run.result(folder) is None:
                execute(run, folder)
                named = ", ".join([run.domain, f"seed {run.seed}", *run.settings_set])
                print(f"{named}: {run.file(folder)}", flush=True)


if __name__ == "__main__":
    main()
