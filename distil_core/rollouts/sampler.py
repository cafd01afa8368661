"""Sample rollouts: one response each, or turn after turn in an environment.

While the environments of one half of the rollouts work in processes of their own, the engine writes
the next turns of the other half. What comes of a rollout depends on its problem and seed alone; and
which rollouts the engine is given together does not depend on which tool answers first, since that
would show in the last bits of their log-probabilities.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TYPE_CHECKING

from distil_core.config.models import ContextParams
from distil_core.engines.base import (
    Engine,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    continuing,
)
from distil_core.environments.pool import EnvironmentPool, StepJob, StepOutcome
from distil_core.errors import EnvironmentFault
from distil_core.feedback.observations import ObservationWriter
from distil_core.feedback.transcript import transcript_of
from distil_core.policy.tokenizer import decode
from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback, no_progress
from distil_core.rollouts.sampled import SampledRollout, SampledTurn
from distil_core.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RolloutSampler:
    """Samples with one policy. num_workers: processes in which environments run.

    waited_s: for how long the engine had nothing to do, so far, because environments were at work.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        params: ContextParams,
        num_workers: int = 1,
    ):
        self._engine = engine
        self._tokenizer = tokenizer
        self._params = params
        self._environment = params.environment
        self._num_workers = num_workers
        self.waited_s = 0.0
        self._writer = None if self._environment is None else ObservationWriter(params, tokenizer)

    def sample(
        self,
        problems: Sequence[Problem],
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledRollout]:
        """One rollout for each request; problems and requests in one order. settings: of each turn.

        A rollout that the engine or its environment could not finish has an error; who calls
        decides how many of them are too many.
        """
        if self._environment is None or self._writer is None:
            responses = self._engine.sample(requests, settings, progress)
            return [
                SampledRollout.of_response(response, decode(self._tokenizer, response.token_ids))
                for response in responses
            ]
        live = [_Live(*pair) for pair in zip(problems, requests, strict=True)]
        with (
            EnvironmentPool(self._environment, self._num_workers) as pool,
            continuing(self._engine) as engine,
        ):
            rounds = _Rounds(live, pool, self._tokenizer, self._writer, self._environment.max_turns)
            rounds.run(engine, settings, progress)
        self.waited_s += rounds.waited_s
        return [self._rollout(one) for one in live]

    def _rollout(self, one: _Live) -> SampledRollout:
        if one.error is not None:
            return SampledRollout((), error=one.error, is_fault=one.is_fault)
        turns = tuple(one.turns)
        return SampledRollout(turns, transcript_of(turns, self._params), one.is_cut)


@dataclass
class _Live:
    """A rollout under way. token_ids: context and all tokens so far. waiting: the turn that its
    environment is answering."""

    problem: Problem
    request: SampleRequest
    token_ids: list[int] = field(init=False)
    turns: list[SampledTurn] = field(default_factory=list)
    waiting: SampledTurn | None = None
    has_ended: bool = False
    is_cut: bool = False
    error: str | None = None
    is_fault: bool = False

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.context_ids)

    def next_request(self) -> SampleRequest:
        """Of its next turn; the first has the rollout's own random numbers."""
        number = len(self.turns)
        seed = derive_seed(self.request.seed, "turn", number) if number else self.request.seed
        return SampleRequest(self.token_ids, seed)

    def job(self, action: str) -> StepJob:
        """For the environment, with all actions so far."""
        actions = tuple(turn.action for turn in self.turns)
        seed = derive_seed(self.request.seed, "environment")
        return StepJob(self.problem, seed, (*actions, action))

    def add(self, turn: SampledTurn) -> None:
        """A turn that has been answered, or was cut."""
        self.turns.append(turn)
        self.token_ids = [*self.token_ids, *turn.response.token_ids, *turn.observation_ids]

    def end(self, is_cut: bool = False, error: str | None = None, is_fault: bool = False) -> None:
        """It is over."""
        self.has_ended, self.is_cut = True, is_cut
        self.error, self.is_fault = error, is_fault


class _Rounds:
    """The turns of all rollouts, engine and environments at work beside each other: those of one
    half, which are neighbours as they often begin alike, while the other half is sampled."""

    def __init__(
        self,
        live: Sequence[_Live],
        pool: EnvironmentPool,
        tokenizer: PreTrainedTokenizerBase,
        writer: ObservationWriter,
        max_turns: int,
    ):
        self._live = live
        self._pool = pool
        self._tokenizer = tokenizer
        self._writer = writer
        self._max_turns = max_turns
        self.waited_s = 0.0
        middle = len(live) // 2
        self._halves = (range(middle), range(middle, len(live)))

    def run(self, engine: Engine, settings: SamplingSettings, progress: ProgressCallback) -> None:
        """Until every rollout has ended."""
        for half in cycle(self._halves):
            started = time.monotonic()
            while any(self._live[number].waiting for number in half):
                for number, outcome in self._pool.collect(wait=True):
                    self._take_outcome(number, outcome)
                progress(sum(one.has_ended for one in self._live), len(self._live))
            self.waited_s += time.monotonic() - started
            going = [number for number in half if not self._live[number].has_ended]
            requests = [self._live[number].next_request() for number in going]
            responses = engine.sample(requests, settings, no_progress)
            for number, response in zip(going, responses, strict=True):
                self._take_response(number, response)
            num_ended = sum(one.has_ended for one in self._live)
            progress(num_ended, len(self._live))
            if num_ended == len(self._live):
                break

    def _take_response(self, number: int, response: SampledResponse) -> None:
        one = self._live[number]
        if response.error is not None:
            one.end(error=response.error)
            return
        turn = SampledTurn(response, decode(self._tokenizer, response.token_ids))
        if response.finish_reason == "length":
            one.add(turn)
            one.end(is_cut=True)
        else:
            one.waiting = turn
            self._pool.submit(number, number, one.job(turn.action))

    def _take_outcome(self, number: int, outcome: StepOutcome) -> None:
        one = self._live[number]
        waiting, one.waiting = one.waiting, None
        assert waiting is not None, "only a turn is answered"
        if isinstance(outcome, EnvironmentFault):
            one.end(error=f"turn {len(one.turns)}: {outcome}", is_fault=True)
            return
        turn = replace(waiting, step=outcome)
        if outcome.observation is None or len(one.turns) + 1 == self._max_turns:
            one.add(turn)
            one.end(is_cut=outcome.observation is not None)
            return
        observation = self._writer.write(outcome.observation)
        one.add(replace(turn, observation=observation.text, observation_ids=observation.token_ids))
