"""Engines that outlive a stage: starting vLLM takes long, and changing its weights does not."""

from __future__ import annotations

import atexit
import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path

from distil_core.config.models import ComputeParams
from distil_core.engines.vllm.backend import Backend, Policy
from distil_core.engines.vllm.engine import VllmEngine
from distil_core.engines.vllm.options import Options
from distil_core.errors import CheckpointError
from distil_core.policy.checkpoint_files import require_model_folder
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import load_tokenizer

_Key = tuple[Options, ComputeParams, str]


@dataclass
class _Entry:
    backend: Backend
    lock: threading.RLock = field(default_factory=threading.RLock)


class EnginePool:
    """One backend for each combination of options, compute settings and architecture, kept until
    `close`. A campaign in one process starts vLLM once; the policy of each iteration, and the
    expert's, are loaded when they are used."""

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry] = {}
        self._lock = threading.Lock()

    def engine(self, options: Options, policy_dir: Path, compute: ComputeParams) -> VllmEngine:
        """An engine with this policy, verified by the canary. Raises `CheckpointError` where the
        folder has no policy, and `EngineError` where vLLM cannot start or has other weights."""
        ends = end_token_ids(load_tokenizer(policy_dir))
        require_model_folder(policy_dir)
        policy = Policy.of(policy_dir)
        key = (options, compute, _architecture(policy_dir))
        with self._lock:
            if key in self._entries and self._entries[key].backend.ended():
                self._entries.pop(key).backend.close()
            if key not in self._entries:
                self._entries[key] = _Entry(_start(options, compute, policy))
            entry = self._entries[key]
        return VllmEngine(entry.backend, entry.lock, policy, ends, options, compute)

    def close(self) -> None:
        """End all engines and what they started."""
        with self._lock:
            entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            entry.backend.close()


def _start(options: Options, compute: ComputeParams, policy: Policy) -> Backend:
    if options.mode == "in_process":
        from distil_core.engines.vllm.in_process import InProcessBackend

        return InProcessBackend(options, compute, policy)
    from distil_core.engines.vllm.servers import ServersBackend

    if options.mode == "external_servers":
        return ServersBackend(options, options.base_urls)
    from distil_core.engines.vllm.managed import ManagedServer

    server = ManagedServer(options, compute, policy.folder)
    return ServersBackend(options, (server.base_url,), server)


def _architecture(policy_dir: Path) -> str:
    try:
        text = (policy_dir / "config.json").read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint in {policy_dir}: expected config.json there; "
            "run the stage that makes this policy, or `dvc checkout`"
        ) from error
    return hashlib.blake2b(text, digest_size=8).hexdigest()


POOL = EnginePool()
"""Of this process; ended with it, however it ends (`distil_core.engines.vllm.guard`)."""
atexit.register(POOL.close)
