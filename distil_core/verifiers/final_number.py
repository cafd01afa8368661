"""Verifier of word problems whose answer is one number, such as GSM8K's `#### 18`.

Its tool recomputes the arithmetic written in the attempt: every `48 / 2 = 24` is computed again,
and each equation that does not hold is reported with the real value.
"""

from unicodedata import category

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import (
    MAX_ANSWER_CHARACTERS,
    find_final_answer,
    quoted,
    reference_answer,
)
from distil_core.verifiers._number_text import (
    ClockText,
    NumberText,
    normal_form,
    read_clock,
    read_number,
    same_clock,
    same_number,
)
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._written_arithmetic import checked_equations, plain
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)


class Options(VerifierOptions):
    """The answer is the last `#### number` or `\\boxed{number}` of the response."""

    confirm_steps: bool = False
    """Whether the tool also reports equations that hold (`48 / 2 = 24, as stated`), so that an
    expert has something to read of a right attempt too."""


class FinalNumberVerifier(Verifier):
    """Malformed: a response without a marked answer, or whose marked answer has no digit. Wrong:
    another number, and an answer that is not one number. Reward 1 for the reference's number, by
    the rule of docs/answers.md. A time of day (`10:30 a.m.`) is read as well."""

    def __init__(self, options: Options, reveal: str):
        self._confirm_steps = options.confirm_steps
        self._reveal = reveal

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference itself holds no number."""
        stated, expected = _expected(problem)
        marked = find_final_answer(without_reasoning(response), ("hash", "boxed"))
        verdict, line, form = _judged(expected, marked.text if marked else "")
        equations = checked_equations(response, confirm=self._confirm_steps)
        feedback = [FeedbackItem("tool_output", found) for found in equations]
        if verdict == "wrong" and self._reveal == "expected_outputs":
            value = plain(expected.value) if isinstance(expected, NumberText) else stated
            line += f"; it is {value}"
        if line:
            feedback.append(FeedbackItem("tool_output", f"{line}."))
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=tuple(feedback),
            answer=form,
        )

    def check_problem(self, problem: Problem) -> None:
        """Raises `VerifierError` when the reference holds no number."""
        _expected(problem)


def _expected(problem: Problem) -> tuple[str, NumberText | ClockText]:
    stated = reference_answer(problem.reference)
    expected = read_number(stated) or read_clock(stated)
    if expected is None:
        raise VerifierError(
            f"the reference of problem {problem.problem_id} holds no '#### number': "
            f"{problem.reference[-80:]!r}"
        )
    return stated, expected


def _judged(expected: NumberText | ClockText, text: str) -> tuple[Verdict, str, str | None]:
    """The verdict, the line of feedback, and the form for majority votes."""
    # This includes `½`, which is not a decimal digit.
    if not any(category(character).startswith("N") for character in text):
        return "malformed", "The response ends without a line '#### number'", None
    if len(text) > MAX_ANSWER_CHARACTERS:
        return "malformed", f"The answer has more than {MAX_ANSWER_CHARACTERS} characters", None
    wrong = f"The final answer {quoted(text)} is wrong"
    if isinstance(expected, ClockText):
        clock = read_clock(text)
        is_right = clock is not None and same_clock(expected, clock)
        return ("correct", "", str(expected)) if is_right else ("wrong", wrong, quoted(text))
    number = read_number(text)
    if number is None:
        return "wrong", f"The final answer {quoted(text)} is no single number", quoted(text)
    form = normal_form(expected, number)
    if same_number(expected, number):
        return "correct", "", form
    if number.value != expected.value:
        wrong = f"The final answer {plain(number.value)} is wrong"
    return "wrong", wrong, form


def build(options: Options, reveal: str) -> FinalNumberVerifier:
    """The verifier, by name from the registry."""
    return FinalNumberVerifier(options, reveal)
