"""Draw a workspace's learning curve: `python -m distil_core.report.learning_curve FILE.png`."""

import json
import sys
from pathlib import Path

from distil_core.campaign.iterations import existing_iterations
from distil_core.errors import DistilError
from distil_core.evaluation.learning_curve import learning_curve_figure
from distil_core.workspace import Workspace


def main() -> None:
    """Draw the curve of the workspace in the working directory."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m distil_core.report.learning_curve FILE.png")
    workspace = Workspace(Path.cwd())
    try:
        # The listed iterations only: data/ may have more from before a `distil restart`.
        files = map(workspace.metrics_file, existing_iterations(workspace))
        metrics = {
            int(file.parent.name): json.loads(file.read_text(encoding="utf-8"))
            for file in files
            if file.exists()
        }
        learning_curve_figure(metrics).savefig(sys.argv[1])
    except DistilError as error:
        sys.exit(f"{error}: `distil run` makes them in data/iterations/")


if __name__ == "__main__":
    main()
