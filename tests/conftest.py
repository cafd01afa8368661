"""Fixtures of all tests. Libraries that take seconds to import are imported where they are used."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

# Read when torch starts: tests run beside each other, and results depend on the threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what is in the background with interrupts ignored, which programs inherit: those
# that tests start and interrupt would go on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).parents[1]
HAS_BUBBLEWRAP = shutil.which("bwrap") is not None


@contextmanager
def _skipped_without_bubblewrap() -> Iterator[None]:
    """A test that runs code in the sandbox is skipped where bubblewrap is not installed, and only
    there: a sandbox that does not start for another reason fails it."""
    from distil_core.errors import SandboxError

    try:
        yield
    except SandboxError as error:
        if HAS_BUBBLEWRAP:
            raise
        pytest.skip(f"bubblewrap is not installed: {error}"[:200])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Any:
    with _skipped_without_bubblewrap():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    with _skipped_without_bubblewrap():
        return (yield)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The character tokenizer of the default campaign."""
    from distil_core.policy.tokenizer import character_tokenizer

    return character_tokenizer("0123456789+-=")


@pytest.fixture(scope="session")
def new_model(tokenizer: Any) -> Callable[..., Any]:
    """Make a real Llama of hidden size 16: `new_model(seed)`, in evaluation mode."""
    import torch

    from distil_core.config.models import ArchitectureParams
    from distil_core.policy.new_model import new_model as make

    torch.set_num_threads(1)

    def build(seed: int = 0, num_layers: int = 2, max_positions: int = 64) -> Any:
        architecture = ArchitectureParams(
            hidden_size=16,
            num_layers=num_layers,
            num_heads=2,
            intermediate_size=32,
            max_positions=max_positions,
        )
        return make(architecture, tokenizer, seed).eval()

    return build


@pytest.fixture(scope="session")
def ending_model(new_model: Callable[..., Any]) -> Callable[..., Any]:
    """Make one whose end token is likely enough that responses of many lengths occur:
    `ending_model(seed, end_is_louder)`, and what `new_model` takes."""
    import torch

    def build(seed: int, end_is_louder: float, **made: Any) -> Any:
        model = new_model(seed, **made)
        embeddings = model.get_input_embeddings().weight
        with torch.no_grad():
            # Tied embeddings: this also makes the end token a louder input, which is fine.
            embeddings[model.config.eos_token_id] *= end_is_louder
            embeddings *= 1.5
        return model

    return build


@pytest.fixture(scope="session")
def policy_dir(
    tokenizer: Any, new_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved policy. Read only: tests that change it copy it."""
    from distil_core.policy.model import save_policy

    folder = tmp_path_factory.mktemp("policy") / "policy-000"
    save_policy(new_model(), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def compute() -> Any:
    from distil_core.config.models import ComputeParams

    return ComputeParams(device="cpu", dtype="float32", num_threads=1)


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama's norms in the model's own precision. Its own round to float32 in between, where a
    prefix tree has the sum of several rows' gradients."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def rms_norm(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(
            hidden, self.weight.shape, self.weight, self.variance_epsilon
        )

    monkeypatch.setattr(LlamaRMSNorm, "forward", rms_norm)


@pytest.fixture
def distil_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `distil` with these words in this process: its exit status and all that it said."""
    from distil_flows.cli import main

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["distil", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(str(ended.value.code)), said.out + said.err

    return run


@pytest.fixture
def settings() -> dict[str, Any]:
    """A fresh copy of the project's params.yaml, to change."""
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    return values
