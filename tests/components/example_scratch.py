"""The example package installed as anybody would install theirs, and workspaces that use it."""

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.flows import front_door_scratch

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "tests" / "example_package"
PROBLEM_SOURCE = {"name": "reversed_digits", "options": {"num_digits": 4}}
VERIFIER = {"name": "reversed_digits", "options": {"partial_reward": True}}
EXPERT = {"name": "answer_key", "options": {"doubt": 0.1}}
OBJECTIVE = {"name": "my_lab.focal_objective", "options": {"gamma": 1.5}}


@dataclass(frozen=True)
class Environment:
    """A Python that has the package. source: the package's folder, a copy that may be edited."""

    python: Path
    source: Path

    def run(self, root: Path, *arguments: str) -> tuple[int, str]:
        """Exit status and output of `python -m ..` in `root`."""
        done = subprocess.run(
            [str(self.python), "-m", *arguments],
            cwd=root,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        return done.returncode, done.stdout

    def variables(self) -> dict[str, str]:
        """This process's, with the environment's programs first."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PREFECT_") and name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        path = f"{self.python.parent}{os.pathsep}{kept.get('PATH', '')}"
        return kept | {
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }


def install(folder: Path, *, editable: bool) -> Environment:
    """A virtual environment below `folder` that has all that this one has, and the package.

    editable: `pip install -e`, so that an edit of `source` is what runs.
    """
    source = folder / "my-lab"
    shutil.copytree(
        PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    python = make_environment(folder)
    pip_install(python, *["-e"][: int(editable)], str(source))
    return Environment(python, source)


def install_packages(folder: Path, packages: Sequence[Path]) -> Environment:
    """Such an environment with these packages. source: the first one's folder."""
    python = make_environment(folder)
    pip_install(python, *map(str, packages))
    return Environment(python, packages[0])


def make_environment(folder: Path) -> Path:
    """The Python of a new environment below `folder` that has all that this one has."""
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    here = sysconfig.get_path("purelib")
    packages = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    # Its own packages first, then this environment's, whose own .pth files count too.
    (Path(packages) / "these.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return home / "bin" / "python"


def pip_install(python: Path, *arguments: str) -> None:
    """Without looking anywhere else for what the packages need: it is there."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", *options, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
