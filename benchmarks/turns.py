"""Rollouts per second with tools of 0, 10 and 1,000 ms between their turns, and one after another.

`python -m benchmarks.turns` samples rollouts of four turns with a policy made from scratch, whose
tool sleeps. The loop of the stages is measured as it is, and with an engine that keeps nothing
between turns; the peer is the plain loop: one rollout, one turn, one call of the tool at a time,
each context computed anew. All three sample the same tokens. A rollout whose turn has no end is
cut.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import machine, markdown_table
from benchmarks.slow_tool import context_with_it
from distil_core.config.models import (
    ArchitectureParams,
    Component,
    ComputeParams,
    ContextParams,
)
from distil_core.engines import build_engine
from distil_core.engines.base import Engine, SampleRequest, SamplingSettings
from distil_core.environments import build_environment
from distil_core.feedback.observations import ObservationWriter
from distil_core.policy.model import save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import character_tokenizer, decode
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed, generator

SETTINGS = SamplingSettings(max_new_tokens=64, temperature=1.0, top_p=1.0)
COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)
CONTEXT_TOKENS = 200
NUM_ANSWERS = 3
END_IS_LOUDER = 2.5
"""Of a policy from scratch, so that most turns end before their limit."""
MODELS = {
    "0.2M": ArchitectureParams(
        hidden_size=64, num_layers=3, num_heads=4, intermediate_size=192, max_positions=1024
    ),
    "3M": ArchitectureParams(
        hidden_size=256, num_layers=4, num_heads=4, intermediate_size=704, max_positions=1024
    ),
}


@dataclass(frozen=True)
class Measured:
    """Rollouts per second, and the tokens of each after its context."""

    per_s: float
    token_ids: list[list[int]]
    num_turns: int


@dataclass(frozen=True)
class Work:
    """Rollouts to sample, and what with."""

    tokenizer: Any
    params: ContextParams
    problems: Sequence[Problem]
    requests: Sequence[SampleRequest]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0, 10, 1000], metavar="MS")
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--alone", type=int, default=16, help="rollouts one after another")
    parser.add_argument("--workers", type=int, default=32, help="processes of the environment")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(COMPUTE.num_threads)
    print(
        f"{machine()}; {arguments.rollouts} rollouts of up to {NUM_ANSWERS + 1} turns after "
        f"{CONTEXT_TOKENS} tokens, {arguments.workers} processes with the tool; rollouts per "
        "second.\n"
    )
    rows = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = _save_policy(MODELS[model], Path(folder, "policy"))
            for delay_ms in arguments.delays_ms:
                work = _work(tokenizer, delay_ms / 1000, arguments.rollouts)
                rows.append(_row(model, delay_ms, Path(folder, "policy"), work, arguments))
    header = [
        "policy",
        "tool ms",
        "turns",
        "one after another",
        "nothing kept",
        "as it is",
        "ratio",
    ]
    print(markdown_table(header, rows))


def _row(
    model: str, delay_ms: float, policy_dir: Path, work: Work, arguments: argparse.Namespace
) -> list[str]:
    def engine(kept_past_mib: int) -> Engine:
        options = {"batch_size": 512, "kept_past_mib": kept_past_mib}
        return build_engine(Component(name="transformers", options=options), policy_dir, COMPUTE)

    alone = one_after_another(engine(0), work, arguments.alone)
    again = together(engine(0), work, arguments.workers)
    kept = together(engine(2048), work, arguments.workers)
    assert alone.token_ids == kept.token_ids[: arguments.alone]
    assert again.token_ids == kept.token_ids
    num_turns = kept.num_turns / len(kept.token_ids)
    return [
        *(model, f"{delay_ms:g}", f"{num_turns:.1f}"),
        *(f"{alone.per_s:.2f}", f"{again.per_s:.2f}", f"**{kept.per_s:.2f}**"),
        f"{kept.per_s / alone.per_s:.1f}",
    ]


def together(engine: Engine, work: Work, num_workers: int) -> Measured:
    """The stages' loop, its processes started within."""
    engine.sample(work.requests[:1], SETTINGS, no_progress)
    sampler = RolloutSampler(engine, work.tokenizer, work.params, num_workers)
    started = time.perf_counter()
    rollouts = sampler.sample(work.problems, work.requests, SETTINGS, no_progress)
    seconds = time.perf_counter() - started
    assert all(rollout.error is None for rollout in rollouts)
    num_turns = sum(len(rollout.turns) for rollout in rollouts)
    return Measured(len(rollouts) / seconds, [one.token_ids for one in rollouts], num_turns)


def one_after_another(engine: Engine, work: Work, count: int) -> Measured:
    """A plain loop over the first `count` rollouts; its tool is in this process."""
    assert work.params.environment is not None
    environment = build_environment(work.params.environment)
    writer = ObservationWriter(work.params, work.tokenizer)
    engine.sample(work.requests[:1], SETTINGS, no_progress)
    written, num_turns = [], 0
    started = time.perf_counter()
    for problem, request in list(zip(work.problems, work.requests, strict=True))[:count]:
        environment.start(problem, derive_seed(request.seed, "environment"))
        token_ids = list(request.context_ids)
        for turn in range(work.params.environment.max_turns):
            seed = derive_seed(request.seed, "turn", turn) if turn else request.seed
            [response] = engine.sample([SampleRequest(token_ids, seed)], SETTINGS, no_progress)
            token_ids += response.token_ids
            num_turns += 1
            if response.finish_reason == "length":
                break
            step = environment.step(decode(work.tokenizer, response.token_ids))
            if step.observation is None:
                break
            token_ids += writer.write(step.observation).token_ids
        written.append(token_ids[len(request.context_ids) :])
    seconds = time.perf_counter() - started
    environment.close()
    return Measured(len(written) / seconds, written, num_turns)


def _work(tokenizer: Any, delay_s: float, num_rollouts: int) -> Work:
    numbers = generator(1, "benchmark", "turns")
    contexts = numbers.integers(3, len(tokenizer), (num_rollouts, CONTEXT_TOKENS)).tolist()
    params = context_with_it(delay_s, NUM_ANSWERS, CONTEXT_TOKENS)
    return Work(
        tokenizer,
        params,
        [Problem(f"{number}", "0") for number in range(num_rollouts)],
        [SampleRequest(context, 1000 + place) for place, context in enumerate(contexts)],
    )


def _save_policy(architecture: ArchitectureParams, policy_dir: Path) -> Any:
    tokenizer = character_tokenizer("0123456789+-=;")
    model = new_model(architecture, tokenizer, 7)
    embeddings: Any = model.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight[tokenizer.eos_token_id] *= END_IS_LOUDER
    save_policy(model, tokenizer, policy_dir)
    return tokenizer


if __name__ == "__main__":
    main()
