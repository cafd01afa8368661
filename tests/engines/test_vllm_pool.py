"""Which engines are shared, kept and replaced; stand-ins for what takes long to start (2 s)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distil_core.config.models import ComputeParams
from distil_core.engines.vllm import pool as pool_module
from distil_core.engines.vllm.launch import server_command
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.pool import EnginePool
from distil_core.errors import EngineError

OPTIONS = Options(mode="managed_server")


class StandIn:
    def __init__(self) -> None:
        self.dead = False
        self.closed = 0
        self.loaded: list[Any] = []

    def ensure_loaded(self, policy: Any, _: Any) -> None:
        self.loaded.append(policy)

    def ended(self) -> bool:
        return self.dead

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    started: list[StandIn] = []

    def start(*_: Any) -> StandIn:
        started.append(StandIn())
        return started[-1]

    monkeypatch.setattr(pool_module, "_start", start)
    return started


def test_one_backend_for_equal_settings_and_architecture(
    started: list[StandIn],
    loud_policy: Callable[[int], Path],
    policy_dir: Path,
    compute: ComputeParams,
) -> None:
    pool = EnginePool()
    for seed in (7, 8, 7):
        pool.engine(OPTIONS, loud_policy(seed), compute)
    assert len(started) == 1
    assert [policy.folder.name for policy in started[0].loaded] == [
        "policy-007",
        "policy-008",
        "policy-007",
    ]
    pool.engine(OPTIONS, policy_dir, compute)
    pool.engine(OPTIONS.model_copy(update={"max_logprobs": 3}), policy_dir, compute)
    assert len(started) == 3
    pool.close()
    pool.close()
    assert [backend.closed for backend in started] == [1, 1, 1]


def test_one_that_ended_is_started_anew(
    started: list[StandIn], loud_policy: Callable[[int], Path], compute: ComputeParams
) -> None:
    pool = EnginePool()
    pool.engine(OPTIONS, loud_policy(7), compute)
    started[0].dead = True
    pool.engine(OPTIONS, loud_policy(7), compute)
    assert [backend.closed for backend in started] == [1, 0]


def test_the_command_says_no_where_the_setting_does(compute: ComputeParams) -> None:
    eager = server_command(OPTIONS, compute, Path("policy"), Path("socket"))
    assert "--uds" in eager
    assert not {"--host", "--port"} & set(eager)
    assert "--enforce-eager" in eager
    assert "--no-enable-chunked-prefill" in eager
    # What turns have in common is kept in blocks of a CPU's smallest size, as by vLLM's default.
    assert eager[eager.index("--block-size") + 1] == "32"
    assert not {"--enable-prefix-caching", "--no-enable-prefix-caching"} & set(eager)
    assert "--gpu-memory-utilization" not in eager
    cuda = compute.model_copy(update={"device": "cuda", "dtype": "bfloat16"})
    compiled = OPTIONS.model_copy(update={"enforce_eager": False, "max_model_len": 512})
    command = server_command(compiled, cuda, Path("policy"), Path("socket"))
    assert "--no-enforce-eager" in command
    assert not {"--no-enable-chunked-prefill", "--block-size"} & set(command)
    assert command[command.index("--max-model-len") + 1] == "512"
    assert command[command.index("--dtype") + 1] == "bfloat16"


def test_without_vllm_it_is_said_how_to_get_it(
    loud_policy: Callable[[int], Path], compute: ComputeParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distil_core.engines.vllm import launch

    monkeypatch.setattr(launch, "find_spec", lambda _: None)
    for mode in ("managed_server", "in_process"):
        options = Options(mode=mode)  # type: ignore[arg-type]
        with pytest.raises(EngineError, match="not installed: `make vllm`"):
            EnginePool().engine(options, loud_policy(7), compute)
