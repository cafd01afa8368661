"""Checks of a verifier: what it says of right, wrong and senseless responses to real problems."""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, get_args
from unittest import SkipTest

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.junk import JUNK, LONG, NO_ANSWERS
from distil_core.testing.well_formed import require_feedback, require_reward
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import (
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)
from distil_core.verifiers.pool import Journal, VerificationJob, verify_all

_NUM_PROBLEMS = 4
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


class _VerifierSubject(Subject[VerifierOptions, Verifier]):
    def __init__(
        self,
        component: str | ModuleType,
        options: Mapping[str, Any] | None,
        problems: Sequence[Problem],
        responses: Sequence[str],
    ):
        super().__init__(VERIFIERS, component, options)
        self.problems, self.responses = problems, responses
        self._verifications: dict[tuple[Problem, str], Verification] = {}

    @cached_property
    def verifier(self) -> Verifier:
        return self.build(reveal="nothing")

    def judged(self, problem: Problem, response: str) -> Verification:
        """Each pair is judged once: some take a process."""
        pair = (problem, response)
        if pair not in self._verifications:
            self._verifications[pair] = _judged(self.verifier, problem, response)
        return self._verifications[pair]

    def some_problems(self) -> Sequence[Problem]:
        if not self.problems:
            raise SkipTest("no problems to judge by: name a source of them (--source)")
        return self.problems[:_NUM_PROBLEMS]

    def texts(self, problem: Problem) -> list[str]:
        """What it is tried with: the reference, the responses given, and junk."""
        return [problem.reference, *self.responses, *NO_ANSWERS, *JUNK, LONG]


def verifier_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    responses: Sequence[str] = (),
) -> list[Check]:
    """The checks of a verifier, named as in settings, with these options.

    problems: some that it can judge responses to; without any, most checks cannot be run.
    responses: texts in the form that it reads, right or wrong, to be tried beside junk.
    """
    subject = _VerifierSubject(component, options, problems, responses)

    return [
        *contract_checks(subject),
        subject.check(
            "the isolation told by the options is the one it has",
            _isolation_is_told,
            "override the property runs_code_under of your Options, and set `isolation`",
        ),
        subject.check(
            "it takes the problems",
            _takes_problems,
            "let check_problem return for each problem that responses can be judged to",
        ),
        subject.check(
            "no response makes it raise, and each gets a verdict and a reward in [0, 1]",
            _judges_anything,
            "a response that cannot be read is 'malformed' with reward 0; VerifierError is for "
            "reasons that are not the response's",
        ),
        subject.check(
            "what answers nothing is not right",
            _refuses_no_answers,
            "read what the response says before comparing; 'nan' compares with nothing",
        ),
        subject.check(
            "the same response gets the same verdict, in any order and from another one built",
            _is_deterministic,
            "keep nothing between responses that changes a verdict; draw no random numbers",
        ),
        subject.check(
            "responses with one `answer` get one verdict",
            _equal_answers_equal_verdicts,
            "make Verification.answer of all that the verdict depends on",
        ),
        subject.check(
            "with reveal nothing, feedback does not hold the reference",
            _keeps_the_reference,
            "leave hidden answers out of feedback unless reveal is 'expected_outputs'",
        ),
        subject.check(
            "worker processes judge as this one does",
            _judges_in_workers,
            "make the module importable there, and verdicts independent of the process",
        ),
        subject.check(
            "it can be closed twice",
            _closes_twice,
            "release what is held only where it still is",
        ),
    ]


def check_verifier(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    responses: Sequence[str] = (),
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = verifier_checks(component, options, problems, responses)
    require_all_passed(f"verifier {component!s}", checks)


def _isolation_is_told(subject: _VerifierSubject) -> None:
    told, found = subject.options.runs_code_under, subject.verifier.isolation
    require(told == found, f"the options tell {told!r}, the verifier has {found!r}")
    bounded = subject.verifier.is_bounded
    require(isinstance(bounded, bool), f"is_bounded is {bounded!r}, expected True or False")


def _takes_problems(subject: _VerifierSubject) -> None:
    for problem in subject.some_problems():
        subject.verifier.check_problem(problem)


def _judges_anything(subject: _VerifierSubject) -> None:
    for problem in subject.some_problems():
        for text in subject.texts(problem):
            _require_well_formed(subject.judged(problem, text), text)


def _judged(verifier: Verifier, problem: Problem, response: str) -> Verification:
    try:
        found = verifier.verify(problem, response)
    except Exception as error:
        raise CheckFailedError(
            f"on the response {response[:60]!r} to {problem.prompt[:60]!r} it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    require(
        isinstance(found, Verification),
        f"on {response[:60]!r} it returned {type(found).__name__}, expected a Verification",
    )
    return found


def _require_well_formed(found: Verification, response: str) -> None:
    where = f"on the response {response[:60]!r}"
    require_reward(found.reward, where)
    require(found.verdict in get_args(Verdict), f"{where} the verdict is {found.verdict!r}")
    require(isinstance(found.feedback, tuple), f"{where} feedback is no tuple")
    require_feedback(found.feedback, where)
    answer = found.answer
    require(answer is None or isinstance(answer, str), f"{where} the answer is {answer!r}")


def _refuses_no_answers(subject: _VerifierSubject) -> None:
    for problem in subject.some_problems():
        for text in NO_ANSWERS:
            found = subject.judged(problem, text)
            require(
                text == problem.reference or (found.reward < 1 and found.verdict != "correct"),
                f"{text[:60]!r} is {found.verdict} with reward {found.reward} for "
                f"{problem.prompt[:60]!r}, whose reference is {problem.reference[:60]!r}",
            )


def _is_deterministic(subject: _VerifierSubject) -> None:
    pairs = [
        (problem, text) for problem in subject.some_problems() for text in subject.texts(problem)
    ]
    first = [subject.judged(*pair) for pair in pairs]
    with closing(subject.build(reveal="nothing")) as other:
        second = [_judged(other, *pair) for pair in reversed(pairs)][::-1]
    for (problem, text), one, two in zip(pairs, first, second, strict=True):
        require(
            one == two,
            f"on {text[:60]!r} to {problem.prompt[:60]!r} it said {one!r:.200}, and another time "
            f"{two!r:.200}",
        )


def _equal_answers_equal_verdicts(subject: _VerifierSubject) -> None:
    for problem in subject.some_problems():
        seen: dict[str, tuple[str, Verification]] = {}
        for text in subject.texts(problem):
            found = subject.judged(problem, text)
            if found.answer is None:
                continue
            before, other = seen.setdefault(found.answer, (text, found))
            same = (found.verdict, found.reward) == (other.verdict, other.reward)
            require(
                same,
                f"{before[:60]!r} and {text[:60]!r} both have the answer {found.answer[:60]!r}, "
                f"but are {other.verdict} ({other.reward}) and {found.verdict} ({found.reward})",
            )


def _keeps_the_reference(subject: _VerifierSubject) -> None:
    """A solution that a tool works out from the prompt is nobody's secret. So each prompt is tried
    with the reference of another problem too: what then comes with the reference is told of it."""
    problems = subject.some_problems()
    references = {problem.reference for problem in problems}
    if len(references) < 2:
        raise SkipTest("it takes two problems with different references to tell")
    num_judged = 0
    for problem in problems:
        for text in [*subject.responses, *NO_ANSWERS, *JUNK]:
            told = {
                other.reference: said
                for other in problems
                if (said := _said(subject.verifier, problem, other, text)) is not None
            }
            for reference, said in told.items():
                elsewhere = [texts for other, texts in told.items() if other != reference]
                if not elsewhere:
                    continue
                num_judged += 1
                for secret in _secrets(reference):
                    if _holds(problem.prompt, secret) or _holds(text, secret):
                        continue
                    leaks = _holds(said, secret) and not any(
                        _holds(texts, secret) for texts in elsewhere
                    )
                    require(
                        not leaks,
                        f"on the response {text[:60]!r}, feedback tells {secret[:60]!r} of the "
                        f"reference: {said[:200]!r}",
                    )
    if not num_judged:
        raise SkipTest("it judges by the prompt alone, so that there is no reference to keep")


def _said(verifier: Verifier, problem: Problem, other: Problem, response: str) -> str | None:
    """Feedback on a wrong response where the problem's reference is another's; None for a right
    one, and where the verifier refuses such a problem."""
    mixed = Problem(problem.prompt, other.reference, other.metadata)
    try:
        verifier.check_problem(mixed)
        found = verifier.verify(mixed, response)
    except VerifierError:
        return None
    if found.verdict == "correct":
        return None
    return "\n".join(item.text for item in found.feedback)


def _secrets(reference: str) -> list[str]:
    numbers = _NUMBER.findall(reference)
    return list(dict.fromkeys([reference.strip(), *numbers[-1:]]))


def _holds(text: str, secret: str) -> bool:
    """As words of their own: a digit inside of a longer number is not that digit."""
    return bool(secret) and bool(re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", text))


def _judges_in_workers(subject: _VerifierSubject) -> None:
    problems = subject.some_problems()
    jobs = [
        VerificationJob(problem, text)
        for problem in problems
        for text in [problem.reference, *subject.responses, *NO_ANSWERS]
    ]
    params = ConsultParams(
        verifier=Component(name=subject.name, options=subject.values), reveal="nothing"
    )
    with (
        TemporaryDirectory() as folder,
        closing(Journal(Path(folder) / "verdicts", "check")) as journal,
    ):
        verify_all(jobs, len(jobs), params, 2, journal, no_progress)
        for job in jobs:
            there = journal.find(job.key)
            here = subject.judged(job.problem, job.response)
            require(
                there == here,
                f"on {job.response[:60]!r} a worker said {there!r:.200}, this process "
                f"{here!r:.200}",
            )


def _closes_twice(subject: _VerifierSubject) -> None:
    verifier = subject.build(reveal="nothing")
    verifier.close()
    verifier.close()
