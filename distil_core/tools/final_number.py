"""Verifier of word problems with one number as answer, such as GSM8K's `#### 18`.

Its tool re-executes the arithmetic that the attempt writes down: every `48 / 2 = 24` is computed
again, and each one that does not hold is reported with what it really yields.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools.base import FeedbackItem, Verification, Verifier

# Digits are bounded: a longer run of them is no answer, and converting it would cost.
_NUMBER = r"-?\$?\d[\d,]{0,40}(?:\.\d{1,40})?(?!\d)"
_MARKED_ANSWER = re.compile(rf"####\s*({_NUMBER})")
_BOXED_ANSWER = re.compile(rf"\\boxed\{{\s*({_NUMBER})\s*\}}")
_OPERAND = r"\$?\d{1,40}(?:,\d{3}){0,9}(?:\.\d{1,40})?"
_OPERATOR = r"[ \t]*[+\-*/x\u00d7\u00f7][ \t]*"
# A whole expression and a whole right side: neither may continue a longer one ("1 1/2 * 3",
# "= 1/4"), else a part of a true equation would be called false.
_EQUATION = re.compile(
    rf"(?<![\w.,/)%$+\-*\u00d7\u00f7=])(?<![\d)+\-*/x\u00d7\u00f7=][ \t])"
    rf"(\(*{_OPERAND}(?:\)*{_OPERATOR}\(*{_OPERAND})+\)*)[ \t]*=[ \t]*"
    rf"(-?{_OPERAND})(?![\w%]|[.,]\d|[ \t]*[+\-*/x\u00d7\u00f7(]|[ \t]\d)"
)
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MAX_EQUATION_CHARACTERS = 200
_ROUNDING = Fraction(1, 100)


class Options(ComponentOptions):
    """None: the answer is the last `#### number` or `\\boxed{number}` of the response."""


def final_number(text: str) -> Fraction | None:
    """The number in the last `#### ..` or `\\boxed{..}`, or None."""
    marked = [*_MARKED_ANSWER.finditer(text), *_BOXED_ANSWER.finditer(text)]
    return _fraction(max(marked, key=lambda match: match.start())[1]) if marked else None


def wrong_equations(text: str) -> Iterator[str]:
    """The written equations that do not hold, each with the value it really has.

    A right side within half a cent of the value, as rounded money is, holds.
    """
    for match in _EQUATION.finditer(text):
        left, right = match[1].strip(), _fraction(match[2])
        value = _evaluate(left) if len(left) <= _MAX_EQUATION_CHARACTERS else None
        if value is not None and abs(value - right) > _ROUNDING / 2:
            yield f"{left} = {_plain(value)}, not {match[2]}"


class FinalNumberVerifier(Verifier):
    """Malformed: a response without a marked number. Reward 1 for the reference's number."""

    def __init__(self, reveal: str):
        self._reveal = reveal

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference itself holds no number."""
        expected = final_number(problem.reference)
        if expected is None:
            raise VerifierError(
                f"the reference of problem {problem.problem_id} holds no '#### number': "
                f"{problem.reference[-80:]!r}"
            )
        found = final_number(response)
        feedback = [FeedbackItem("tool_output", line) for line in wrong_equations(response)]
        if found is None:
            line = "The response ends without a line '#### number'."
            feedback.append(FeedbackItem("tool_output", line))
        elif found != expected:
            answer = f"The final answer {_plain(found)} is wrong"
            if self._reveal == "expected_outputs":
                answer += f"; it is {_plain(expected)}"
            feedback.append(FeedbackItem("tool_output", f"{answer}."))
        return Verification(
            reward=float(found == expected),
            verdict="malformed" if found is None else "correct" if found == expected else "wrong",
            feedback=tuple(feedback),
        )

    def canonical_answer(self, problem: Problem, response: str) -> str | None:
        """The final number; equal numbers are one answer however they were reached."""
        found = final_number(response)
        return None if found is None else str(found)


def _fraction(number: str) -> Fraction:
    return Fraction(number.replace("$", "").replace(",", ""))


def _plain(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


def _evaluate(expression: str) -> Fraction | None:
    """The value of plain arithmetic, exactly; None for what is none (text between numbers, a
    division by zero). Only the four operations are walked, so nothing of it can run."""
    python = re.sub(r"[$,\s]", "", expression).translate(str.maketrans("x\u00d7\u00f7", "**/"))
    try:
        return _value(ast.parse(python, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"not plain arithmetic: {ast.dump(node)[:60]}")


def build(options: Options, reveal: str) -> FinalNumberVerifier:
    """The verifier, by name from the registry."""
    return FinalNumberVerifier(reveal)
