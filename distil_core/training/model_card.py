"""The model card in a policy's folder: what training knows about it, and where the rest is
recorded.

The card is part of the checkpoint that DVC digests, so it holds only what the train stage depends
on (its settings, and how the feedback table was made). It is the same in every run and never out of
date. Scores come later, and are stored beside the folder.
"""

from collections.abc import Mapping
from typing import Any

from distil_core.config.models import LoraParams, TrainParams
from distil_core.policy.card_opening import card_opening
from distil_core.workspace import iteration_key


def model_card(
    iteration: int,
    seed: int,
    train: TrainParams,
    table_context: Mapping[str, Any],
    table_digests: Mapping[str, str],
) -> str:
    """Markdown with the header that model hubs read.

    table_context: the feedback table's metadata about how it was made. table_digests: SHA-256 of
    each table learned from, by path.
    """
    key = iteration_key(iteration)
    folder = f"data/iterations/{key}"
    objective = train.objective
    expert = table_context["tabulate"]["expert"]
    lines = [
        *card_opening(f"Policy {key}"),
        f"A causal language model after {iteration} iteration"
        f"{'s' if iteration > 1 else ''} of distributional DAgger from rich feedback "
        "(arXiv 2606.05152).",
        "",
        "## Training",
        "",
        "| | |",
        "|---|---|",
        f"| starts from | {_parent(iteration)} |",
        f"| objective | `{objective.name}` {_options(objective.options)} |",
        f"| optimizer | AdamW, {train.num_steps} steps of {train.batch_rollouts} rollouts, "
        f"learning rate {train.learning_rate:g} |",
        *_adapters(train.lora),
        f"| rollouts | {table_context['num_rollouts']} of its parent's own |",
        f"| left out | {table_context['num_without_verdict']} without a verdict, "
        f"{table_context['num_without_feedback']} without feedback for the expert |",
        f"| expert | `{expert['name']}` {_options(expert['options'])} |",
        f"| seed | {seed} |",
        "",
        "Feedback tables learned from, SHA-256:",
        "",
        *(f"- `{path}` `{digest}`" for path, digest in sorted(table_digests.items())),
        "",
        "## Evaluation",
        "",
        "It was evaluated after this folder was closed. Held-out scores with their intervals are "
        f"in `{folder}/metrics.json`, scores by problem in `{folder}/evaluation.parquet`, whether "
        f"the improvement gate promoted it in `{folder}/decision.json`; all iterations together in "
        "`report.html` (`distil report`).",
        "",
        "## Use",
        "",
        f"`context` in `iterations/{key}.yaml` says how its prompts are written; it was trained "
        "and evaluated without feedback in them. On other problems than the campaign's own it was "
        "not measured.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM",
        "",
        f'AutoModelForCausalLM.from_pretrained("{folder}/policy")',
        "```",
        "",
        f"`iterations/{key}.yaml` holds all settings, those of problems, sampling and "
        f"verifier too; `dvc repro train@{key}` makes it again.",
    ]
    return "\n".join(lines) + "\n"


def _adapters(lora: LoraParams | None) -> list[str]:
    if lora is None:
        return []
    return [
        f"| trained | LoRA of rank {lora.rank}, alpha {lora.alpha:g}, on "
        f"{', '.join(lora.target_modules)}; merged into these weights |"
    ]


def _parent(iteration: int) -> str:
    if iteration == 1:
        return "the base policy, `data/policy-000`"
    before = iteration_key(iteration - 1)
    return f"what the gate of iteration {before} handed over, `data/iterations/{before}/handover`"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())
