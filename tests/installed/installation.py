"""The wheel in an environment of its own, as a user has it: built here, installed by pip."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.installed.virtual_environment import VirtualEnvironment, make_environment, pip

PROJECT = Path(__file__).parents[2]
_SOURCES = ("src", "flows", "tasks", "distil_core", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installation(VirtualEnvironment):
    """An environment with the wheel in it."""

    wheel: Path


def install(folder: Path) -> Installation:
    """Build the wheel from a copy of the sources, and install it below `folder`.

    The environment has all packages that this one has, and no source of ours: its own come first.
    """
    wheel = _build(folder)
    environment = make_environment(folder)
    environment.pip_install("--ignore-installed", str(wheel))
    # As in an environment that has them for itself.
    for name in ("dvc", "mlflow", "prefect"):
        program = environment.programs / name
        python = environment.programs / "python"
        program.write_text(f'#!/bin/sh\nexec "{python}" -m {name} "$@"\n')
        program.chmod(0o755)
    return Installation(environment.programs, wheel)


def _build(folder: Path) -> Path:
    sources = folder / "sources"
    sources.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, sources / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, sources / name)
    # What a link in distil_core leads to.
    shutil.copytree(PROJECT / "presets", sources / "presets")
    pip(Path(sys.executable), "wheel", "--wheel-dir", str(folder), str(sources))
    (wheel,) = folder.glob("*.whl")
    return wheel
