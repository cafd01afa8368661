"""The wheel in an environment of its own, as a user has it: built here, installed by pip."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_SOURCES = ("src", "flows", "tasks", "distil_core", "pyproject.toml", "README.md", "LICENSE")
_PIP = ("-m", "pip", "--disable-pip-version-check")
_ALONE = ("--quiet", "--no-deps", "--no-index", "--ignore-installed")


@dataclass(frozen=True)
class Installation:
    """An environment's folder of programs, and the wheel that is installed in it."""

    programs: Path
    wheel: Path

    def run(self, folder: Path, *command: str, **variables: str) -> tuple[int, str]:
        """Exit status and output of a program of the environment, in `folder`."""
        done = subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            cwd=folder,
            env=self.variables() | variables,
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
            if not name.startswith(("PREFECT_", "MLFLOW_"))
            and name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        path = f"{self.programs}{os.pathsep}{kept.get('PATH', '')}"
        return kept | {"PATH": path, "OMP_NUM_THREADS": "1"}


def install(folder: Path) -> Installation:
    """Build the wheel from a copy of the sources, and install it below `folder`.

    The environment has all packages that this one has, and no source of ours: its own come first.
    """
    wheel = _build(folder)
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    here = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    # Its own packages first, then this environment's, whose own .pth files count too.
    (Path(own) / "these.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    python = home / "bin" / "python"
    _checked([str(python), *_PIP, "install", *_ALONE, str(wheel)])
    # As in an environment that has them for itself.
    for name in ("dvc", "mlflow", "prefect"):
        program = home / "bin" / name
        module = {"dvc": "dvc", "mlflow": "mlflow", "prefect": "prefect"}[name]
        program.write_text(f'#!/bin/sh\nexec "{python}" -m {module} "$@"\n')
        program.chmod(0o755)
    return Installation(home / "bin", wheel)


def _build(folder: Path) -> Path:
    sources = folder / "sources"
    sources.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, sources / name, symlinks=True, ignore=ignored)
        elif source.exists():
            shutil.copy(source, sources / name)
    # A link in the clone.
    shutil.rmtree(sources / "presets", ignore_errors=True)
    shutil.copytree(PROJECT / "presets", sources / "presets")
    options = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    _checked([sys.executable, *_PIP, *options, "--wheel-dir", str(folder), str(sources)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def _checked(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
