"""Everything the report shows, read from the workspace and checked against what DVC recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distil_core.campaign.load import load_iteration_params
from distil_core.checks.kept import all_checks
from distil_core.checks.limits import Finding, findings
from distil_core.config.models import IterationParams
from distil_core.errors import DataError
from distil_core.evaluation.decision import GateDecision
from distil_core.evaluation.hindsight import TokenCosts, table_loss, token_costs
from distil_core.files import write_text
from distil_core.lineage.evidence.inputs import read_stage_seconds, require_unchanged
from distil_core.lineage.evidence.iteration import Evidence, History
from distil_core.policy.checkpoint_files import weight_files
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import CONSULTATIONS, EVALUATION, ROLLOUTS
from distil_core.tables.store import scan_table
from distil_core.tables.turns import parts
from distil_core.training.feedback_rows import FeedbackRow, FeedbackRows, read_feedback
from distil_core.workspace import Workspace

_ROLLOUTS_READ = 512
_ROLLOUTS_READ_BY_LARGE = 64
_LARGE_BYTES = 10**8
"""Of weights in their files. A larger policy reads fewer rollouts of each table: each of them reads
every table, which would soon take longer than the training."""

ROLLOUTS_SHOWN = 4


@dataclass(frozen=True)
class CreditMap:
    """One rollout token by token, with the tools' feedback and the expert's tokens. tokens: the
    policy's. answers: what an environment wrote, by the number of the policy's tokens before it."""

    iteration: int
    rollout_id: str
    prompt: str
    verdict: str
    feedback: Sequence[tuple[str, str]]
    tokens: Sequence[str]
    wanted: Sequence[str]
    costs: TokenCosts
    answers: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IterationFacts:
    """One iteration. rollout_tokens: sampled for its training; 0 for the base. evaluation: its
    table, checked but not decoded. findings: what the checks of its tables say. seconds: by stage;
    empty where it was not run here."""

    evidence: Evidence
    params: IterationParams
    evaluation: pl.LazyFrame
    rollout_tokens: int
    seconds: Mapping[str, float]
    findings: Sequence[Finding] = ()

    @property
    def findings_beyond(self) -> list[Finding]:
        """Those beyond a limit."""
        return [finding for finding in self.findings if finding.level != "ok"]

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.evidence.metrics

    @property
    def decision(self) -> GateDecision | None:
        return self.evidence.decision


@dataclass(frozen=True)
class CampaignFacts:
    """A campaign. losses_ji: mean KL to the expert per token, of checkpoint j on table i + 1, on
    its first rollouts_read rollouts. prompts: of the held-out problems, by problem id."""

    name: str
    iterations: Sequence[IterationFacts]
    rollouts_read: int
    losses_ji: NDArray[np.float64]
    credit_maps: Sequence[CreditMap]
    prompts: Mapping[str, str]

    @property
    def parents(self) -> list[int]:
        """For each table, the iteration of the policy that made it."""
        return [facts.decision.parent for facts in self.iterations if facts.decision]


def gather_campaign(workspace: Workspace, progress: ProgressCallback) -> CampaignFacts:
    """Read the finished iterations. Losses and credit maps are computed here, which takes seconds
    for a small policy; losses are cached below .distil/ by the digests of policy and table, each as
    soon as it is known.

    Raises `DataError` when no iteration is finished, `LineageError` when a file is not the recorded
    one.
    """
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        raise DataError(
            "there is nothing to report yet: no iteration is finished. `distil run` runs the "
            "campaign"
        )
    iterations = [_iteration(workspace, history[number]) for number in range(last + 1)]
    problems = read_problems(workspace.problems_dir / "eval.parquet")
    rollouts_read = _rollouts_read(workspace)
    return CampaignFacts(
        name=iterations[0].evidence.campaign,
        iterations=iterations,
        rollouts_read=rollouts_read,
        losses_ji=_losses(workspace, iterations, rollouts_read, progress),
        credit_maps=[
            credit_map
            for number in sorted({1, last} - {0})
            for credit_map in _credit_maps(workspace, iterations[number], rollouts_read)
        ],
        prompts={problem.problem_id: problem.prompt for problem in problems},
    )


def _iteration(workspace: Workspace, evidence: Evidence) -> IterationFacts:
    number = evidence.iteration
    require_unchanged(workspace, evidence.artifacts["evaluation"])
    rollout_tokens = 0
    if number:
        require_unchanged(workspace, evidence.artifacts["rollouts"])
        rollouts, _ = scan_table(workspace.rollouts_file(number), ROLLOUTS)
        num_tokens = pl.col("behaviour_logprobs").list.len().sum()
        rollout_tokens = int(rollouts.select(num_tokens).collect().item())
    params = load_iteration_params(workspace, number, with_components=False)
    return IterationFacts(
        evidence=evidence,
        params=params,
        findings=findings(all_checks(workspace, number), params.checks),
        evaluation=scan_table(workspace.evaluation_file(number), EVALUATION)[0],
        rollout_tokens=rollout_tokens,
        seconds=read_stage_seconds(workspace, number),
    )


def _rollouts_read(workspace: Workspace) -> int:
    weights = weight_files(workspace.policy_dir(0))
    is_large = sum(file.stat().st_size for file in weights) > _LARGE_BYTES
    return _ROLLOUTS_READ_BY_LARGE if is_large else _ROLLOUTS_READ


def _losses(
    workspace: Workspace,
    iterations: Sequence[IterationFacts],
    rollouts_read: int,
    progress: ProgressCallback,
) -> NDArray[np.float64]:
    """The matrix [N + 1, N]; computes only the entries that are not cached."""
    path = workspace.scratch_dir / "hindsight_losses.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    tables = [facts.evidence.artifacts["feedback"] for facts in iterations[1:]]
    policies = [facts.evidence.policy for facts in iterations]
    names_ji = [
        [f"{policy.md5}/{table.md5}/{rollouts_read}" for table in tables] for policy in policies
    ]
    known = {name: known[name] for names in names_ji for name in names if name in known}
    read: dict[int, FeedbackRows] = {}
    for j, facts in enumerate(iterations):
        missing = [i for i, name in enumerate(names_ji[j]) if name not in known]
        if not missing:
            continue
        policy_dir = workspace.policy_dir(j)
        model = load_model(policy_dir, facts.params.compute)
        digest = tokenizer_digest(load_tokenizer(policy_dir))
        for i in missing:
            if i not in read:
                read[i] = read_feedback(workspace.feedback_dir(i + 1), digest)
            known[names_ji[j][i]] = table_loss(model, read[i], rollouts_read)
            write_text(path, json.dumps(known, indent=1) + "\n")
            progress(len(known), len(policies) * len(tables))
    return np.array([[known[name] for name in names] for names in names_ji]).reshape(
        len(policies), len(tables)
    )


def _credit_maps(
    workspace: Workspace, facts: IterationFacts, rollouts_read: int
) -> list[CreditMap]:
    """Of an iteration's first rollouts those on which student and expert disagree most, one for
    each prompt, scored by the policy that sampled them."""
    number = facts.evidence.iteration
    parent_dir = workspace.parent_dir(number)
    tokenizer = load_tokenizer(parent_dir)
    table = read_feedback(workspace.feedback_dir(number), tokenizer_digest(tokenizer))
    rows = [table.row(index) for index in range(min(rollouts_read, len(table)))]
    rows = [row for row in rows if row.has_expert and not row.by_expert]
    costs = token_costs(load_model(parent_dir, facts.params.compute), rows)
    order = sorted(range(len(rows)), key=lambda index: -float(costs[index].disagreement_t.sum()))
    prompts = {
        problem.problem_id: problem.prompt
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    shown: dict[str, int] = {}
    for index in order:
        prompt = prompts[rows[index].rollout_id.split("/")[1]]
        if len(shown) < ROLLOUTS_SHOWN:
            shown.setdefault(prompt, index)
    consultations = _consultations(workspace, number, [rows[i].rollout_id for i in shown.values()])
    return [
        CreditMap(
            iteration=number,
            rollout_id=rows[index].rollout_id,
            prompt=prompt,
            verdict=consultations[rows[index].rollout_id]["verdict"],
            feedback=[
                (item["kind"], item["text"])
                for item in consultations[rows[index].rollout_id]["feedback"]
            ],
            tokens=[_token_text(tokenizer, token) for token in rows[index].response_ids_t.tolist()],
            wanted=[_token_text(tokenizer, token) for token in _most_likely(rows[index])],
            costs=costs[index],
            answers=_answers(tokenizer, rows[index]),
        )
        for prompt, index in shown.items()
    ]


def _answers(tokenizer: Any, row: FeedbackRow) -> dict[int, str]:
    """`CreditMap.answers`."""
    found: dict[int, str] = {}
    num_before = 0
    lengths = [] if row.turns is None else row.turns.lengths.tolist()
    for is_policys, ids in parts(row.read_ids.tolist(), lengths):
        if is_policys:
            num_before += len(ids)
        else:
            found[num_before] = str(tokenizer.decode(ids))
    return found


def _consultations(
    workspace: Workspace, iteration: int, rollout_ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Verdict and feedback of the chosen rollouts, by rollout."""
    consultations, _ = scan_table(workspace.consultations_file(iteration), CONSULTATIONS)
    chosen = (
        consultations.filter(pl.col("rollout_id").is_in(list(rollout_ids)))
        .select("rollout_id", "verdict", "feedback")
        .collect()
    )
    return {row["rollout_id"]: row for row in chosen.iter_rows(named=True)}


def _most_likely(row: FeedbackRow) -> list[int | None]:
    """The expert's most likely token at each position; None where no token is stored."""
    starts = np.concatenate([[0], np.cumsum(row.expert_counts_t)[:-1]])
    return [
        int(row.expert_ids[start]) if count else None
        for start, count in zip(starts, row.expert_counts_t, strict=True)
    ]


def _token_text(tokenizer: Any, token: int | None) -> str:
    if token is None:
        return ""
    if token in end_token_ids(tokenizer):
        return "⏎"
    return str(tokenizer.decode([token]))
