"""Models that are loaded once and used again for the next try."""

import gc
import json
import time
from pathlib import Path
from typing import Any

from distil_core.config.models import Component, ComputeParams, Params
from distil_core.engines import build_engine
from distil_core.engines.base import Engine
from distil_core.experts import build_expert
from distil_core.experts.base import Expert


class LoadedModels:
    """keeps: whether a model stays loaded when another is asked for, so that a second try loads
    nothing. Without, there is one at a time, as in the stages.

    seconds: what loading has taken so far. num_loads: how often something was loaded.
    """

    def __init__(self, keeps: bool):
        self._keeps = keeps
        self._found: dict[str, Any] = {}
        self.seconds = 0.0
        self.num_loads = 0

    def engine(self, component: Component, policy_dir: Path, compute: ComputeParams) -> Engine:
        """The engine with the policy in it."""
        key = _key("engine", component.model_dump(mode="json"), policy_dir, compute)
        engine: Engine = self._once(key, lambda: build_engine(component, policy_dir, compute))
        return engine

    def expert(self, params: Params, policy_dir: Path, record_dir: Path) -> Expert:
        """The expert of the settings. record_dir: see `ExpertSetting`."""
        settings = [
            params.tabulate.model_dump(mode="json", include={"expert", "top_k", "top_p"}),
            params.max_turn_context_tokens,
            params.seed,
        ]
        key = _key("expert", settings, policy_dir, params.compute)

        def build() -> Expert:
            return build_expert(
                params.tabulate,
                policy_dir,
                params.compute,
                params.max_turn_context_tokens,
                record_dir,
                params.seed,
            )

        expert: Expert = self._once(key, build)
        return expert

    def _once(self, key: str, build: Any) -> Any:
        if key in self._found:
            return self._found[key]
        if not self._keeps:
            self.drop()
        started = time.monotonic()
        self._found[key] = build()
        self.seconds += time.monotonic() - started
        self.num_loads += 1
        return self._found[key]

    def drop(self) -> None:
        """Let go of all models, and of the memory of a GPU."""
        import torch

        self._found.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _key(kind: str, settings: Any, policy_dir: Path, compute: ComputeParams) -> str:
    weights = sorted(policy_dir.glob("*.safetensors"))
    stamps = [[str(file.resolve()), file.stat().st_mtime_ns] for file in weights]
    return json.dumps([kind, settings, stamps, compute.model_dump(mode="json")], default=str)
