"""Verifier of mathematical answers: numbers, fractions, expressions, sets, in text or LaTeX.

math-verify decides whether two expressions are equal; it runs in a process of its own with hard
limits. The tool re-executes the arithmetic that the attempt writes down, as `final_number` does.
"""

import re
from fractions import Fraction

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools._final_answer import (
    MAX_ANSWER_CHARACTERS,
    AnswerForm,
    FinalAnswer,
    described,
    find_final_answer,
    quoted,
)
from distil_core.tools._math_process import MathProcess
from distil_core.tools._written_arithmetic import wrong_equations
from distil_core.tools.base import FeedbackItem, Verdict, Verification, Verifier

_PLAIN_NUMBER = re.compile(
    r"(-?)\$?((?:0|[1-9]\d{0,2}(?:,\d{3}){1,4}|[1-9]\d{0,14})(?:\.\d{1,6})?)"
)
_SCIENTIFIC = re.compile(r"([+-]?\d{1,40}(?:\.\d{0,40})?)[eE]([+-]?\d{1,4})")


class Options(ComponentOptions):
    """forms: in which the response may give its answer: `hash` (`#### 18`), `boxed`
    (`\\boxed{18}`), `answer_tag` (`<answer>18</answer>`), `plain` (the last line). check_steps:
    report written equations that do not hold. cpu_limit_s, memory_limit_mib: of reading or
    comparing one answer."""

    forms: tuple[AnswerForm, ...] = Field(default=("hash", "boxed"), min_length=1)
    check_steps: bool = True
    cpu_limit_s: float = Field(default=5.0, ge=0.1, le=600, allow_inf_nan=False)
    memory_limit_mib: int = Field(default=1024, ge=512, le=65536)


class MathAnswerVerifier(Verifier):
    """Malformed: no answer in one of the accepted forms, one of more than 1000 characters, one in
    which math-verify finds no expression, or one that cannot be read within the limits. Wrong: an
    expression that is not equal, or whose equality cannot be shown within the limits. Reward 1
    for an equal one."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        self._process = MathProcess(options.cpu_limit_s, options.memory_limit_mib << 20)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference cannot be read, or math-verify cannot run."""
        expected = _expected(problem)
        found = find_final_answer(response, self._options.forms)
        verdict, line = self._judge(problem, expected, found)
        feedback = [*wrong_equations(response)] if self._options.check_steps else []
        if line:
            revealed = f" The right answer is {expected}." if self._reveals else ""
            feedback.append(line + revealed)
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=tuple(FeedbackItem("tool_output", text) for text in feedback),
            answer=_normal_form(found.text) if found and verdict != "malformed" else None,
        )

    def close(self) -> None:
        """End the math-verify process."""
        self._process.close()

    def _judge(
        self, problem: Problem, expected: str, found: FinalAnswer | None
    ) -> tuple[Verdict, str]:
        if found is None:
            return "malformed", f"The response gives no answer as {described(self._options.forms)}."
        if len(found.text) > MAX_ANSWER_CHARACTERS:
            return "malformed", f"The answer has more than {MAX_ANSWER_CHARACTERS} characters."
        answer = quoted(found.text)
        if (equal := _equal_numbers(expected, found.text)) is not None:
            return ("correct", "") if equal else ("wrong", f"The final answer {answer} is wrong.")
        text = found.text if found.form == "plain" else _as_latex(found.text)
        try:
            comparison = self._process.compare(_as_latex(expected), text)
        except VerifierError as error:
            raise VerifierError(
                f"problem {problem.problem_id}, reference {problem.reference[-80:]!r}: {error}"
            ) from error
        limits = f"{self._options.cpu_limit_s:g} s and {self._options.memory_limit_mib} MiB"
        results: dict[str, tuple[Verdict, str]] = {
            "equal": ("correct", ""),
            "different": ("wrong", f"The final answer {answer} is wrong."),
            "unreadable_answer": (
                "malformed",
                f"The final answer {answer} is no number or expression.",
            ),
            "answer_too_costly": (
                "malformed",
                f"The final answer {answer} cannot be evaluated within {limits}.",
            ),
            "comparison_too_costly": (
                "wrong",
                f"The final answer {answer} cannot be shown to be right within {limits}.",
            ),
        }
        return results[comparison]


def _expected(problem: Problem) -> str:
    """The reference's marked answer, or the whole of a reference without marks."""
    found = find_final_answer(problem.reference, ("hash", "boxed", "answer_tag"))
    expected = found.text if found else problem.reference.strip()
    if not 0 < len(expected) <= MAX_ANSWER_CHARACTERS:
        raise VerifierError(
            f"the reference of problem {problem.problem_id} holds no answer as '#### ..', "
            f"\\boxed{{..}} or bare expression: {problem.reference[-80:]!r}"
        )
    return expected


def _equal_numbers(expected: str, answer: str) -> bool | None:
    """Whether two plain decimal numbers are equal, as math-verify says too; None for anything
    else. It saves the process nearly all of its work on data such as GSM8K."""
    one, other = _plain_number(expected), _plain_number(answer)
    return None if one is None or other is None else one == other


def _plain_number(text: str) -> Fraction | None:
    match = _PLAIN_NUMBER.fullmatch(text)
    return Fraction((match[1] + match[2]).replace(",", "")) if match else None


def _normal_form(answer: str) -> str:
    """Equal plain numbers in one form. Other expressions stay as they are but for blanks: to find
    all that are equal would take a comparison by math-verify of each with each."""
    number = _plain_number(answer)
    return " ".join(answer.split()) if number is None else str(number)


def _as_latex(text: str) -> str:
    """The text in the one form that math-verify reads as a whole. `3.0e8` is a number there only
    when it is written out."""
    if number := _SCIENTIFIC.fullmatch(text.strip()):
        text = f"{number[1]} \\times 10^{{{int(number[2])}}}"
    return f"\\boxed{{{text}}}"


def build(options: Options, reveal: str) -> MathAnswerVerifier:
    """reveal: with 'expected_outputs' the feedback on a failed answer ends with the right one."""
    return MathAnswerVerifier(options, reveal)
