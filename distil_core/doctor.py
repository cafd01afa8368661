"""`distil doctor`: is everything here that a campaign needs, and if not, what to do about it?"""

import os
import pwd
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from distil_core.campaign.load import load_params
from distil_core.config.models import Params
from distil_core.errors import ConfigError, SandboxError
from distil_core.lineage.mlflow import address
from distil_core.lineage.usable import folder_obstacle, git_obstacle, write_obstacle
from distil_core.sandbox.limits import Isolation
from distil_core.workspace import Workspace

OLDEST_PYTHON = (3, 11)
LOCK = "requirements/core.txt"
FREE_DISK_PROBLEM_GB = 1.0
FREE_DISK_NOTE_GB = 5.0
# User ids of people's accounts, on Linux.
_FIRST_PERSON_UID, _NOBODY_UID = 1000, 60000
_MOST_BYTES = 1000

_INSTALL = f"install the pinned ones: python -m pip install -r {LOCK}"


@dataclass(frozen=True)
class Finding:
    """The result of one check. remedy: what to do; '' where nothing is to be done."""

    level: Literal["ok", "note", "problem"]
    what: str
    remedy: str = ""

    def line(self) -> str:
        """The finding as printed: its level first, the remedy on a line of its own."""
        remedy = f"\n         -> {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {self.what}{remedy}"


def examine(workspace: Workspace) -> list[Finding]:
    """Run all checks. A "problem" stops a campaign; a "note" may matter to some."""
    checks: tuple[Callable[[Workspace], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _workspace,
        _settings,
        _torch,
        _disk,
        _isolation,
        _vllm,
        _tracking,
        _ports,
        _other_users,
    )
    return [finding for check in checks for finding in check(workspace)]


def _python(_: Workspace) -> Iterator[Finding]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(
            "problem", f"Python {found}, needs 3.11 or later", "install one, and DistIL in it"
        )
    else:
        yield Finding("ok", f"Python {found} ({sys.executable})")


def _packages(workspace: Workspace) -> Iterator[Finding]:
    path = workspace.root / LOCK
    if not path.exists():
        yield from _required_packages()
        return
    missing, different = [], []
    pinned = dict(_pinned(path.read_text(encoding="utf-8")))
    for name, version in pinned.items():
        try:
            # The lock has versions without the build, such as 2.13.0 for 2.13.0+cpu.
            found = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != version:
            different.append(f"{name} {found} (pinned: {version})")
    if missing:
        yield Finding("problem", f"packages not installed: {', '.join(missing)}", _INSTALL)
    if different:
        yield Finding("note", f"other versions than tested: {', '.join(different)}", _INSTALL)
    if not missing and not different:
        yield Finding("ok", f"all {len(pinned)} packages as pinned in {LOCK}")


def _required_packages() -> Iterator[Finding]:
    """Where DistIL is installed from a wheel there is no lock: its own bounds are what counts."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("distil") or ()]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in wanted:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (needs {requirement.specifier})")
    if wrong:
        remedy = f"python -m pip install --upgrade distil=={metadata.version('distil')}"
        yield Finding("problem", f"packages: {', '.join(wrong)}", remedy)
    else:
        number = metadata.version("distil")
        yield Finding("ok", f"distil {number} with the {len(wanted)} packages that it needs")


def _pinned(text: str) -> Iterator[tuple[str, str]]:
    """Name and version of the lock's packages that are meant for this platform."""
    from packaging.requirements import Requirement

    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement.name, str(requirement.specifier).removeprefix("==")


def _workspace(workspace: Workspace) -> Iterator[Finding]:
    root = workspace.root
    if shutil.which("git") is None:
        yield Finding("problem", "git is not installed", "install it: apt install git")
        return
    obstacle = folder_obstacle(workspace) or git_obstacle(workspace)
    if obstacle:
        yield Finding("problem", obstacle.what, obstacle.remedy)
    missing = [name for name in (".dvc", "dvc.yaml", "params.yaml") if not (root / name).exists()]
    if missing:
        yield Finding(
            "problem",
            f"{root} is no DistIL workspace: no {', '.join(missing)}",
            "go to one, or make one: `distil init DIR`; `dvc init` makes a missing .dvc",
        )
    unwritable = write_obstacle(workspace)
    if unwritable:
        yield Finding("problem", unwritable.what, unwritable.remedy)
    if not obstacle and not missing and not unwritable:
        yield Finding("ok", f"git and DVC workspace {root}")


def _settings(workspace: Workspace) -> Iterator[Finding]:
    params = _params(workspace)
    if isinstance(params, ConfigError):
        yield Finding("problem", str(params), "correct the settings")
    else:
        yield Finding("ok", f"params.yaml of campaign {params.campaign}")


def _torch(workspace: Workspace) -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if cuda else "no GPU in use"
    yield Finding("ok", f"torch {torch.__version__}, {device}, {cores} CPU cores")
    params = _params(workspace)
    if isinstance(params, ConfigError):
        return
    if params.compute.device == "cuda" and not cuda:
        yield Finding(
            "problem",
            "compute.device is cuda, but torch finds no GPU",
            "set compute.device to cpu, or install a CUDA build of torch and the driver",
        )
    if params.compute.num_threads > (cores or 1):
        yield Finding(
            "note",
            f"compute.num_threads {params.compute.num_threads} exceeds the {cores} cores",
            "lower it: threads that share a core wait for each other",
        )


def _disk(workspace: Workspace) -> Iterator[Finding]:
    free_gb = shutil.disk_usage(workspace.root).free / 1e9
    what = f"{free_gb:.1f} GB free in {workspace.root}"
    if free_gb < FREE_DISK_PROBLEM_GB:
        yield Finding("problem", what, "free some; `dvc gc --workspace` drops unused versions")
    elif free_gb < FREE_DISK_NOTE_GB:
        yield Finding("note", what, "enough for the default campaign, not for large models")
    else:
        yield Finding("ok", what)


def _isolation(workspace: Workspace) -> Iterator[Finding]:
    """Whether model-written code can be isolated here, found out by trying."""
    from distil_core.sandbox import Sandbox

    needed = _isolations_in_use(workspace)
    for isolation in needed or ["bubblewrap_zygote"]:
        try:
            with Sandbox(isolation=isolation) as sandbox:
                yield Finding("note" if isolation == "rlimits_only" else "ok", sandbox.self_test())
        except SandboxError as error:
            if needed:
                yield Finding("problem", str(error), "what params.yaml names runs code: mend this")
            else:
                yield Finding("note", str(error), "only what runs a model's code needs it")


def _isolations_in_use(workspace: Workspace) -> list[Isolation]:
    """Those under which the verifier and the environment of the settings run code."""
    from distil_core.environments import ENVIRONMENTS
    from distil_core.verifiers import VERIFIERS

    params = _params(workspace)
    if isinstance(params, ConfigError):
        return []
    verifier, environment = params.consult.verifier, params.context.environment
    found = [VERIFIERS.options(verifier.name, verifier.options).runs_code_under]
    if environment is not None:
        options = ENVIRONMENTS.options(environment.name, environment.options)
        found.append(options.runs_code_under)
    return list(dict.fromkeys(isolation for isolation in found if isolation is not None))


def _vllm(_: Workspace) -> Iterator[Finding]:
    from distil_core.doctor_vllm import VllmState, findings

    for level, what, remedy in findings(VllmState.detect()):
        yield Finding(level, what, remedy)


def _tracking(workspace: Workspace) -> Iterator[Finding]:
    """Where MLflow's record goes, and whether anybody answers there."""
    silent = address.why_silent(address.tracking_uri(workspace))
    what = f"recorded in MLflow at {address.where_recorded(workspace)}"
    if silent:
        yield Finding("problem", f"{what}: nobody answers, {silent}", address.remedy(workspace))
    else:
        yield Finding("ok", what)


def _ports(_: Workspace) -> Iterator[Finding]:
    prefect = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api").rstrip("/")
    yield _service(
        "Prefect",
        f"{prefect}/health",
        b"true",
        "`prefect server start --port 4300` after "
        "`export PREFECT_API_URL=http://127.0.0.1:4300/api`",
    )
    yield _service("MLflow", "http://127.0.0.1:5000/health", b"OK", "`distil ui --port 5001`")


def _service(name: str, url: str, sign: bytes, elsewhere: str) -> Finding:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            if response.read(_MOST_BYTES).strip() == sign:
                return Finding("ok", f"a server that says it is {name}'s answers at {url}")
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError):
        return Finding("ok", f"{name} is not running; {url} is free")
    return Finding("note", f"something else than {name} uses {url}", f"start it as {elsewhere}")


def _other_users(_: Workspace) -> Iterator[Finding]:
    """On a shared machine every user can open what a server shows on 127.0.0.1."""
    others = [
        entry.pw_name
        for entry in pwd.getpwall()
        if _FIRST_PERSON_UID <= entry.pw_uid < _NOBODY_UID
        and entry.pw_uid != os.getuid()
        and not entry.pw_shell.endswith(("nologin", "false"))
    ]
    if others:
        yield Finding(
            "note",
            f"this machine has other users ({', '.join(others[:3])}{', ..' * (len(others) > 3)}), "
            "who can open what `prefect server start` and `distil ui` serve, and start runs there",
            "give Prefect a password, MLflow one of its own, or run them where you are alone: "
            "docs/shared_machines.md. `distil run`, vLLM and the files need nothing",
        )


def _params(workspace: Workspace) -> Params | ConfigError:
    try:
        return load_params(workspace)
    except ConfigError as error:
        return error
