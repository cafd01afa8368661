"""The example package installed as anybody would install theirs, and workspaces that use it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.flows import front_door_scratch
from tests.installed.virtual_environment import VirtualEnvironment, make_environment

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "tests" / "example_package"
PROBLEM_SOURCE = {"name": "reversed_digits", "options": {"num_digits": 4}}
VERIFIER = {"name": "reversed_digits", "options": {"partial_reward": True}}
EXPERT = {"name": "answer_key", "options": {"doubt": 0.1}}
OBJECTIVE = {"name": "my_lab.focal_objective", "options": {"gamma": 1.5}}


@dataclass(frozen=True)
class Environment(VirtualEnvironment):
    """One that has the package. source: the package's folder, a copy that may be edited."""

    source: Path

    def run_module(self, root: Path, *arguments: str) -> tuple[int, str]:
        """Exit status and output of `python -m ..` in `root`."""
        return self.run(root, "python", "-m", *arguments)


def install(folder: Path, *, editable: bool) -> Environment:
    """A virtual environment below `folder` that has all that this one has, and the package.

    editable: `pip install -e`, so that an edit of `source` is what runs.
    """
    source = folder / "my-lab"
    shutil.copytree(
        PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    environment = make_environment(folder)
    environment.pip_install(*["-e"][: int(editable)], str(source))
    return Environment(environment.programs, source)


def make_workspace(root: Path) -> Path:
    """A committed workspace whose components are the package's, and no iterations yet."""
    return front_door_scratch.make_workspace(root, example_settings()).root


def example_settings() -> dict[str, Any]:
    """The project's settings with the package's components, and sizes of a few seconds a stage."""
    params: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params.update(campaign="my-lab", num_iterations=1)
    params["problems"] = {
        "source": PROBLEM_SOURCE,
        "num_warm_start": 64,
        "num_train": 32,
        "num_eval": 16,
    }
    phase = {"num_steps": 8, "correction_fraction": 0.2}
    params["base"].update(phases=[phase], batch_size=16, warmup_steps=1)
    params["sample"].update(num_prompts=8, num_rollouts=2, max_new_tokens=6)
    params["consult"]["verifier"] = VERIFIER
    params["tabulate"]["expert"] = EXPERT
    params["train"].update(objective=OBJECTIVE, num_steps=2, batch_rollouts=8, warmup_steps=0)
    params["evaluate"].update(num_samples=4, max_new_tokens=6, num_bootstrap=100)
    params["gate"].update(margins={"pass_at_1": 1.0})
    params["gate"]["alarms"] = dict.fromkeys(params["gate"]["alarms"]) | {"pass_at_n_fell": False}
    return params
