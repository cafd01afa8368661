"""Verifier of mathematical answers: numbers, fractions, expressions, sets, in text or LaTeX.

A grammar decides what an answer consists of, and SymPy whether two expressions are equal, in its
own process with hard limits. The tool recomputes the arithmetic written in the attempt, as in
`final_number`.
"""

from fractions import Fraction
from typing import Any

from pydantic import Field, model_validator

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import (
    MAX_ANSWER_CHARACTERS,
    AnswerForm,
    FinalAnswer,
    described,
    find_final_answer,
    quoted,
    reference_answer,
)
from distil_core.verifiers._math_latex import MathTextError
from distil_core.verifiers._math_process import ComparisonSettings, MathProcess
from distil_core.verifiers._math_text import Node, plain_words, read_math
from distil_core.verifiers._number_text import (
    ClockText,
    NumberText,
    normal_form,
    same_clock,
    same_number,
)
from distil_core.verifiers._number_units import factor_between, is_percent
from distil_core.verifiers._plain_answer import read_plain_answer
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._stored_answer import stored_answer
from distil_core.verifiers._written_arithmetic import checked_equations
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

_LEAVES = ("number", "expression")


class Options(VerifierOptions):
    """The value of an answer, however it is spelt."""

    forms: tuple[AnswerForm, ...] = Field(default=("hash", "boxed"), min_length=1)
    """In which the response may give its answer: `hash` (`#### 18`), `boxed` (`\\boxed{18}`),
    `answer_tag` (`<answer>18</answer>`), `plain` (the last line)."""
    check_steps: bool = True
    """Report written equations that do not hold."""
    confirm_steps: bool = False
    """Report also those that hold (`48 / 2 = 24, as stated`)."""
    allow_unevaluated: bool = False
    """`37 * 43 + 11` may stand for 1602, and a sum or an integral for its value."""
    cpu_limit_s: float = Field(default=5.0, ge=0.1, le=600, allow_inf_nan=False)
    """CPU seconds of reading or comparing one answer."""
    memory_limit_mib: int = Field(default=1024, ge=512, le=65536)
    """Memory of reading or comparing one answer."""

    @model_validator(mode="after")
    def _confirms_what_is_checked(self) -> "Options":
        if self.confirm_steps and not self.check_steps:
            raise ValueError("confirm_steps: true needs check_steps: true")
        return self


class MathAnswerVerifier(Verifier):
    """Malformed: no answer in one of the accepted forms, one with more than 1000 characters, one
    that is no number or expression, or one that cannot be read within the limits. Wrong: an answer
    in doubt, an expression that is not equal or not evaluated, or whose equality cannot be shown
    within the limits. Reward 1 for an equal one, by the rule of docs/answers.md."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        self._process = MathProcess(options.cpu_limit_s, options.memory_limit_mib << 20)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference cannot be read, or its process cannot run."""
        stated, expected = _expected(problem)
        found = find_final_answer(without_reasoning(response), self._options.forms)
        verdict, line = self._judge(problem, expected, found)
        feedback = self._checked_steps(response)
        if line:
            revealed = f" The right answer is {stated}." if self._reveals else ""
            feedback.append(line + revealed)
        form = _normal_form(expected, found) if found and verdict != "malformed" else None
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=tuple(FeedbackItem("tool_output", text) for text in feedback),
            answer=stored_answer(form) if form is not None else None,
        )

    def _checked_steps(self, response: str) -> list[str]:
        if not self._options.check_steps:
            return []
        return [*checked_equations(response, confirm=self._options.confirm_steps)]

    def check_problem(self, problem: Problem) -> None:
        """Raises `VerifierError` when the reference cannot be read within the limits. The process
        is asked only about references that are more than a number."""
        expected = _expected(problem)[1]
        if expected["kind"] in ("number", "clock", "text"):
            return
        try:
            self._process.check(expected)
        except VerifierError as error:
            raise _with_problem(problem, error) from error

    def close(self) -> None:
        """End the process that compares."""
        self._process.close()

    def _judge(
        self, problem: Problem, expected: Node, found: FinalAnswer | None
    ) -> tuple[Verdict, str]:
        if found is None:
            return "malformed", f"The response gives no answer as {described(self._options.forms)}."
        if len(found.text) > MAX_ANSWER_CHARACTERS:
            return "malformed", f"The answer has more than {MAX_ANSWER_CHARACTERS} characters."
        name = f"The final answer {quoted(found.text)}"
        equal: bool | None
        if expected["kind"] == "text":
            equal = plain_words(found.text) == expected["text"]
        else:
            try:
                node = _read(found, with_clock=expected["kind"] == "clock")
            except MathTextError as error:
                if error.is_doubt:
                    return "wrong", f"{name} {error}."
                return "malformed", f"{name} is no number or expression."
            equal = _equal_without_process(expected, node)
            if equal is None:
                return self._compare(problem, expected, node, name)
        return ("correct", "") if equal else ("wrong", f"{name} is wrong.")

    def _compare(
        self, problem: Problem, expected: Node, node: Node, name: str
    ) -> tuple[Verdict, str]:
        factor = _factor(expected, node)
        settings = ComparisonSettings(self._options.allow_unevaluated, str(factor or 1))
        try:
            comparison = self._process.compare(expected, node, settings)
        except VerifierError as error:
            raise _with_problem(problem, error) from error
        if comparison == "equal" and factor is None:
            comparison = "different"
        limits = f"{self._options.cpu_limit_s:g} s and {self._options.memory_limit_mib} MiB"
        results: dict[str, tuple[Verdict, str]] = {
            "equal": ("correct", ""),
            "different": ("wrong", f"{name} is wrong."),
            "unreadable_answer": (
                "malformed",
                f"{name} is no number or expression.",
            ),
            "answer_too_costly": (
                "malformed",
                f"{name} cannot be evaluated within {limits}.",
            ),
            "comparison_too_costly": (
                "wrong",
                f"{name} cannot be shown to be right within {limits}.",
            ),
        }
        return results[comparison]


def _expected(problem: Problem) -> tuple[str, Node]:
    stated = reference_answer(problem.reference)
    try:
        return stated, read_math(stated)
    except MathTextError as error:
        raise VerifierError(
            f"the reference of problem {problem.problem_id} holds no answer as '#### ..', "
            f"\\boxed{{..}} or bare expression: {problem.reference[-80:]!r} {error}"
        ) from error


def _with_problem(problem: Problem, error: VerifierError) -> VerifierError:
    return VerifierError(
        f"problem {problem.problem_id}, reference {problem.reference[-80:]!r}: {error}"
    )


def _read(found: FinalAnswer, *, with_clock: bool) -> Node:
    """The answer's tree. Raises `MathTextError`, also for words: only a reference may be words."""
    read = read_plain_answer if found.form == "plain" else read_math
    node = read(found.text, with_clock=with_clock)
    if node["kind"] == "text":
        raise MathTextError("is a text and no expression")
    return node


def _equal_without_process(expected: Node, node: Node) -> bool | None:
    """Compare numbers and times of day; None for anything else. On data such as GSM8K this saves
    the process nearly all of its work."""
    kinds = (expected["kind"], node["kind"])
    if kinds == ("number", "number"):
        return same_number(_number(expected), _number(node))
    if kinds == ("clock", "clock"):
        return same_clock(_clock(expected), _clock(node))
    return False if "clock" in kinds else None


def _number(node: Node) -> NumberText:
    return NumberText(Fraction(node["value"]), tuple(node["unit"]), node["approximate"])


def _clock(node: Node) -> ClockText:
    return ClockText(node["seconds"], node["exact"])


def _factor(expected: Node, node: Node) -> Fraction | None:
    """The factor between the units of two single values; None where they measure different
    things."""
    units = [tuple(side["unit"]) for side in (expected, node) if side["kind"] in _LEAVES]
    if len(units) < 2 or any(map(is_percent, units)):
        return Fraction(1)
    return factor_between(units[1], units[0])


def _normal_form(expected: Node, found: FinalAnswer) -> str:
    """One form for equal numbers and times of day. Other expressions only lose their blanks:
    finding all equal ones would need comparing each with each."""
    try:
        node: dict[str, Any] = _read(found, with_clock=expected["kind"] == "clock")
    except MathTextError:
        return " ".join(found.text.split())
    if node["kind"] == expected["kind"] == "number":
        return normal_form(_number(expected), _number(node))
    if node["kind"] == expected["kind"] == "clock" and same_clock(_clock(expected), _clock(node)):
        return str(expected["seconds"])
    return " ".join(found.text.split())


def build(options: Options, reveal: str) -> MathAnswerVerifier:
    """reveal: with 'expected_outputs' the feedback on a failed answer ends with the right one."""
    return MathAnswerVerifier(options, reveal)
