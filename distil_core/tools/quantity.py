"""Verifier of numbers with a unit: compared as quantities, within a tolerance, by pint."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools._final_answer import (
    AnswerForm,
    FinalAnswer,
    described,
    find_final_answer,
    quoted,
)
from distil_core.tools._quantity_text import (
    QuantityError,
    QuantityText,
    quantities_at_end,
    read_quantity,
)
from distil_core.tools.base import FeedbackItem, Verdict, Verification, Verifier

if TYPE_CHECKING:
    import pint

# Names that students and data sets write and pint does not know, or knows as something else.
_ALIASES = {
    "°": "degree", "°C": "degC", "°F": "degF", "°K": "kelvin", "%": "percent", "sec": "second",
    "secs": "second", "yrs": "year", "yr": "year", "hrs": "hour", "hr": "hour", "amp": "ampere",
    "amps": "ampere", "cc": "centimeter ** 3", "\u2032": "arcminute", "\u2033": "arcsecond",
    "atom": "count", "atoms": "count", "molecule": "count", "molecules": "count",
    "particle": "count", "particles": "count", "photon": "count", "photons": "count",
    "electron": "count", "electrons": "count", "ion": "count", "ions": "count",
    "w": "watt", "Nm": "newton * meter", "kWh": "kilowatt * hour",
}  # fmt: skip
_DIFFERENCES = {
    "degree_Celsius": "delta_degree_Celsius", "degree_Fahrenheit": "delta_degree_Fahrenheit",
}  # fmt: skip
# Twenty times the tolerance, and at least this: what a rounded constant or step does.
_ROUNDING = 0.05


class Options(ComponentOptions):
    """forms: in which the response may give its answer (`plain`: the last line ends with it).
    relative_tolerance: of the reference's value. absolute_tolerance: in the reference's unit; the
    larger of the two counts."""

    forms: tuple[AnswerForm, ...] = Field(default=("boxed", "answer_tag", "hash"), min_length=1)
    relative_tolerance: float = Field(default=0.01, ge=0, lt=1, allow_inf_nan=False)
    absolute_tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class QuantityVerifier(Verifier):
    """Malformed: no answer in one of the accepted forms, one that is no number with at most a unit
    after it (also an exponent beyond 300 or a power of a unit beyond 12), an unknown unit, or NO
    UNIT where the reference has one: the number alone says nothing. Wrong: another dimension, a
    unit where the reference has none, or a value outside the tolerance. Reward 1 for a value
    within it, in whatever unit of the same dimension."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        self._registry: pint.UnitRegistry[Any] | None = None

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference is no quantity."""
        reference = find_final_answer(problem.reference, ("hash", "boxed", "answer_tag"))
        stated = reference.text if reference else problem.reference.strip()
        try:
            text = read_quantity(stated)
            expected = self._quantity(text)
        except QuantityError as error:
            raise VerifierError(
                f"the reference of problem {problem.problem_id} {error}: {problem.reference[:80]!r}"
            ) from error
        verdict, line = self._judge(text, expected, response)
        if line and self._reveals:
            line += f" The right answer is {stated}."
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", line),) if line else (),
            answer=None if verdict == "malformed" else self._normal_form(response),
        )

    def _judge(
        self, reference: QuantityText, expected: "pint.Quantity[float]", response: str
    ) -> tuple[Verdict, str]:
        answer = find_final_answer(response, self._options.forms)
        if answer is None:
            return "malformed", f"The response gives no answer as {described(self._options.forms)}."
        name = f"The answer {quoted(answer.text)}"
        try:
            text, found = self._found(answer)
        except QuantityError as error:
            return "malformed", f"{name} {error}."
        if reference.units and not text.units:
            return "malformed", f"{name} has no unit, and one is needed."
        if text.units and not reference.units and not found.dimensionless:
            return "wrong", f"{name} has a unit, but the quantity asked for has none."
        if found.dimensionality != expected.dimensionality:
            return "wrong", f"{name} is in {found.units:~P}, a unit of another kind of quantity."
        return self._judge_value(name, found, expected)

    def _normal_form(self, response: str) -> str | None:
        """The value in base units, to the twelve digits that conversions keep."""
        import pint

        answer = find_final_answer(response, self._options.forms)
        if answer is None:
            return None
        try:
            with np.errstate(all="ignore"):
                found = self._found(answer)[1].to_base_units()
                return f"{float(found.magnitude):.12g} {found.units:~P}".strip()
        except (pint.PintError, ArithmeticError, ValueError):
            return None

    def _found(self, answer: FinalAnswer) -> tuple[QuantityText, "pint.Quantity[float]"]:
        if answer.form != "plain":
            text = read_quantity(answer.text)
            return text, self._quantity(text)
        unknown: QuantityError | None = None
        for text in quantities_at_end(answer.text):
            try:
                return text, self._quantity(text)
            except QuantityError as error:
                unknown = unknown or error
        raise unknown or QuantityError("is no number with a unit")

    def _judge_value(
        self, name: str, found: "pint.Quantity[float]", expected: "pint.Quantity[float]"
    ) -> tuple[Verdict, str]:
        import pint

        target = float(expected.magnitude)
        try:
            # Logarithmic units (dB) go through numpy, which only warns.
            with np.errstate(all="ignore"):
                value = float(found.to(expected.units).magnitude)
        except (pint.PintError, ArithmeticError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            return "malformed", f"{name} cannot be calculated with."
        relative = self._options.relative_tolerance
        tolerance = max(relative * abs(target), self._options.absolute_tolerance)
        if abs(value - target) <= tolerance:
            return "correct", ""
        return "wrong", f"{name} is wrong{_kind_of_error(value, target, relative)}."

    def _quantity(self, text: QuantityText) -> "pint.Quantity[float]":
        """Raises `QuantityError` for an unknown unit."""
        import pint

        if self._registry is None:
            self._registry = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
        unit = self._registry.Unit("")
        try:
            for name, power in text.units:
                factor = self._unit(self._registry, name)
                # In J/°C a degree is a difference, not a point of the scale.
                if len(text.units) > 1 or power != 1:
                    factor = self._registry.Unit(_DIFFERENCES.get(str(factor), factor))
                unit = unit * factor**power
            return self._registry.Quantity(text.number, unit)
        except (pint.PintError, ArithmeticError, ValueError) as error:
            raise QuantityError("has a unit that cannot be calculated with") from error

    @staticmethod
    def _unit(registry: "pint.UnitRegistry[Any]", name: str) -> "pint.Unit":
        """One name at a time: pint's parser never sees an expression of the response's."""
        import pint

        # Names in full may begin with a capital (Tesla); in symbols capitals count (mW, MW).
        spellings = (_ALIASES.get(name, name), *((name.lower(),) if len(name) > 3 else ()))
        for spelling in spellings:
            try:
                return registry.Unit(spelling)
            except (pint.PintError, AttributeError, ValueError):
                continue
        raise QuantityError(f"has the unit {name!r}, which is not known")


def _kind_of_error(value: float, target: float, relative: float) -> str:
    """What went wrong, as far as the two values show it, without the value that was expected."""
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
