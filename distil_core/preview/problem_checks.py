"""Does the verifier judge the problems as it should, and do their contexts fit?

Each reference is given as an answer, and must be right. Nothing is given as one, and so is another
problem's reference; both must be refused. The contexts are made as the stages would make them, the
expert's with the feedback on that wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.campaign.inputs import model_positions
from distil_core.config.models import Params
from distil_core.errors import DataError, VerifierError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.pretrained import model_folder, tokenizer_folder
from distil_core.policy.tokenizer import character_tokenizer, load_tokenizer
from distil_core.problems.base import Problem, ProblemSource
from distil_core.problems.messages import prompt_of
from distil_core.problems.splits import campaign_problems
from distil_core.progress import ProgressCallback
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verification
from distil_core.verifiers.pool import Journal, Outcome, VerificationJob, verify_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = "{reference}"
ANSWER_FORMS = (
    FIELD,
    "<answer>{reference}</answer>",
    "<reasoning>as known</reasoning><answer>{reference}</answer>",
    "\\boxed{{reference}}",
    "#### {reference}",
    "<tool_call>{reference}</tool_call>",
    "```python\n{reference}\n```",
)
"""How a reference is tried as an answer where nothing is said of it: the first in which one is
right."""
_NUM_TRIED = 8

READABLE = "the verifier can read the problem"
ACCEPTED = "the reference, given as an answer, is right"
EMPTY = "an empty answer is refused"
SHUFFLED = "another problem's answer is refused"
STUDENT = "the student's context fits"
EXPERT = "the expert's context fits, with feedback on a wrong answer"


@dataclass(frozen=True)
class Failure:
    """A problem that does not pass a check. where: its split and id."""

    where: str
    prompt: str
    given: str
    found: str


@dataclass
class CheckResult:
    """One check over all problems. num_skipped: of problems that it says nothing about."""

    name: str
    num_passed: int = 0
    num_skipped: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def num_failed(self) -> int:
        """How many problems do not pass."""
        return len(self.failures)


@dataclass(frozen=True)
class ProblemReport:
    """counts: problems of each split. answer_form: how a reference was given as an answer.
    longest: tokens of the longest context of student and expert. complaints: what concerns all
    problems."""

    counts: Mapping[str, int]
    answer_form: str
    checks: Sequence[CheckResult]
    longest: tuple[int, int]
    complaints: Sequence[str]

    @property
    def num_failed(self) -> int:
        """Of all checks, with the complaints."""
        return sum(check.num_failed for check in self.checks) + len(self.complaints)


def check_problems(
    params: Params,
    scratch_dir: Path,
    progress: ProgressCallback,
    limit: int | None = None,
    answer_form: str | None = None,
) -> ProblemReport:
    """limit: problems of each split that are checked; None for all. answer_form: how an answer is
    written, with {reference} in it; None to find out. Raises what the stage `problems` would
    raise where the source itself cannot be read."""
    with closing(build_verifier(params.consult)) as verifier:
        made = campaign_problems(params, verifier.check_problem)
        splits = {name: problems[:limit] for name, problems in made.splits.items() if problems}
        named = [(name, problem) for name, problems in splits.items() for problem in problems]
        readable = CheckResult(READABLE)
        good = []
        for name, problem in named:
            try:
                verifier.check_problem(problem)
            except VerifierError as error:
                _failed(readable, name, problem, problem.reference, str(error))
            else:
                readable.num_passed += 1
                good.append((name, problem))
    with Journal(scratch_dir / "problem-verdicts.sqlite", "check-problems") as journal:
        judge = _Judge(params, journal)
        form = answer_form or _find_form(judge, [problem for _, problem in good])
        judged = _judged(judge, good, form, progress)
        journal.remove()
    renderer = ContextRenderer(params.context, campaign_tokenizer(params, made.source))
    contexts, longest = _contexts(judged, renderer)
    return ProblemReport(
        {name: len(problems) for name, problems in splits.items()},
        form,
        [readable, *_answers(judged), *contexts],
        longest,
        list(too_few_positions(params, longest)),
    )


@dataclass(frozen=True)
class _Judged:
    """shuffled: another problem's answer, '' where all have the same. Outcomes: None where there
    was nothing to give."""

    split: str
    problem: Problem
    answer: str
    shuffled: str
    right: Outcome | None
    empty: Outcome | None
    wrong: Outcome | None


class _Judge:
    def __init__(self, params: Params, journal: Journal):
        self._params = params
        self._journal = journal

    def __call__(
        self, jobs: Sequence[VerificationJob], progress: ProgressCallback
    ) -> list[Outcome | None]:
        workers = self._params.verification.num_workers
        verify_all(iter(jobs), len(jobs), self._params.consult, workers, self._journal, progress)
        return [self._journal.find(job.key) for job in jobs]


def _find_form(judge: _Judge, problems: Sequence[Problem]) -> str:
    """The first form in which a reference is right; the plain one where none is."""
    some = [problem for problem in problems if problem.reference.strip()][:_NUM_TRIED]
    for form in ANSWER_FORMS:
        jobs = [VerificationJob(problem, _answer(problem, form)) for problem in some]
        if any(_is_right(outcome) for outcome in judge(jobs, lambda done, total: None)):
            return form
    return FIELD


def _answer(problem: Problem, form: str) -> str:
    # Not `format`: a reference or a form may hold braces of its own.
    return form.replace(FIELD, problem.reference) if problem.reference.strip() else ""


def _judged(
    judge: _Judge,
    named: Sequence[tuple[str, Problem]],
    form: str,
    progress: ProgressCallback,
) -> list[_Judged]:
    answers = [_answer(problem, form) for _, problem in named]
    shuffled = _shuffled(answers)
    jobs = [
        VerificationJob(problem, text)
        for (_, problem), answer, other in zip(named, answers, shuffled, strict=True)
        for text in (answer, "", other)
    ]
    outcomes = judge(jobs, progress)
    return [
        _Judged(
            split,
            problem,
            answers[place],
            shuffled[place],
            outcomes[3 * place] if answers[place] else None,
            outcomes[3 * place + 1],
            outcomes[3 * place + 2] if shuffled[place] else None,
        )
        for place, (split, problem) in enumerate(named)
    ]


def _shuffled(answers: Sequence[str]) -> list[str]:
    """For each answer the next one that is another, in a circle; '' where there is none."""
    found = [""] * len(answers)
    following, other = "", ""
    # Once around to know what follows the last ones.
    for place in [*reversed(range(len(answers)))] * 2:
        answer = answers[place]
        found[place] = following if following != answer else other
        if answer and answer != following:
            following, other = answer, following
    return found


def _answers(judged: Sequence[_Judged]) -> Iterator[CheckResult]:
    accepted, empty, shuffled = (CheckResult(name) for name in (ACCEPTED, EMPTY, SHUFFLED))
    for one in judged:
        if one.right is None:
            accepted.num_skipped += 1
        elif _is_right(one.right):
            accepted.num_passed += 1
        else:
            _failed(accepted, one.split, one.problem, one.answer, _described(one.right))
        if _is_refused(one.empty):
            empty.num_passed += 1
        else:
            _failed(empty, one.split, one.problem, "", _described(one.empty))
        if one.wrong is None or _says_the_same(one):
            shuffled.num_skipped += 1
        elif _is_refused(one.wrong):
            shuffled.num_passed += 1
        else:
            _failed(shuffled, one.split, one.problem, one.shuffled, _described(one.wrong))
    return iter((accepted, empty, shuffled))


def _is_right(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Verification) and outcome.verdict == "correct"


def _is_refused(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Verification) and outcome.verdict != "correct"


def _says_the_same(one: _Judged) -> bool:
    """Whether the two references are spellings of one answer, as the verifier reads them."""
    right, wrong = one.right, one.wrong
    return (
        isinstance(right, Verification)
        and isinstance(wrong, Verification)
        and right.answer is not None
        and right.answer == wrong.answer
    )


def _described(outcome: Outcome | None) -> str:
    if not isinstance(outcome, Verification):
        return f"no verdict: {outcome}"
    said = "; ".join(item.text for item in outcome.feedback)
    return f"{outcome.verdict}, reward {outcome.reward:g}{f': {said}' if said else ''}"


def _failed(check: CheckResult, split: str, problem: Problem, given: str, found: str) -> None:
    where = f"{split}, problem {problem.problem_id}"
    check.failures.append(Failure(where, problem.prompt, given, found))


def _contexts(
    judged: Sequence[_Judged], renderer: ContextRenderer
) -> tuple[list[CheckResult], tuple[int, int]]:
    student, expert = CheckResult(STUDENT), CheckResult(EXPERT)
    longest = [0, 0]
    for one in judged:
        name, prompt = one.problem.problem_id, prompt_of(one.problem)
        found = one.wrong if isinstance(one.wrong, Verification) else one.empty
        given = one.shuffled if found is one.wrong else ""
        if not isinstance(found, Verification):
            expert.num_skipped += 1
        for place, check in enumerate((student, expert)):
            try:
                if check is student:
                    context = renderer.student(prompt, name)
                elif isinstance(found, Verification):
                    context = renderer.expert(prompt, given, found.verdict, found.feedback, name)
                else:
                    continue
            except DataError as error:
                _failed(check, one.split, one.problem, "", str(error))
            else:
                check.num_passed += 1
                longest[place] = max(longest[place], len(context.token_ids))
    return [student, expert], (longest[0], longest[1])


def campaign_tokenizer(params: Params, source: ProblemSource) -> PreTrainedTokenizerBase:
    """The tokenizer that the base policy has or will have."""
    if params.base.kind == "pretrained":
        return load_tokenizer(tokenizer_folder(params.base))
    return character_tokenizer(source.alphabet())


def too_few_positions(params: Params, longest: tuple[int, int]) -> Iterator[str]:
    """What is longer than the model of a checkpoint knows positions. longest: contexts of student
    and expert, in tokens."""
    if params.base.kind != "pretrained":
        return
    positions = model_positions(model_folder(params.base))
    new_tokens = max(params.sample.max_new_tokens, params.evaluate.max_new_tokens)
    if positions is not None and max(longest) + new_tokens > positions:
        yield (
            f"the longest context has {max(longest)} tokens and a response up to {new_tokens} "
            f"(max_new_tokens), together more than the model's {positions} positions "
            "(max_position_embeddings): lower max_new_tokens, or shorten the contexts"
        )
