"""The model card of an exported policy: what was measured, on what, and what it was made from.

Written from the record alone. Unlike the card in the workspace's folder, which is part of the
policy's digest and knows only of training, this one has the scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distil_core.config.models import BaseParams, IterationParams, PretrainedBase
from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.export.evidence import EVIDENCE_FILE, SETTINGS_FILE, snapshot_of_policy
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.pages.card import gate_lines, score_rows
from distil_core.lineage.pages.chain import Chain
from distil_core.lineage.pages.tables import ROLE_NAMES, learning_table, lineage_table
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_MAX_SHOWN = 20
"""Iterations in the tables, the last ones; the base is always among them."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Template:
    """On how many of the compared held-out prompts the folder's chat template gives the very tokens
    of the campaign's context."""

    num_same: int
    num_compared: int


def export_card(
    workspace: Workspace, chain: Chain, params: IterationParams, template: Template
) -> str:
    """Markdown with the header that model hubs read, its scores among it."""
    this = chain.last
    title = f"{chain.model_name}, policy {iteration_key(this.iteration)}"
    # MLflow's tables need space in each cell; a hub's do not.
    body = "\n".join(_body(workspace, chain, params, template)).replace("&emsp;", "")
    return f"---\n{_header(this, params, title)}\n---\n\n# {title}\n\n{body}\n"


def _header(this: Evidence, params: IterationParams, title: str) -> str:
    from huggingface_hub import ModelCardData

    base = params.base
    named = base.path_or_id if isinstance(base, PretrainedBase) else ""
    results = _results(this, params)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["distil", "dagger", "self-distillation"],
        base_model=named if _HUB_ID.fullmatch(named) else None,
        model_name=title if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml()).rstrip()


def _results(this: Evidence, params: IterationParams) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    found = []
    for k in pass_at_ks(this.metrics):
        name = f"pass_at_{k}"
        ends = [this.metrics.get(f"{name}_{end}") for end in ("low", "high")]
        arguments = {} if None in ends else {"interval_95": ends}
        found.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=params.problems.source.name,
                dataset_name=f"{this.campaign}, held-out problems",
                dataset_split="eval",
                metric_type=f"pass@{k}",
                metric_name=f"pass@{k}",
                metric_value=this.metrics[name],
                metric_args=arguments or None,
            )
        )
    return found


def _body(
    workspace: Workspace, chain: Chain, params: IterationParams, template: Template
) -> Iterator[str]:
    this, evaluate = chain.last, params.evaluate
    number = this.iteration
    shown = {0, *range(number - _MAX_SHOWN + 1, number + 1)}.__contains__
    yield (
        "The base policy of a campaign"
        if number == 0
        else f"A causal language model after {number} iteration{'s' if number > 1 else ''}"
    ) + " of distributional DAgger from rich feedback (arXiv 2606.05152), exported by DistIL."
    yield from ("", "## Scores", "")
    yield (
        f"On {this.metrics.get('num_problems', 0):.0f} held-out problems, "
        f"{this.metrics.get('num_samples', 0):.0f} samples each, without feedback in the context; "
        f"temperature {evaluate.temperature:g}, top-p {evaluate.top_p:g}, at most "
        f"{evaluate.max_new_tokens} tokens. 95% bootstrap intervals over problems."
    )
    yield from ("", "| figure | value | 95% interval |", "|---|---:|---:|", *score_rows(this), "")
    yield from gate_lines(this, "##")
    yield from _promoted(this)
    yield from ("## All iterations up to this one", "", learning_table(chain, shown), "")
    yield from _use(template)
    yield from ("## Data and settings", "", "| | |", "|---|---|")
    yield from (f"| {name} | {_cell(value)} |" for name, value in _settings(params))
    for role, name in ROLE_NAMES.items():
        if artifact := this.artifacts.get(role):
            yield f"| {name} | `{artifact.path}`, md5 `{artifact.md5}` |"
    yield f"| all settings; all figures and digests | `{SETTINGS_FILE}`; `{EVIDENCE_FILE}` |"
    yield from ("", "## Where it comes from", "", lineage_table(chain, shown), "")
    yield f"Weights, configuration and tokenizer as DVC keeps them: md5 `{this.policy.md5}`."
    if snapshot := snapshot_of_policy(workspace, this):
        yield f"Snapshot of code, settings and dvc.lock: `{snapshot.ref}`, `{snapshot.commit}`."
    yield "Nothing outside these problems was measured."


def _promoted(this: Evidence) -> list[str]:
    if not this.decision:
        return []
    if this.decision.promoted:
        return ["The improvement gate promoted this policy to champion.", ""]
    kept = iteration_key(this.champion)
    return [f"**Not promoted**: {this.decision.reasons}. Champion stayed policy {kept}.", ""]


def _use(template: Template) -> list[str]:
    same = "On all" if template.num_same == template.num_compared else f"On {template.num_same} of"
    return [
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # or the name of this repository',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "inputs = tokenizer.apply_chat_template(",
        '    [{"role": "user", "content": PROBLEM}],',
        '    add_generation_prompt=True, return_tensors="pt", return_dict=True,',
        ")",
        "answer = model.generate(**inputs)[0, inputs['input_ids'].shape[1] :]",
        "print(tokenizer.decode(answer, skip_special_tokens=True))",
        "```",
        "",
        "`generate` samples from the distribution that the scores were measured with, and ends at "
        "the tokens that ended a response there. The chat template writes the context that the "
        f"policy was trained on. {same} {template.num_compared} held-out problems it gives the "
        "campaign's own tokens.",
        "",
    ]


def _settings(params: IterationParams) -> Iterator[tuple[str, Any]]:
    source = params.problems.source
    yield "problems", _component(source.name, source.options)
    verifier = params.consult.verifier
    yield "verifier", _component(verifier.name, verifier.options)
    yield "base", _base(params.base)
    if params.iteration == 0:
        return
    expert, objective, train = params.tabulate.expert, params.train.objective, params.train
    yield "expert", _component(expert.name, expert.options)
    yield "objective", _component(objective.name, objective.options)
    yield (
        "training",
        f"{train.num_steps} steps of {train.batch_rollouts} rollouts an iteration, learning rate "
        f"{train.learning_rate:g}",
    )
    yield "seed", params.seed


def _base(base: BaseParams) -> str:
    if not isinstance(base, PretrainedBase):
        return "trained from scratch"
    if base.warm_start is None:
        return base.path_or_id
    source = "rows of a file" if base.warm_start.file else "problems of the campaign"
    return f"{base.path_or_id}, warm-started on {source} for {base.warm_start.num_steps} steps"


def _component(name: str, options: dict[str, Any]) -> str:
    return ", ".join([name, *(f"{key} {value}" for key, value in options.items())])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
