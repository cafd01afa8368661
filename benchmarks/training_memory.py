"""CPU seconds and peak memory of a training step with each way to save memory, beside none of them.

`python -m benchmarks.training_memory` trains a Llama of 25 million parameters on rows of 64 to 320
tokens on the CPU, through the loop that the stage `train` runs; each contender in processes of its
own, one at a time. Memory is the most that the process held, all libraries included.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.measure import (
    Run,
    machine,
    markdown_table,
    minimum_of,
    own_peak_mb,
    run_in_turn,
)

PLAIN = "plain"
_LORA = {"rank": 8, "alpha": 16.0, "target_modules": ["q_proj", "v_proj"]}
CONTENDERS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "micro-batches of 4": {"micro_batch_rollouts": 4},
    "activation checkpointing": {"activation_checkpointing": True},
    "LoRA, rank 8": {"lora": _LORA},
    "moments of 8 bits": {"optimizer_state_bits": 8},
    "packed": {"layout": "packed"},
    "prefix trees": {"layout": "prefix_tree"},
    "micro-batches of 4, packed": {"micro_batch_rollouts": 4, "layout": "packed"},
    "micro-batches of 4, prefix trees": {"micro_batch_rollouts": 4, "layout": "prefix_tree"},
    "the first three, packed": {
        "micro_batch_rollouts": 4,
        "activation_checkpointing": True,
        "lora": _LORA,
        "layout": "packed",
    },
}
NUM_ROWS = 16
GROUP = 4
VOCABULARY = 512
TOP_K = 20


def main() -> None:
    """Print the table, or one contender's figures."""
    arguments = _arguments()
    if arguments.child:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(CONTENDERS[arguments.child], arguments.steps)))
        return
    flags = [f"--steps={arguments.steps}", f"--threads={arguments.threads}"]
    commands = {
        name: [sys.executable, "-m", "benchmarks.training_memory", f"--child={name}", *flags]
        for name in CONTENDERS
    }
    runs = run_in_turn(commands, arguments.repeats, arguments.threads)
    figures = runs[PLAIN][0].figures
    print(
        f"{figures['parameters'] / 1e6:.1f} M parameters, {NUM_ROWS} rows of "
        f"{figures['shortest']:.0f} to {figures['longest']:.0f} tokens a step, "
        f"{figures['padding']:.0%} of the padded batch is padding; {machine()}, threads: "
        f"{arguments.threads}; least of {arguments.repeats * arguments.steps} steps in "
        f"{arguments.repeats} processes.\n"
    )
    rows = [_row(name, found, runs[PLAIN]) for name, found in runs.items()]
    print(markdown_table(["", "CPU seconds a step", "ratio", "peak MB", "ratio", "loss"], rows))


def measure(changes: dict[str, Any], num_steps: int) -> dict[str, float]:
    """CPU seconds of the fastest step, the process's peak, and the loss of the first step."""
    from distil_core.config.models import TrainParams
    from distil_core.objectives import OBJECTIVES
    from distil_core.training.state import TrainingSetup
    from distil_core.training.trainer import train

    model = _model()
    rows, lengths = _rows()
    params = TrainParams(
        objective={"name": "forward_cross_entropy", "options": {}},  # type: ignore[arg-type]
        num_steps=num_steps + 1,
        batch_rollouts=NUM_ROWS,
        learning_rate=1e-4,
        final_learning_rate_fraction=1.0,
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        **changes,
    )
    setup = TrainingSetup(params, 1)
    # The check of the layout before the first step is not a step's.
    ends = list[float]()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    objective: Any = OBJECTIVES.build("forward_cross_entropy", {})
    curve = train(model, rows, objective, setup, lambda *_: ends.append(time.process_time()))
    return {
        "seconds": float(np.diff(ends).min()),
        "loss": curve[0]["loss"],
        "parameters": parameters,
        "shortest": min(map(sum, lengths)),
        "longest": max(map(sum, lengths)),
        "padding": _padding(lengths),
        "peak_mb": own_peak_mb(),
    }


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _rows() -> tuple[Any, list[tuple[int, int]]]:
    """Four rollouts of each problem, which share its context and nothing of their responses; most
    responses are short and a few are long."""
    import pyarrow as pa

    from distil_core.tables.schemas import FEEDBACK
    from distil_core.training.feedback_rows import FeedbackRows

    random = np.random.default_rng(0)
    contexts = np.repeat(random.integers(48, 129, NUM_ROWS // GROUP), GROUP).tolist()
    responses = np.geomspace(16, 192, NUM_ROWS).round().astype(int)
    lengths = list(zip(contexts, random.permutation(responses).tolist(), strict=True))
    prompts = [random.integers(0, VOCABULARY, context).tolist() for context, _ in lengths[::GROUP]]
    table = []
    for index, (_, response) in enumerate(lengths):
        scores = random.normal(size=(response, TOP_K + 1))
        logprobs_tk = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        ids = [random.choice(VOCABULARY, TOP_K, replace=False) for _ in range(response)]
        table.append(
            {
                "rollout_id": f"001/{index // GROUP}/{index % GROUP}",
                "problem_id": str(index // GROUP),
                "reward": float(index % 2),
                "context_ids": prompts[index // GROUP],
                "expert_context_ids": [1],
                "response_ids": random.integers(0, VOCABULARY, response).tolist(),
                "behaviour_logprobs": [-float(np.log(VOCABULARY))] * response,
                "has_expert": True,
                "expert_counts": [TOP_K] * response,
                "expert_ids": np.concatenate(ids).tolist(),
                "expert_logprobs": logprobs_tk[:, :-1].ravel().tolist(),
                "expert_tail_logprobs": logprobs_tk[:, -1].tolist(),
            }
        )
    return FeedbackRows(pa.Table.from_pylist(table, schema=FEEDBACK.arrow), {}), lengths


def _padding(lengths: Sequence[tuple[int, int]]) -> float:
    contexts, responses = zip(*lengths, strict=True)
    padded = len(lengths) * (max(contexts) + max(responses))
    return 1 - sum(map(sum, lengths)) / padded


def _row(name: str, found: Sequence[Run], plain: Sequence[Run]) -> list[str]:
    def seconds(of: Sequence[Run]) -> float:
        return minimum_of(of, lambda run: float(run.figures["seconds"]))

    def peak(of: Sequence[Run]) -> float:
        return minimum_of(of, lambda run: run.peak_mb)

    return [
        name,
        f"{seconds(found):.2f}",
        f"{seconds(found) / seconds(plain):.2f}",
        f"{peak(found):,.0f}",
        f"{peak(found) / peak(plain):.2f}",
        f"{found[0].figures['loss']:.5f}",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.training_memory", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="processes of each contender")
    parser.add_argument(
        "--steps", type=int, default=2, help="in each process, after a first that warms up"
    )
    parser.add_argument("--child", choices=sorted(CONTENDERS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
