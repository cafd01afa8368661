"""The supervised texts of a warm start in an environment: demonstrations and corrections of several
turns.

The source acts, the environment answers. What the environment wrote is read between the turns and
has no label: nothing is learned from its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distil_core.config.models import ContextParams
from distil_core.environments import build_environment
from distil_core.environments.base import Environment, FeedbackItem, Step
from distil_core.errors import ConfigError
from distil_core.feedback.compose import render_expert, render_student
from distil_core.feedback.observations import ObservationWriter
from distil_core.feedback.transcript import transcript_of
from distil_core.feedback.wording import worded, worded_verdict
from distil_core.policy.tokenizer import encode_context, encode_text
from distil_core.problems.base import Problem, ProblemSource
from distil_core.problems.turns import SupervisedTurnSource, TurnSoFar, turns_so_far
from distil_core.seeds import derive_seed, generator
from distil_core.training.warm_start import NO_LABEL, WarmStartExample
from distil_core.verifiers.base import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Act = Callable[[Problem, Sequence[TurnSoFar], np.random.Generator], str]
"""What is done next in a problem, after these turns."""


def turn_source(source: ProblemSource, name: str) -> SupervisedTurnSource:
    """The source, which demonstrates turn by turn. Raises `ConfigError` for one that does not."""
    if isinstance(source, SupervisedTurnSource):
        return source
    raise ConfigError(
        f"base.kind from_scratch with a context.environment needs a problem source that "
        f"demonstrates turn by turn (distil_core/problems/turns.py); {name!r} does not: use "
        "base.kind pretrained, or leave context.environment out"
    )


class TurnExamples:
    """Makes examples in the environment that `context` names. verifier: judges last turns, where
    the environment does not."""

    def __init__(
        self,
        source: SupervisedTurnSource,
        verifier: Verifier,
        tokenizer: PreTrainedTokenizerBase,
        context: ContextParams,
        seed: int,
    ):
        assert context.environment is not None, "single responses have examples of their own"
        self._source = source
        self._verifier = verifier
        self._tokenizer = tokenizer
        self._end_id = int(tokenizer.eos_token_id)
        self._context = context
        self._params = context.environment
        self._seed = seed
        self._writer = ObservationWriter(context, tokenizer)

    def demonstrations(self, problems: Sequence[Problem]) -> list[WarmStartExample]:
        """Each problem in the student's context, followed by a demonstration's turns."""
        examples = []
        act = self._source.demonstrated_action
        with closing(build_environment(self._params)) as environment:
            for problem in problems:
                turns = self._turns(problem, environment, act, "demonstration")
                segments = render_student(self._context.student_template, problem.prompt)
                context_ids = encode_context(self._tokenizer, segments)
                labels = [self._ended(turn.action) for turn in turns]
                examples.append(self._example(context_ids, turns, labels))
        return examples

    def corrections(self, problems: Sequence[Problem]) -> list[WarmStartExample]:
        """Each problem in the expert's context, with a corrupted rollout and its feedback. The
        input follows the rollout; the labels are the oracle's at each state along its actions.
        Where the expert sees the past alone, each turn is an example, in a context of its own."""
        examples: list[WarmStartExample] = []
        act = self._source.corrupted_action
        with closing(build_environment(self._params)) as environment:
            for problem in problems:
                turns = self._turns(problem, environment, act, "corruption")
                examples += self._of_corruption(problem, turns)
        return examples

    def _turns(
        self, problem: Problem, environment: Environment, act: Act, purpose: str
    ) -> list[_Turn]:
        random = generator(self._seed, "base", purpose, problem.problem_id)
        seed = derive_seed(self._seed, "base", purpose, problem.problem_id, "environment")
        environment.start(problem, seed)
        turns: list[_Turn] = []
        while True:
            action = act(problem, turns_so_far(turns), random)
            step = environment.step(action)
            if step.observation is None or len(turns) + 1 == self._params.max_turns:
                return [*turns, _Turn(action, step)]
            written = self._writer.write(step.observation)
            turns.append(_Turn(action, step, written.text, tuple(written.token_ids)))

    def _of_corruption(
        self, problem: Problem, turns: Sequence[_Turn]
    ) -> Iterator[WarmStartExample]:
        labels = [self._oracle(problem, turns[:number]) for number in range(1, len(turns) + 1)]
        verdict, feedback = self._judged(problem, turns)
        if self._params.expert_sees == "past":
            for number in range(1, len(turns)):
                so_far = turns[:number]
                context_ids = self._expert(problem, so_far, "", _feedback(so_far))
                silent = [[NO_LABEL] * len(one) for one in labels[: number - 1]]
                yield self._example(context_ids, so_far, [*silent, labels[number - 1]])
            labels = [*([NO_LABEL] * len(one) for one in labels[:-1]), labels[-1]]
        yield self._example(self._expert(problem, turns, verdict, feedback), turns, labels)

    def _judged(
        self, problem: Problem, turns: Sequence[_Turn]
    ) -> tuple[str, tuple[FeedbackItem, ...]]:
        """As the stage `consult` judges a rollout."""
        last, feedback = turns[-1], _feedback(turns)
        if last.step.is_done and last.step.verdict is not None:
            return last.step.verdict, feedback
        verification = self._verifier.verify(problem, last.action)
        verdict = verification.verdict if last.step.is_done else "truncated"
        return verdict, (*feedback, *verification.feedback)

    def _oracle(self, problem: Problem, turns: Sequence[_Turn]) -> list[int]:
        """The labels of the last of these turns."""
        *earlier, last = turns
        before = turns_so_far(earlier)
        characters = self._source.oracle_action_characters(problem, before, last.action)
        labels = encode_text(self._tokenizer, characters)
        return labels + [self._end_id] * (len(self._ended(last.action)) - len(labels))

    def _expert(
        self,
        problem: Problem,
        turns: Sequence[_Turn],
        verdict: str,
        feedback: Sequence[FeedbackItem],
    ) -> list[int]:
        segments = render_expert(
            self._context.expert_template,
            problem.prompt,
            transcript_of(turns, self._context),
            worded_verdict(verdict, self._context.wording),
            worded(feedback, self._context.wording),
        )
        return encode_context(self._tokenizer, segments)

    def _ended(self, action: str) -> list[int]:
        return [*encode_text(self._tokenizer, action), self._end_id]

    def _example(
        self, context_ids: list[int], turns: Sequence[_Turn], labels: Sequence[Sequence[int]]
    ) -> WarmStartExample:
        """labels: of each turn's action."""
        input_ids: list[int] = []
        label_ids: list[int] = []
        for turn, of_turn in zip(turns, labels, strict=True):
            # What was answered to the last of them is not read here.
            observation_ids = () if turn is turns[-1] else turn.observation_ids
            input_ids += [*self._ended(turn.action), *observation_ids]
            label_ids += [*of_turn, *[NO_LABEL] * len(observation_ids)]
        return WarmStartExample(context_ids, input_ids, label_ids)


@dataclass(frozen=True)
class _Turn:
    """observation, observation_ids: as the policy reads them before its next turn."""

    action: str
    step: Step
    observation: str | None = None
    observation_ids: tuple[int, ...] = ()


def _feedback(turns: Sequence[_Turn]) -> tuple[FeedbackItem, ...]:
    return tuple(item for turn in turns for item in turn.step.feedback)
