"""Seconds and memory of a whole iteration, from what a preview took.

Everything is at the preview's own rate, without the first call of a process. Engines are faster on
more rows at once, so that sampling and scoring are rather overestimated.
"""

import resource
from dataclasses import dataclass
from math import prod
from pathlib import Path

from distil_core.config.models import Params
from distil_core.policy.checkpoint_files import weight_files
from distil_core.policy.conventions import read_json_object
from distil_core.preview.attempts import Tried
from distil_core.preview.figures import Figures

_FORWARD_AND_BACKWARD = 3.0
"""A training pass in units of a forward pass: the backward pass takes two."""
_WEIGHT_BYTES = _GRADIENT_BYTES = 4
"""Of a trained parameter; training keeps both in float32 (tasks/train.py)."""
_MOMENTS = 2
"""AdamW's, for each trained parameter."""
_ACTIVATIONS_HIDDEN, _ACTIVATIONS_INTERMEDIATE = 14, 5
"""Numbers kept of each token in a block of a transformer until the backward pass, in units of its
hidden and intermediate size; fitted to docs/training.md's measurements."""
_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Cost:
    """seconds: of one part of an iteration. how: what it is made of."""

    part: str
    seconds: float
    how: str


@dataclass(frozen=True)
class Estimate:
    """peak_gb: of this process so far, or of the GPU. training_gb: weights, gradients and moments;
    activations_gb: of one (micro-)batch; 0 where the checkpoint does not tell its sizes.
    """

    costs: tuple[Cost, ...]
    tokens_per_second: float
    expert_tokens_per_second: float | None
    num_parameters: int
    peak_gb: float
    training_gb: float
    activations_gb: float

    @property
    def seconds(self) -> float:
        """Of the whole iteration, one part after another."""
        return sum(cost.seconds for cost in self.costs)


def estimate(tried: Tried, figures: Figures) -> Estimate:
    """Scale up what was measured."""
    params, seconds = tried.params, tried.seconds
    count = figures.num_rollouts
    num_rollouts = params.sample.num_prompts * params.sample.num_rollouts
    training, activations = _training_gb(tried, figures)
    rate = figures.num_response_tokens / seconds["sample"]
    return Estimate(
        tuple(_costs(tried, figures, count, num_rollouts)),
        rate,
        figures.num_answer_tokens / seconds["ask"] if seconds.get("ask") else None,
        num_parameters(tried.policy.policy_dir),
        _peak_gb(params),
        training,
        activations,
    )


def _costs(tried: Tried, figures: Figures, count: int, num_rollouts: int) -> list[Cost]:
    params, seconds = tried.params, tried.seconds
    sample = seconds["sample"] / count
    consult = seconds["consult"] / count
    passes = params.train.num_steps * params.train.batch_rollouts
    repeats = params.train.micro_batch_rollouts is not None or params.train.activation_checkpointing
    factor = _FORWARD_AND_BACKWARD + repeats
    generalisation = params.problems.generalisation
    harder = generalisation.num_problems if generalisation else 0
    num_samples = (tried.num_held_out + harder) * params.evaluate.num_samples
    num_expert = tried.num_held_out * params.evaluate.num_expert_samples
    ask = seconds["ask"] / max(figures.num_asked, 1) if "ask" in seconds else 0.0
    evaluation = num_samples * (sample + consult) + (num_expert * (ask + consult) if ask else 0.0)
    played = num_rollouts + num_samples
    waiting = [
        Cost("environment", played * waited / count, f"waiting in {played:,} rollouts")
        for name, waited in seconds.items()
        if name == "environment"
    ]
    return [
        Cost("sample", num_rollouts * sample, f"{num_rollouts:,} rollouts"),
        *waiting,
        Cost("consult", num_rollouts * consult, f"{num_rollouts:,} rollouts"),
        Cost("tabulate", num_rollouts * seconds["tabulate"] / count, f"{num_rollouts:,} rollouts"),
        Cost(
            "train",
            passes * factor * seconds["score"] / count,
            f"{params.train.num_steps:,} steps of {params.train.batch_rollouts:,} rollouts, each "
            f"{factor:.0f} forward passes' work",
        ),
        Cost(
            "evaluate",
            evaluation,
            f"{num_samples:,} responses" + (f" and {num_expert:,} of the expert" if ask else ""),
        ),
    ]


def num_parameters(policy_dir: Path) -> int:
    """As the checkpoint's safetensors declare them; no weight is loaded."""
    from safetensors import safe_open

    total = 0
    for file in weight_files(policy_dir):
        with safe_open(file, "pt") as tensors:
            names = list(tensors.keys())
            total += sum(prod(tensors.get_slice(name).get_shape()) for name in names)
    return total


def _training_gb(tried: Tried, figures: Figures) -> tuple[float, float]:
    params, policy_dir = tried.params, tried.policy.policy_dir
    size = num_parameters(policy_dir)
    train = params.train
    moment_bytes = _MOMENTS * train.optimizer_state_bits / 8
    trained_bytes = 0 if train.lora is not None else _GRADIENT_BYTES + moment_bytes
    average_bytes = _WEIGHT_BYTES if train.average_decay is not None else 0
    states = size * (_WEIGHT_BYTES + trained_bytes + average_bytes)
    config = read_json_object(policy_dir / "config.json")
    sizes = {**config, **(config.get("text_config") or {})}
    try:
        hidden, blocks = int(sizes["hidden_size"]), int(sizes["num_hidden_layers"])
        intermediate, vocabulary = int(sizes["intermediate_size"]), int(sizes["vocab_size"])
    except (KeyError, TypeError, ValueError):
        return states / 1e9, 0.0
    rows = train.micro_batch_rollouts or train.batch_rollouts
    tokens = rows * (figures.longest_student_context + figures.longest_response)
    in_block = _ACTIVATIONS_HIDDEN * hidden + _ACTIVATIONS_INTERMEDIATE * intermediate
    # With checkpointing a block's input is kept, and one block is computed again at a time.
    kept = in_block * blocks if not train.activation_checkpointing else in_block + hidden * blocks
    tiled = train.tiled_head_above_vocabulary
    is_whole = tiled is None or vocabulary <= tiled
    logits = 3 * rows * figures.longest_response * vocabulary * is_whole
    return states / 1e9, (tokens * kept * _BYTES[params.compute.dtype] + 4 * logits) / 1e9


def _peak_gb(params: Params) -> float:
    if params.compute.device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
