"""Finished campaigns for tests of comparisons, with evaluations made up from a share of right
answers. The stages never ran; digests are those that DVC would give the files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from distil_core.evaluation.summary import summarise
from distil_core.pipeline import stage_addresses
from distil_core.tables.schemas import EVALUATION, ROLLOUTS, EvaluationRow, RolloutRow
from distil_core.tables.store import write_table
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "lineage"))
import mlflow_scratch

NUM_SAMPLES, NUM_PROBLEMS, NUM_ROLLOUTS = 4, 48, 6
SECONDS_A_STAGE = 2.0


def make_campaign(
    root: Path,
    shares: Sequence[float],
    seed: int = 1,
    first_problem: int = 0,
    champion: int | None = None,
    **settings: Any,
) -> Workspace:
    """Policies 0, 1 .. are right on about these shares of their answers.

    first_problem: number of the first held-out one. champion: the last promoted policy. settings:
    such as train__learning_rate=0.1.
    """
    last = len(shares) - 1
    best = last if champion is None else champion
    workspace = mlflow_scratch.make_campaign(root, last)
    for number, share in enumerate(shares):
        rows = _rows(share, [seed, number], first_problem)
        write_table(workspace.evaluation_file(number), EVALUATION, rows, {})
        metrics = {"iteration": number, **summarise(rows, 200, seed)}
        workspace.metrics_file(number).write_text(json.dumps(metrics))
        _set(workspace.frozen_params_file(number), seed=seed, **settings)
        if number:
            rollouts = [_rollout(place) for place in range(NUM_ROLLOUTS)]
            write_table(workspace.rollouts_file(number), ROLLOUTS, rollouts, {})
            decision = json.loads(workspace.decision_file(number).read_text())
            decision |= {"champion": min(number, best), "promoted": int(number <= best)}
            workspace.decision_file(number).write_text(json.dumps(decision))
        stages = [address.partition("@")[0] for address in stage_addresses(number)]
        workspace.timings_file(number).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict.fromkeys(stages, SECONDS_A_STAGE))
        workspace.timings_file(number).write_text(text)
    mlflow_scratch.lock_all(workspace, range(last + 1))
    return workspace


def _rows(share: float, seed: list[int], first: int) -> list[EvaluationRow]:
    # A problem's difficulty is its own, whichever policy answers.
    difficulty_p = np.random.default_rng(5).random(1000)[first : first + NUM_PROBLEMS]
    chance_p1 = np.clip(share + (difficulty_p - 0.5) * 0.6, 0, 1)[:, None]
    right_p = (np.random.default_rng(seed).random((NUM_PROBLEMS, NUM_SAMPLES)) < chance_p1).sum(1)
    return [
        EvaluationRow(
            problem_id=f"{first + place:04d}",
            split="eval",
            num_samples=NUM_SAMPLES,
            num_correct=int(right),
            num_malformed=0,
            num_truncated=0,
            num_distinct=2,
            num_distinct_answers=2,
            majority_correct=float(2 * right > NUM_SAMPLES),
            response_tokens_mean=6.0,
            entropy_per_response=1.2,
            entropy_per_token=0.2,
            first_response="x",
            first_verdict="wrong",
        )
        for place, right in enumerate(right_p)
    ]


def _rollout(place: int) -> RolloutRow:
    return RolloutRow(
        rollout_id=f"1/{place}/0",
        problem_id=str(place),
        sample_index=0,
        seed=place,
        context_ids=[1, 2],
        response_ids=[3] * 5,
        behaviour_logprobs=[-0.5] * 5,
        finish_reason="stop",
        response="333",
        error=None,
    )


def _set(file: Path, **settings: Any) -> None:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, value in settings.items():
        *sections, key = name.split("__")
        part = values
        for section in sections:
            part = part[section]
        part[key] = value
    file.write_text(yaml.safe_dump(values, sort_keys=False, width=10**6), encoding="utf-8")
