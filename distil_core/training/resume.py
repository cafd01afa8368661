"""Interrupted training goes on where it stopped, to the same bits.

One file holds everything that a step reads and the step before it wrote. It is written whole or
not at all, carries a digest of its content, and is taken up only by a run that would have written
the same: whatever decides the result is part of the run's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from distil_core.files import atomic_path, remove_leftovers
from distil_core.source_code import code_digest, import_closure
from distil_core.training.state import TrainingState

_LOGGER = logging.getLogger(__name__)
_FORMAT = 1
_OPTIMIZER = "optimizer"


def fingerprint(**parts: Any) -> str:
    """SHA-256 of what decides a run's result: `parts` (values that JSON can write), the code of
    training, the libraries, and what torch's sums on this machine depend on."""
    everything = {
        "format": _FORMAT,
        "training": _training_code(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **parts,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


@cache
def _training_code() -> str:
    """Of this process: what it has imported does not change when files do."""
    room = "distil_core.training"
    roots = (f"{room}.trainer", f"{room}.warm_start")
    return code_digest({n: f for root in roots for n, f in import_closure(root, [room]).items()})


def folder_digest(folder: Path) -> str:
    """SHA-256 of all files below `folder`, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(file_digest(path).encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class ResumePoint:
    """Where one run of training keeps its state.

    path: of the file, outside the outputs that DVC deletes. run: the run's `fingerprint`.
    every_s: seconds between two states; 0 keeps one after each step.
    """

    path: Path
    run: str
    every_s: float
    _last_s: float = field(default_factory=time.monotonic)

    def load(self, state: TrainingState) -> None:
        """Put the kept state into `state`.

        Nothing is touched where there is none, or where it is another run's or damaged, which is
        logged. What a kill left half-written is removed.
        """
        remove_leftovers(self.path)
        if not self.path.exists():
            return
        try:
            tensors, kept = _read(self.path)
            if kept["run"] != self.run:
                _LOGGER.warning(
                    "%s is of a run with other settings, inputs, code or libraries: "
                    "training starts afresh",
                    self.path,
                )
                return
            _require_fits(tensors, state.live_tensors())
        except Exception as error:  # safetensors and json raise many unrelated types
            _LOGGER.warning(
                "%s cannot be read (%s: %s): training starts afresh",
                self.path,
                type(error).__name__,
                error,
            )
            return
        _restore(tensors, state)
        state.num_done, state.curve = int(kept["step"]), kept["curve"]
        _LOGGER.warning("training goes on after step %d, from %s", state.num_done, self.path)

    def save(self, state: TrainingState) -> None:
        """Write the state, if it is time to."""
        if time.monotonic() - self._last_s < self.every_s:
            return
        tensors = state.live_tensors() | _optimizer_tensors(state.optimizer)
        kept = {"run": self.run, "step": state.num_done, "curve": state.curve}
        _write(self.path, tensors, kept)
        self._last_s = time.monotonic()

    def remove(self) -> None:
        """To be called when the stage's outputs are written."""
        remove_leftovers(self.path)
        self.path.unlink(missing_ok=True)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return dict(_flat(_OPTIMIZER, optimizer.state_dict()["state"]))


def _flat(name: str, state: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their path. An optimizer may keep them in folders, and its steps as a number."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _flat(f"{name}/{key}", value)
    else:
        yield name, state if isinstance(state, Tensor) else torch.tensor(state, dtype=torch.int64)


def _folders(tensors: Mapping[str, Tensor]) -> dict[int, Any]:
    """What `_flat` made flat."""
    state: dict[int, Any] = {}
    for name, tensor in tensors.items():
        kind, *path = name.split("/")
        if kind != _OPTIMIZER:
            continue
        folder = state.setdefault(int(path[0]), {})
        for key in path[1:-1]:
            folder = folder.setdefault(key, {})
        is_number = tensor.dtype == torch.int64 and not tensor.dim()
        folder[path[-1]] = int(tensor) if is_number else tensor
    return state


@torch.no_grad()
def _restore(tensors: Mapping[str, Tensor], state: TrainingState) -> None:
    for name, tensor in state.live_tensors().items():
        tensor.copy_(tensors[name])
    # The groups hold settings and the learning rate, which each step sets again.
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": _folders(tensors), "param_groups": groups})


def _require_fits(tensors: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    kept = {n: (t.shape, t.dtype) for n, t in tensors.items() if not n.startswith(f"{_OPTIMIZER}/")}
    if kept != {name: (tensor.shape, tensor.dtype) for name, tensor in live.items()}:
        raise ValueError("its tensors are not those of this model")


def _write(path: Path, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    whole: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in tensors.items():
        # The file must not hold two names of one tensor, such as a table that moments share.
        apart = tensor.clone() if tensor.data_ptr() in written else tensor
        written.add(tensor.data_ptr())
        whole[name] = apart.cpu().contiguous()
    text = json.dumps(state)
    metadata = {"state": text, "digest": _digest(whole, text)}
    with atomic_path(path) as temporary:
        save_file(whole, temporary, metadata)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("digest") != _digest(tensors, metadata.get("state", "")):
        raise ValueError("its content does not have the digest written into it")
    return tensors, json.loads(metadata["state"])


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
