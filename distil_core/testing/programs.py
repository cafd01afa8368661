"""Checks of a program: what it says at the states of right, wrong and senseless responses."""

import inspect
import pickle
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

from distil_core.config.models import Component
from distil_core.errors import DistilError
from distil_core.experts._program_questions import Failure, ProgramPool, Question, ask
from distil_core.experts.programs import PROGRAMS
from distil_core.experts.programs.base import Program, ProgramOptions
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.feedback.sources import known_kinds
from distil_core.problems.base import Problem
from distil_core.problems.turns import TurnSoFar
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.junk import JUNK

_ANY_PROBLEM = Problem(prompt="12+30=", reference="42")
_LIMIT_S = 60.0


class _ProgramSubject(Subject[ProgramOptions, Program]):
    problems: Sequence[Problem] = (_ANY_PROBLEM,)
    responses: Sequence[str] = ()

    @cached_property
    def program(self) -> Program:
        return self.build()

    def questions(self) -> list[Question]:
        """States of responses that are right, cut and wrong, with feedback. Where it follows
        turns, in a first one, and after two."""
        found = []
        for problem in self.problems[:4]:
            reference, wrong = problem.reference, problem.prompt[::-1]
            for response in (reference, wrong, f"{reference[:1]}{wrong}", *self.responses):
                states = {response[: len(response) * part // 4] for part in range(5)}
                found += [
                    self.question(problem, state, response, turns)
                    for state in sorted(states)
                    for turns in self.histories(wrong, reference)
                ]
        return list({question.key: question for question in found}.values())

    def histories(self, *actions: str) -> list[tuple[TurnSoFar, ...]]:
        """Turns before the one that is asked about: none, and where it follows turns, these."""
        after = tuple(TurnSoFar(action, "feedback") for action in actions)
        return [(), after] if self.options.follows_turns else [()]

    def question(
        self, problem: Problem, so_far: str, attempt: str, turns: tuple[TurnSoFar, ...] = ()
    ) -> Question:
        """With all fields that there are as feedback."""
        values = _values(problem, attempt)
        return Question(problem, so_far, values, turns if self.options.follows_turns else None)


def _values(problem: Problem, attempt: str) -> dict[str, str]:
    values = dict.fromkeys(ATTEMPT_FIELDS | known_kinds(), "feedback")
    return values | {"prompt": problem.prompt, "attempt": attempt, "verdict": "wrong"}


def program_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    responses: Sequence[str] = (),
) -> list[Check]:
    """The checks of a program, named as in settings, with these options.

    problems: what it is asked about; an addition where none are given. responses: of a student, at
    whose states it is asked too.
    """
    subject = _ProgramSubject(PROGRAMS, component, options)
    subject.problems = problems or subject.problems
    subject.responses = responses

    return [
        *contract_checks(subject),
        subject.check(
            "its options say whether it takes the turns of a rollout",
            _agrees_about_turns,
            "let its Options have the property follows_turns, which is true, if and only if it has "
            "the keyword `turns`, by default ()",
        ),
        subject.check(
            "at each state it says a text, several, or None",
            _replies,
            "return the rest of the response as text, a list of texts or of (text, weight), or "
            "None where it has nothing to say; give it problems that it knows (--source)",
        ),
        subject.check(
            "it goes on with the response so far, and does not repeat it",
            _goes_on,
            "leave out what `response_so_far` has already",
        ),
        subject.check(
            "the same question has the same answer",
            _is_deterministic,
            "keep nothing between questions; derive random numbers from what is asked",
        ),
        subject.check(
            "it can be asked about any text, without feedback",
            _takes_anything,
            "return None at states that it cannot read",
        ),
        subject.check(
            "it answers in a process of its own",
            _answers_elsewhere,
            "let build depend on the options alone, and its module on nothing that only this "
            "program has set up",
        ),
    ]


def check_program(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    responses: Sequence[str] = (),
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = program_checks(component, options, problems, responses)
    require_all_passed(f"program {component!s}", checks)


def _agrees_about_turns(subject: _ProgramSubject) -> None:
    parameters = inspect.signature(subject.program).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if subject.options.follows_turns:
        takes = takes_any or "turns" in parameters
        require(takes, "its options say that it follows turns, but it does not take them")
    else:
        require("turns" not in parameters, "it takes turns, but its options do not say so")


def _replies(subject: _ProgramSubject) -> None:
    num_texts = 0
    for question in subject.questions():
        outcome = ask(subject.program, question)
        if isinstance(outcome, Failure):
            raise CheckFailedError(f"after {question.response_so_far!r:.80}: {outcome.message}")
        num_texts += len(outcome)
    require(num_texts > 0, "it said nothing at any state")


def _goes_on(subject: _ProgramSubject) -> None:
    """At half of a text of its own it may not begin again."""
    for problem in subject.problems[:4]:
        outcome = ask(subject.program, subject.question(problem, "", problem.prompt))
        for text in () if isinstance(outcome, Failure) else outcome[:1]:
            half = text.text[: len(text.text) // 2]
            then = ask(subject.program, subject.question(problem, half, problem.prompt))
            repeated = not isinstance(then, Failure) and any(
                half and each.text == text.text for each in then
            )
            require(not repeated, f"after {half!r:.80} it said {text.text!r:.80}, from the start")


def _is_deterministic(subject: _ProgramSubject) -> None:
    questions = subject.questions()
    first = [ask(subject.program, question) for question in questions]
    other = subject.build()
    again = [ask(other, question) for question in reversed(questions)][::-1]
    for question, one, two in zip(questions, first, again, strict=True):
        require(one == two, f"after {question.response_so_far!r:.80} it said {one} and then {two}")


def _takes_anything(subject: _ProgramSubject) -> None:
    for problem in subject.problems[:1]:
        for text in (each.encode(errors="replace").decode() for each in JUNK):
            for turns in subject.histories(text):
                given = turns if subject.options.follows_turns else None
                asked = Question(problem, text, {"prompt": problem.prompt}, given)
                outcome = ask(subject.program, asked)
                if isinstance(outcome, Failure):
                    raise CheckFailedError(f"after {text!r:.80}: {outcome.message}")


def _answers_elsewhere(subject: _ProgramSubject) -> None:
    questions = subject.questions()
    here = {question.key: ask(subject.program, question) for question in questions}
    component = Component(name=subject.name, options=subject.values)
    there: dict[bytes, object] = {}
    pool = ProgramPool(component, _LIMIT_S, 1, len(questions))
    try:
        for question in questions:
            pool.submit(pickle.loads(pickle.dumps(question)))
        while len(there) < len(questions):
            there.update((question.key, outcome) for question, outcome in pool.collect())
        pool.close()
    except DistilError as error:
        raise CheckFailedError(str(error)) from error
    finally:
        pool.kill()
    require(there == here, "it answers something else there")
