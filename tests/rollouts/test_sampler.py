"""Rollouts in a real environment in real processes, against plain forward passes (about 40 s)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from distil_core.config.models import ContextParams, EnvironmentParams
from distil_core.engines.base import SampledResponse, SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.environments.pool import EnvironmentPool, StepJob
from distil_core.errors import EngineError, EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.rollouts.sampled import SampledRollout, require_rollouts
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed

END = 1
SETTINGS = SamplingSettings(max_new_tokens=8, temperature=1.0, top_p=1.0)
PROBLEMS = [Problem(f"{number}+{number}=", "0") for number in range(6)]


@pytest.fixture(scope="module")
def model(ending_model: Any) -> Any:
    """One that ends most of its turns."""
    return ending_model(7, 4)


def context(max_turns: int = 3, **options: Any) -> ContextParams:
    return ContextParams(
        student_template="{prompt}|",
        expert_template="{prompt}{attempt}{tool_output}|",
        max_context_tokens=30,
        environment=EnvironmentParams(
            name="turn_worlds.counting",
            options=options,
            max_turns=max_turns,
            max_observation_tokens=7,
            observation_template="={observation};",
        ),
    )


def planned(num_rollouts: int = 4) -> tuple[list[Problem], list[SampleRequest]]:
    problems = [problem for problem in PROBLEMS for _ in range(num_rollouts)]
    contexts = [[10 + PROBLEMS.index(problem), 20, 30] for problem in problems]
    return problems, [SampleRequest(ids, 900 + place) for place, ids in enumerate(contexts)]


def sampled(
    model: Any, tokenizer: Any, params: ContextParams, batch_size: int = 7, num_workers: int = 1
) -> list[SampledRollout]:
    engine = TransformersEngine(model, [END], batch_size)
    sampler = RolloutSampler(engine, tokenizer, params, num_workers)
    return sampler.sample(*planned(), SETTINGS, no_progress)


@pytest.fixture(scope="module")
def rollouts(model: Any, tokenizer: Any) -> list[SampledRollout]:
    return sampled(model, tokenizer, context())


@torch.inference_mode()
def plain_logprobs(model: Any, before: Sequence[int], token_ids: Sequence[int]) -> list[float]:
    logits = model(torch.tensor([[*before, *token_ids]]), use_cache=False).logits[0].double()
    logprobs = torch.log_softmax(logits[len(before) - 1 : -1], -1)
    return logprobs.gather(1, torch.tensor(token_ids)[:, None])[:, 0].tolist()


def test_each_turn_follows_all_tokens_before_it(
    model: Any, tokenizer: Any, rollouts: list[SampledRollout]
) -> None:
    """The policy's log-probabilities are those of the tokens as they stand in the rollout, and what
    the environment says stands between the turns."""
    _, requests = planned()
    assert {len(one.turns) for one in rollouts} >= {1, 2, 3}
    for request, rollout in zip(requests, rollouts, strict=True):
        before = list(request.context_ids)
        for turn in rollout.turns:
            ids = turn.response.token_ids
            expected = plain_logprobs(model, before, ids)
            np.testing.assert_allclose(turn.response.behaviour_logprobs, expected, atol=1e-5)
            written = "" if turn is rollout.turns[-1] else f"={turn.observation};"
            assert tokenizer.decode(turn.observation_ids) == written
            before += [*ids, *turn.observation_ids]
        assert rollout.token_ids == before[len(request.context_ids) :]
        num_written = sum(len(turn.response.token_ids) for turn in rollout.turns)
        assert len(rollout.response.token_ids) == num_written
        assert len(rollout.response.behaviour_logprobs) == num_written


def test_the_environment_is_told_every_action(rollouts: list[SampledRollout]) -> None:
    """Done again in another process, the same actions lead to the same steps."""
    problems, requests = planned()
    params = context().environment
    assert params is not None
    with EnvironmentPool(params, 1) as pool:
        expected = {}
        for place, rollout in enumerate(rollouts):
            actions = tuple(turn.action for turn in rollout.turns if turn.step is not None)
            seed = derive_seed(requests[place].seed, "environment")
            for count in range(1, len(actions) + 1):
                tag = 10 * place + count - 1
                pool.submit(0, tag, StepJob(problems[place], seed, actions[:count]))
                expected[tag] = rollout.turns[count - 1].step
        found = {}
        while pool.num_pending:
            found |= dict(pool.collect(wait=True))
    assert found == expected


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (3, 3), (24, 2)])
def test_rollouts_do_not_depend_on_batches_workers_and_who_answers_first(
    model: Any,
    tokenizer: Any,
    rollouts: list[SampledRollout],
    batch_size: int,
    num_workers: int,
) -> None:
    found = sampled(model, tokenizer, context(delay_s=0.05), batch_size, num_workers)
    assert [one.token_ids for one in found] == [one.token_ids for one in rollouts]
    assert [one.attempt for one in found] == [one.attempt for one in rollouts]
    for one, other in zip(found, rollouts, strict=True):
        assert [turn.step for turn in one.turns] == [turn.step for turn in other.turns]
        np.testing.assert_allclose(
            one.response.behaviour_logprobs, other.response.behaviour_logprobs, atol=1e-5
        )


@pytest.mark.parametrize("num_workers", [2, 3])
def test_who_answers_first_does_not_change_a_bit(
    model: Any, tokenizer: Any, rollouts: list[SampledRollout], num_workers: int
) -> None:
    """An engine adds up in another order when it is given other rows together."""
    found = sampled(model, tokenizer, context(delay_s=0.05), num_workers=num_workers)
    assert [one.response for one in found] == [one.response for one in rollouts]


def test_turns_of_one_rollout_have_random_numbers_of_their_own(model: Any, tokenizer: Any) -> None:
    """Of equal states in one rollout, not every draw is the same."""
    firsts = set()
    for rollout in sampled(model, tokenizer, context()):
        firsts |= {tuple(turn.response.token_ids[:1]) for turn in rollout.turns}
    assert len(firsts) > 3


def test_a_rollout_that_needs_more_turns_is_cut(model: Any, tokenizer: Any) -> None:
    found = sampled(model, tokenizer, context(max_turns=2))
    cut = [one for one in found if one.is_cut]
    assert cut
    for one in found:
        assert len(one.turns) <= 2
        last = one.turns[-1]
        if one.is_cut and last.step is not None:
            assert last.step.observation is not None
            assert last.observation is None
            assert not last.observation_ids
        assert one.response.finish_reason == ("length" if one.is_cut else "stop")


def test_a_turn_that_is_too_long_ends_its_rollout_undone(
    rollouts: list[SampledRollout],
) -> None:
    long = [one for one in rollouts if one.turns[-1].response.finish_reason == "length"]
    assert long
    for one in long:
        assert one.is_cut
        assert one.turns[-1].step is None
        assert one.verdict is None


def test_what_an_environment_cannot_answer_is_an_error_of_its_rollout_alone(
    model: Any, tokenizer: Any, rollouts: list[SampledRollout]
) -> None:
    actions = [turn.action for one in rollouts for turn in one.turns if turn.step is not None]
    rare = min("0123456789abcdefgh", key=lambda mark: sum(mark in one for one in actions) or 99)
    found = sampled(model, tokenizer, context(faulty=rare))
    broken = [one for one in found if one.error is not None]
    assert 0 < len(broken) < len(found)
    for one, other in zip(found, rollouts, strict=True):
        has_it = any(rare in turn.action for turn in other.turns if turn.step is not None)
        assert one.is_fault == has_it
        if has_it:
            assert one.turns == ()
            assert "no answer to" in str(one.error)
            assert one.response.finish_reason == "error"
        else:
            assert one.token_ids == other.token_ids


def test_an_environment_may_judge(model: Any, tokenizer: Any) -> None:
    found = sampled(model, tokenizer, context(own_verdict=True, max_turns=4))
    ended = [one for one in found if not one.is_cut]
    assert {one.verdict for one in ended} == {"correct", "wrong"}
    for one in ended:
        assert len(one.feedback) == len(one.turns)


def test_without_an_environment_a_rollout_is_the_engines_response(
    model: Any, tokenizer: Any
) -> None:
    engine = TransformersEngine(model, [END], 7)
    single = context().model_copy(update={"environment": None})
    problems, requests = planned()
    found = RolloutSampler(engine, tokenizer, single).sample(
        problems, requests, SETTINGS, no_progress
    )
    responses = engine.sample(requests, SETTINGS, no_progress)
    assert [one.response for one in found] == responses
    assert not any(one.has_steps for one in found)


def test_too_many_failures_are_no_matter_of_single_rollouts() -> None:
    fault = SampledRollout((), error="turn 1: gone", is_fault=True)
    with pytest.raises(EnvironmentFault, match=r"failed on 3 of 10 rollouts.*turn 1: gone"):
        require_rollouts([fault] * 3 + [_answered()] * 7)
    with pytest.raises(EngineError, match="failed on 3 of 10 requests"):
        require_rollouts([SampledRollout((), error="no answer")] * 3 + [_answered()] * 7)
    require_rollouts([fault] + [_answered()] * 9)


def _answered() -> SampledRollout:
    return SampledRollout.of_response(SampledResponse([5, END], [-1.0, -1.0], "stop"), "a")
