"""Demonstrations and corrections for a pretrained base, made of the campaign's warm-start problems.

A correction is made as the expert's contexts are: an attempt, the verifier's verdict on it, and the
feedback of all sources that `consult` names. What is to be answered there is the right answer, so
that a model learns to find it in the feedback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distil_core.config.models import ConsultParams, WarmStartParams
from distil_core.errors import DataError, VerifierError
from distil_core.feedback.sources import gather
from distil_core.feedback.sources.base import Attempt, SourceSetting
from distil_core.problems.base import Problem, ProblemSource, SupervisedSource
from distil_core.problems.messages import prompt_of
from distil_core.seeds import generator
from distil_core.training.supervised_examples import ExampleMaker
from distil_core.training.warm_start import WarmStartExample
from distil_core.verifiers.base import Verification, Verifier

VerifyAll = Callable[[Sequence[tuple[Problem, str]]], Verifier]
"""Verifies responses to problems, and returns what looks the verdicts up."""

SampleAll = Callable[[Sequence[Problem]], list[str | None]]
"""An attempt of the base at each problem; None where there is no response."""


@dataclass(frozen=True)
class WarmStartTexts:
    """notes: one line for each thing that was left out."""

    demonstrations: list[WarmStartExample]
    corrections: list[WarmStartExample]
    notes: list[str]


@dataclass(frozen=True)
class _Answered:
    """A problem and its right answer."""

    problem: Problem
    answer: str


class ProblemTexts:
    """Makes examples of problems. seed: the campaign's. verify_all, sample_all: done at once for
    many, as they take long."""

    def __init__(
        self,
        source: ProblemSource,
        params: WarmStartParams,
        consult: ConsultParams,
        maker: ExampleMaker,
        seed: int,
        verify_all: VerifyAll,
        sample_all: SampleAll,
    ):
        self._source, self._params, self._seed = source, params, seed
        self._consult, self._maker = consult, maker
        self._verify_all, self._sample_all = verify_all, sample_all
        self._notes: list[str] = []

    def make(self, problems: Sequence[Problem], setting: SourceSetting) -> WarmStartTexts:
        """Examples of both kinds, those of which a phase asks for any. setting: for sources of
        feedback. Raises `DataError` where none are left of a kind that is asked for."""
        right = self._right_answers(problems)
        demonstrations, corrections = list[WarmStartExample](), list[WarmStartExample]()
        if self._params.has_demonstrations:
            demonstrations = [
                self._maker.demonstration(
                    prompt_of(one.problem), self._demonstration(one), one.problem.problem_id
                )
                for one in right
            ]
        if self._params.has_corrections:
            corrections = self._corrections(right[: self._params.num_corrections], setting)
        return WarmStartTexts(demonstrations, corrections, self._notes)

    def _demonstration(self, one: _Answered) -> str:
        if not isinstance(self._source, SupervisedSource):
            return one.answer
        random = generator(self._seed, "base", "demonstration", one.problem.problem_id)
        return self._source.demonstration(one.problem, random)

    def _right_answers(self, problems: Sequence[Problem]) -> list[_Answered]:
        """Those that the verifier finds correct: a model is not to learn a form that it does not
        read."""
        answered = [
            _Answered(
                problem,
                self._params.demonstration_template.format(
                    prompt=problem.prompt, reference=problem.reference
                ),
            )
            for problem in problems
        ]
        verifier = self._verify_all([(one.problem, one.answer) for one in answered])
        right, first = list[_Answered](), ""
        for one in answered:
            try:
                verdict: str = verifier.verify(one.problem, one.answer).verdict
            except VerifierError as error:
                verdict = f"error ({error})"
            if verdict == "correct":
                right.append(one)
            else:
                first = first or f"{one.answer!r:.120} is {verdict}"
        if not right:
            raise DataError(
                f"none of the {len(problems)} demonstrations of the warm start is correct by "
                f"consult.verifier; the first, {first}: correct "
                "base.warm_start.demonstration_template, which makes an answer of a reference"
            )
        if left_out := len(problems) - len(right):
            self._notes.append(
                f"{left_out} of {len(problems)} demonstrations are not correct by consult.verifier "
                f"and are left out; the first, {first}"
            )
        return right

    def _corrections(
        self, right: Sequence[_Answered], setting: SourceSetting
    ) -> list[WarmStartExample]:
        texts = self._attempts(right)
        tried = [(one, text) for one, text in zip(right, texts, strict=True) if text is not None]
        verifier = self._verify_all([(one.problem, text) for one, text in tried])
        attempts, answers = list[Attempt](), list[str]()
        for one, text in tried:
            try:
                found = verifier.verify(one.problem, text)
            except VerifierError:
                continue
            attempts.append(_attempt("attempt", one.problem, text, found))
            answers.append(one.answer)
        # What a source of peers' solutions may show: the right answers.
        peers = [_attempt("peer", one.problem, one.answer, None) for one in right]
        gathered = gather(self._consult.sources, [*attempts, *peers], attempts, setting)
        examples = [
            self._maker.correction(
                prompt_of(attempt.problem),
                attempt.response,
                attempt.verdict,
                items,
                answer,
                attempt.problem.problem_id,
            )
            for attempt, items, answer in zip(attempts, gathered.items, answers, strict=True)
            # Where there is no feedback the expert is not asked either.
            if self._maker.has_feedback(items)
        ]
        if not examples:
            raise DataError(
                f"none of the {len(right)} attempts of the warm start got feedback that "
                "context.expert_template shows, so there is nothing to learn to read: see "
                "`distil preview`"
            )
        if left_out := len(right) - len(examples):
            self._notes.append(
                f"{left_out} of {len(right)} attempts have no verdict or no feedback that "
                "context.expert_template shows, and become no corrections"
            )
        return examples

    def _attempts(self, right: Sequence[_Answered]) -> list[str | None]:
        problems = [one.problem for one in right]
        if self._params.attempts is not None:
            return self._sample_all(problems)
        if isinstance(self._source, SupervisedSource):
            return [
                self._source.corrupted_attempt(
                    problem, generator(self._seed, "base", "corruption", problem.problem_id)
                )
                for problem in problems
            ]
        return [self._of_another(problem, problems) for problem in problems]

    def _of_another(self, problem: Problem, problems: Sequence[Problem]) -> str | None:
        """The answer to another problem, in the form of this one's; None where there is none."""
        random = generator(self._seed, "base", "corruption", problem.problem_id)
        others = [one.reference for one in problems if one.reference != problem.reference]
        if not others:
            return None
        reference = others[int(random.integers(len(others)))]
        return self._params.demonstration_template.format(
            prompt=problem.prompt, reference=reference
        )


def _attempt(kind: str, problem: Problem, text: str, found: Verification | None) -> Attempt:
    """found: None for the right answer."""
    name = f"{kind}/{problem.problem_id}"
    if found is None:
        return Attempt(name, problem, text, "correct")
    return Attempt(name, problem, text, found.verdict, found.feedback)
