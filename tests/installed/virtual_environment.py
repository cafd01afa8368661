"""Virtual environments that have all packages of this one, and programs run in them."""

import os
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.flows.front_door_scratch import programs_first

_PIP_OPTIONS = (
    *("--disable-pip-version-check", "--quiet"),
    # Without looking anywhere else for what a package needs: it is there.
    *("--no-deps", "--no-build-isolation", "--no-index"),
)


@dataclass(frozen=True)
class VirtualEnvironment:
    """programs: the environment's folder of them."""

    programs: Path

    def run(self, folder: Path, *command: str, **variables: str) -> tuple[int, str]:
        """Exit status and output of a program of the environment, in `folder`."""
        done = subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            cwd=folder,
            env=self._variables() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        return done.returncode, done.stdout

    def pip_install(self, *arguments: str) -> None:
        pip(self.programs / "python", "install", *arguments)

    def _variables(self) -> dict[str, str]:
        """This process's, with the environment's programs first."""
        return {
            name: value
            for name, value in programs_first(self.programs).items()
            if not name.startswith("MLFLOW_") and name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }


def make_environment(folder: Path) -> VirtualEnvironment:
    """A new environment below `folder`."""
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    here = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    # Its own packages first, then this environment's, whose own .pth files count too.
    (Path(own) / "these.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return VirtualEnvironment(home / "bin")


def pip(python: Path, command: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(python), "-m", "pip", command, *_PIP_OPTIONS, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
