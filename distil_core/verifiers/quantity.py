"""Verifier of numbers with a unit: compared as quantities, within a tolerance."""

import math
from collections.abc import Iterable

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import (
    AnswerForm,
    FinalAnswer,
    described,
    find_final_answer,
    quoted,
    reference_answer,
)
from distil_core.verifiers._measured import Measured, factors_to, is_ratio, measured, written
from distil_core.verifiers._quantity_text import (
    QuantityError,
    QuantityText,
    quantities_at_end,
    read_quantity,
)
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

# The error that rounding a constant or a step causes: at least this, or 20 times the tolerance.
_ROUNDING = 0.05
# The relative error of conversions to base units.
_PRECISION = 1e-9


class Options(VerifierOptions):
    """A number with a unit."""

    forms: tuple[AnswerForm, ...] = Field(default=("boxed", "answer_tag", "hash"), min_length=1)
    """In which the response may give its answer (`plain`: the last line ends with it)."""
    relative_tolerance: float = Field(default=0.01, ge=0, lt=1, allow_inf_nan=False)
    """Share of the reference's value by which an answer may differ."""
    absolute_tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """In the reference's unit; the larger of the two counts."""


class _ContradictionError(QuantityError):
    """The text was read, and contradicts itself."""


class QuantityVerifier(Verifier):
    """Malformed: no answer in one of the accepted forms, one that is not a number with at most one
    unit after it (also an exponent beyond 300, or a power of a unit beyond 12), an unknown unit, or
    NO UNIT where the reference has one that is more than a ratio, as the number alone then says
    nothing. Wrong: another kind of quantity, a unit where the reference has none, a value outside
    the tolerance, or two different values that are stated to be equal. Reward 1 for a value within
    the tolerance, in any unit of the same kind. What a response thinks before it answers is
    ignored."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference is no quantity."""
        stated, expected = _expected(problem)
        answer = find_final_answer(without_reasoning(response), self._options.forms)
        found: Measured | None = None
        verdict: Verdict
        if answer is None:
            verdict = "malformed"
            line = f"The response gives no answer as {described(self._options.forms)}."
        else:
            name = f"The answer {quoted(answer.text)}"
            try:
                verdict, line, found = self._best(name, self._found(answer), expected)
            except QuantityError as error:
                is_read = isinstance(error, _ContradictionError)
                verdict, line = "wrong" if is_read else "malformed", f"{name} {error}."
        if line and self._reveals:
            line += f" The right answer is {stated}."
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", line),) if line else (),
            answer=None if verdict == "malformed" or found is None else found.normal_form(),
        )

    def check_problem(self, problem: Problem) -> None:
        _expected(problem)

    def _found(self, answer: FinalAnswer) -> list[Measured]:
        if answer.form != "plain":
            return _all_measured(read_quantity(answer.text))
        unknown: QuantityError | None = None
        for readings in quantities_at_end(answer.text):
            try:
                return _all_measured(readings)
            except _ContradictionError:
                raise
            except QuantityError as error:
                unknown = unknown or error
        raise unknown or QuantityError("is no number with a unit")

    def _best(
        self, name: str, found: list[Measured], expected: list[Measured]
    ) -> tuple[Verdict, str, Measured]:
        """Of an answer's readings (`J/mol K`) the one that is right, or else the likeliest."""
        for one in found:
            for other in expected:
                verdict, line = self._judge(name, one, other)
                if verdict == "correct":
                    return verdict, line, one
        return *self._judge(name, found[0], expected[0]), found[0]

    def _judge(self, name: str, found: Measured, expected: Measured) -> tuple[Verdict, str]:
        if expected.units and not found.units and not is_ratio(expected):
            return "malformed", f"{name} has no unit, and one is needed."
        factors = factors_to(expected, found)
        if not factors and not expected.units:
            return "wrong", f"{name} has a unit, but the quantity asked for has none."
        if not factors:
            unit = written(found.units)
            return "wrong", f"{name} is in {unit}, a unit of another kind of quantity."
        relative = self._options.relative_tolerance
        target = expected.in_its_unit(expected.value)
        values = [expected.in_its_unit(found.value * factor) for factor in factors]
        # A scale with an offset also loses precision of the larger value it is converted through.
        lost = _PRECISION * max(abs(target), abs(expected.meaning.offset))
        tolerance = max(relative * abs(target), self._options.absolute_tolerance, lost)
        value = min(values, key=lambda one: abs(one - target))
        if not math.isfinite(value):
            return "malformed", f"{name} cannot be calculated with."
        if abs(value - target) <= tolerance:
            return "correct", ""
        return "wrong", f"{name} is wrong{_kind_of_error(value, target, relative)}."


def _expected(problem: Problem) -> tuple[str, list[Measured]]:
    """The reference as stated, and its possible readings."""
    stated = reference_answer(problem.reference)
    try:
        return stated, _all_measured(read_quantity(stated))
    except QuantityError as error:
        raise VerifierError(
            f"the reference of problem {problem.problem_id} {error}: {problem.reference[:80]!r}"
        ) from error


def _all_measured(readings: Iterable[QuantityText]) -> list[Measured]:
    """The readings with known units, at least one. Raises `QuantityError`."""
    found: list[Measured] = []
    unknown: QuantityError | None = None
    for text in readings:
        try:
            one = measured(text)
            _require_equal(one, text.before)
        except QuantityError as error:
            unknown = unknown or error
        else:
            found.append(one)
    if not found:
        raise unknown or QuantityError("is no number with a unit")
    return found


def _require_equal(found: Measured, before: Iterable[QuantityText]) -> None:
    """Refuse contradictions: `5000 m = 5 km` is one quantity, `7 m = 5 m` is none."""
    for text in before:
        other = measured(text if text.units else QuantityText(text.number, found.units))
        scale = max(abs(found.value), abs(other.value))
        if not factors_to(found, other) or abs(found.value - other.value) > _ROUNDING * scale:
            raise _ContradictionError("says that different quantities are equal")


def _kind_of_error(value: float, target: float, relative: float) -> str:
    """What went wrong, as far as the two values show it, without naming the expected value."""
    if value == 0 or target == 0:
        return ""
    ratio = abs(value / target)
    if not 0 < ratio < math.inf:
        return ""
    near = max(relative, 1e-6)
    if value * target < 0 and abs(ratio - 1) <= near:
        return " in its sign only"
    if abs(ratio - 1) <= max(_ROUNDING, 20 * relative if relative < _ROUNDING else 0):
        return ", but close: rounding, or a constant that is not exact enough"
    magnitude = round(math.log10(ratio))
    if magnitude and abs(ratio / 10.0**magnitude - 1) <= near:
        return " by a power of ten: check prefixes and exponents"
    return ""


def build(options: Options, reveal: str) -> QuantityVerifier:
    """reveal: with 'expected_outputs' the feedback on a failed answer ends with the right one."""
    return QuantityVerifier(options, reveal)
