"""Stage `sample`: the student's own rollouts, which every later stage is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import (
    MonitoredEngine,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
)
from distil_core.errors import ConfigError
from distil_core.evaluation.handover import require_policy
from distil_core.feedback.contexts import ContextRenderer, count_shortened
from distil_core.policy.tokenizer import decode, load_tokenizer, tokenizer_digest
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed, generator
from distil_core.tables.schemas import ROLLOUTS
from distil_core.tables.store import write_table
from distil_core.workspace import Workspace, iteration_key
from tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write rollouts.parquet: num_rollouts of each of num_prompts training problems."""
    iteration = params.iteration
    policy_dir = workspace.parent_dir(iteration)
    require_policy(policy_dir)
    tokenizer = load_tokenizer(policy_dir)
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    problems = choose_problems(
        read_problems(workspace.problems_dir / "train.parquet"),
        params.sample.num_prompts,
        iteration,
        params.seed,
        params.sample.earlier_num_prompts,
    )
    jobs = [(problem, index) for problem in problems for index in range(params.sample.num_rollouts)]
    renderer = ContextRenderer(params.context, tokenizer)
    contexts = {
        problem.problem_id: renderer.student(problem.prompt, problem.problem_id)
        for problem in problems
    }
    requests = []
    for problem, index in jobs:
        seed = derive_seed(params.seed, iteration, "sample", problem.problem_id, index)
        requests.append(SampleRequest(contexts[problem.problem_id].token_ids, seed))
    settings = SamplingSettings(
        params.sample.max_new_tokens, params.sample.temperature, params.sample.top_p
    )
    responses = engine.sample(requests, settings, progress)
    rows = [
        _row(iteration, problem, index, request, response, tokenizer)
        for (problem, index), request, response in zip(jobs, requests, responses, strict=True)
    ]
    context = {
        "iteration": iteration,
        "sample": params.sample.model_dump(),
        "student_template": params.context.student_template,
        "tokenizer_digest": tokenizer_digest(tokenizer),
    }
    if params.context.shorten:
        context["num_shortened"] = count_shortened(list(contexts.values()))
    if isinstance(engine, MonitoredEngine):
        context["engine_drift"] = engine.drift()
    write_table(workspace.rollouts_file(iteration), ROLLOUTS, rows, context)


def choose_problems(
    problems: Sequence[Problem],
    num_prompts: int,
    iteration: int,
    seed: int,
    earlier: Sequence[int] | None = None,
) -> list[Problem]:
    """This iteration's problems, distinct.

    earlier: num_prompts of each iteration before, by default this one's. While it is always the
    same, iterations walk through a permutation of all problems, and through another one when too
    few are left. From its first change on they take the problems used least often so far, in the
    order of a permutation for each number of uses: none repeats while others are unused.
    """
    sizes = [*([num_prompts] * (iteration - 1) if earlier is None else earlier), num_prompts]
    if len(sizes) != iteration:
        raise ConfigError(
            f"sample.earlier_num_prompts has {len(sizes) - 1} entries, iteration {iteration} has "
            f"{iteration - 1} before it: freeze it anew with `distil restart`"
        )
    walk = _Walk(len(problems), seed)
    if len(set(sizes)) == 1:
        return [problems[i] for i in walk.steady(num_prompts, iteration)]
    uses = np.zeros(len(problems), np.int64)
    for number, size in enumerate(sizes, start=1):
        is_steady = len(set(sizes[:number])) == 1
        chosen = walk.steady(size, number) if is_steady else walk.least_used(size, uses)
        uses[chosen] += 1
    return [problems[i] for i in chosen]


class _Walk:
    """Indices of `num_problems` problems in the order of seeded permutations."""

    def __init__(self, num_problems: int, seed: int):
        self._num_problems = num_problems
        self._seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def steady(self, size: int, iteration: int) -> NDArray[np.int64]:
        """The iteration's, where all before it have taken as many."""
        epoch, position = divmod(iteration - 1, self._num_problems // size)
        return self._order(epoch)[position * size : (position + 1) * size]

    def least_used(self, size: int, uses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the fewest uses, among equals in the order of that round's permutation."""
        rank = np.empty(self._num_problems, np.int64)
        for count in np.unique(uses):
            order = self._order(int(count))
            rank[order[uses[order] == count]] = np.arange((uses == count).sum())
        return np.lexsort((rank, uses))[:size]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            random = generator(self._seed, "sample", "permutation", epoch)
            self._orders[epoch] = random.permutation(self._num_problems)
        return self._orders[epoch]


def _row(
    iteration: int,
    problem: Problem,
    index: int,
    request: SampleRequest,
    response: SampledResponse,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    return {
        "rollout_id": f"{iteration_key(iteration)}/{problem.problem_id}/{index}",
        "problem_id": problem.problem_id,
        "sample_index": index,
        "seed": request.seed,
        "context_ids": request.context_ids,
        "response_ids": response.token_ids,
        "behaviour_logprobs": response.behaviour_logprobs,
        "finish_reason": response.finish_reason,
        "response": decode(tokenizer, response.token_ids),
        "error": None,
    }


STAGE = StageSpec("sample", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
