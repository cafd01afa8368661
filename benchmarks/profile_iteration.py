"""Where the stages of an iteration spend their time, by cProfile.

`python -m benchmarks.profile_iteration` runs iteration 1 of the campaign in this workspace, without
the record by DVC and MLflow. Needs the problems and the base policy of `make run`.
"""

import cProfile
import pstats
import tempfile
import time
from pathlib import Path

from benchmarks.measure import machine, markdown_table
from benchmarks.peer_iteration.work import make_workspace
from distil_core.workspace import Workspace

NUM_FUNCTIONS = 6


def main() -> None:
    """Print the stages' costliest functions."""
    # Imported before anything is timed, the parts that transformers imports late too.
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    from distil_tasks import consult, sample, tabulate, train
    from distil_tasks.stage import run_body

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Workspace(Path.cwd()), Path(folder) / "workspace")
        for stage in (sample, consult, tabulate, train):
            profile = cProfile.Profile()
            started = time.perf_counter()
            profile.runcall(run_body, stage.STAGE, workspace, 1)
            seconds = time.perf_counter() - started
            rows += _costliest(stage.STAGE.name, profile, seconds)
    print(f"{machine()}; one thread.\n")
    print(markdown_table(["", "calls", "s", "share of the stage"], rows))


def _costliest(stage: str, profile: cProfile.Profile, seconds: float) -> list[list[str]]:
    statistics = pstats.Stats(profile).get_stats_profile().func_profiles
    ordered = sorted(statistics.items(), key=lambda entry: -entry[1].tottime)
    return [
        [
            f"{stage}: `{name}` ({Path(found.file_name).name})"
            if found.file_name != "~"
            else f"{stage}: `{name.strip('<>')}`",
            str(found.ncalls),
            f"{found.tottime:.2f}",
            f"{found.tottime / seconds:.0%}",
        ]
        for name, found in ordered[:NUM_FUNCTIONS]
    ]


if __name__ == "__main__":
    main()
