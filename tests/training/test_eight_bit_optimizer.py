"""AdamW with moments of 8 bits, by bitsandbytes: near to 32 bits, resumed exactly (10 s)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distil_core.config.models import ArchitectureParams, TrainParams
from distil_core.errors import ConfigError
from distil_core.policy.new_model import new_model as make_model
from distil_core.training.optimizer import make_optimizer, optimizer_library
from distil_core.training.resume import ResumePoint
from distil_core.training.state import TrainingState

NUM_STEPS = 6
Build = Callable[[], Any]


@pytest.fixture
def build(tokenizer: Any) -> Build:
    """A model whose matrices are large enough for 8 bits, and whose vectors are not."""
    pytest.importorskip("bitsandbytes")
    architecture = ArchitectureParams(
        hidden_size=64, num_layers=1, num_heads=2, intermediate_size=128, max_positions=32
    )
    return lambda: make_model(architecture, tokenizer, 0)


def trained(
    build: Build, state_bits: int, resume: ResumePoint | None = None, end: int = NUM_STEPS
) -> Any:
    """Weights and optimizer after `end` steps on seeded gradients."""
    model = build()
    state = TrainingState(model, make_optimizer(model, 0.01, 0.1, state_bits))
    if resume is not None:
        resume.load(state)
    for step in range(state.num_done, end):
        random = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=random)
        state.finish_step()
        if resume is not None:
            resume.save(state)
    return model.state_dict(), state.optimizer


def test_it_moves_as_32_bits_do_and_holds_a_quarter(build: Build) -> None:
    start = build().state_dict()
    (plain, plain_optimizer), (small, small_optimizer) = (trained(build, bits) for bits in (32, 8))
    for name, value in plain.items():
        moved = (value - start[name]).norm()
        assert (small[name] - value).norm() < 0.1 * moved
    assert not torch.equal(small["model.embed_tokens.weight"], plain["model.embed_tokens.weight"])
    assert _moment_bytes(small_optimizer) < 0.3 * _moment_bytes(plain_optimizer)


def test_the_same_steps_give_the_same_bits(build: Build) -> None:
    first, again = (trained(build, 8)[0] for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("step", [1, 4])
def test_interrupted_it_ends_the_same(build: Build, tmp_path: Path, step: int) -> None:
    undisturbed, _ = trained(build, 8)
    resume = ResumePoint(tmp_path / "state.safetensors", "this run", 0.0)
    trained(build, 8, resume, end=step)
    found, optimizer = trained(build, 8, resume)
    assert all(torch.equal(found[name], undisturbed[name]) for name in undisturbed)
    dtypes = {held["state1"].dtype for held in optimizer.state.values()}
    assert dtypes == {torch.uint8, torch.float32}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    for ask in (optimizer_library, lambda bits: make_optimizer(torch.nn.Linear(2, 2), 1, 0, bits)):
        with pytest.raises(ConfigError, match=r"optimizer_state_bits: 8 needs .* pip install"):
            ask(8)
    assert optimizer_library(32) == f"torch {torch.__version__}"


def test_settings_without_it_are_frozen_as_before(settings: dict[str, Any]) -> None:
    train = TrainParams(**settings["train"])
    assert "optimizer_state_bits" not in train.model_dump(mode="json")
    changed = TrainParams(**{**train.model_dump(), "optimizer_state_bits": 8})
    assert changed.model_dump(mode="json")["optimizer_state_bits"] == 8


def _moment_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of all tensors that are not the shared tables of 256 values."""
    return sum(
        value.numel() * value.element_size()
        for held in optimizer.state.values()
        for name, value in held.items()
        if isinstance(value, torch.Tensor) and not name.startswith("qmap")
    )
