"""A quantity in base units, and whether two quantities measure the same kind of thing.

Dimensions alone do not tell a frequency from an activity, an absorbed dose from a dose equivalent,
or a number of photons from a number; the names of units do. Where only one of two units has such a
name (Hz and s^-1, Gy and J/kg), they do not contradict each other and are compared.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from distil_core.verifiers._quantity_text import Factors, QuantityError, QuantityText
from distil_core.verifiers._unit_names import (
    UnitMeaning,
    UnknownUnitError,
    factor_meaning,
    unit_meaning,
)

# Kinds that exclude each other. Counted things are a group of their own.
_GROUPS = {
    "frequency": "rate", "activity": "rate", "cycle": "rate", "angle": "rate",
    "absorbed dose": "dose", "dose equivalent": "dose", "power": "power",
    "apparent power": "power", "information": "information", "level": "level",
}  # fmt: skip
_MUST_BE_NAMED = ("information", "level")
_LIGHT = "candela"
_TURN = 2 * math.pi


@dataclass(frozen=True)
class Measured:
    """value: in base units. meaning: that of the unit in which it was written."""

    value: float
    meaning: UnitMeaning
    units: Factors

    @property
    def is_pure(self) -> bool:
        """Whether it is dimensionless: a number, an angle, a percentage, a count."""
        return not self.meaning.dimensions

    def in_its_unit(self, value: float) -> float:
        """A value in base units, converted to the unit in which this quantity was written."""
        return (value - self.meaning.offset) / self.meaning.factor

    def normal_form(self) -> str:
        """The quantity as text, with the twelve digits that survive conversions."""
        names = [
            f"{name}^{power:g}" for name, power in self.meaning.dimensions + self.meaning.kinds
        ]
        return " ".join([f"{self.value:.12g}", *names])


def measured(text: QuantityText) -> Measured:
    """The quantity in base units. Raises `QuantityError` for an unknown unit, for parts that are
    not of one quantity, and for values beyond the range of floating-point numbers."""
    whole = _measured(text.number, text.units)
    largest = whole
    for number, name in text.smaller:
        part = _measured(number, ((name, 1),))
        if part.meaning.dimensions != whole.meaning.dimensions or part.meaning.offset:
            raise QuantityError("is more than one quantity")
        is_smaller = part.meaning.factor < largest.meaning.factor
        if not is_smaller or abs(part.value) > largest.meaning.factor * (1 - 1e-9):
            raise QuantityError("is more than one quantity")
        whole = Measured(whole.value + part.value, whole.meaning, whole.units)
        largest = part
    return whole


def _measured(number: float, units: Factors) -> Measured:
    try:
        if len(units) == 1 and units[0][1] == 1:
            meaning = _alone(units[0][0])
        else:
            meaning = UnitMeaning(1.0)
            for name, power in units:
                meaning = meaning * factor_meaning(name, power)
        value = number * meaning.factor + meaning.offset
    except UnknownUnitError as error:
        raise QuantityError(f"has the unit {str(error)!r:.60}, which is not known") from error
    except (OverflowError, ZeroDivisionError) as error:
        raise QuantityError("cannot be calculated with") from error
    is_lost = number != 0 and value == 0 and not meaning.offset
    if not (math.isfinite(value) and 0 < meaning.factor < math.inf) or is_lost:
        raise QuantityError("cannot be calculated with")
    return Measured(value, meaning, units)


def _alone(name: str) -> UnitMeaning:
    """The meaning of a single unit, with its offset if it is a temperature scale."""
    try:
        return unit_meaning(name)
    except UnknownUnitError:
        return factor_meaning(name, 1)


def factors_to(expected: Measured, found: Measured) -> tuple[float, ...]:
    """The factors that may be applied to the found value before comparing: only 1 for most units,
    none where the two measure different things."""
    if expected.meaning.dimensions != found.meaning.dimensions:
        return ()
    if _is_torque(expected) and _kind(found, "energy"):
        return ()
    wanted, given = (_by_group(one.meaning) for one in (expected, found))
    cycles = _cycles(wanted.pop("rate", {}), given.pop("rate", {}), expected.is_pure)
    for group in wanted.keys() | given.keys():
        one, other = wanted.get(group, {}), given.get(group, {})
        is_needed = group in _MUST_BE_NAMED or expected.is_pure
        if one != other and (is_needed or (one and other)):
            return ()
    return cycles


def _cycles(wanted: dict[str, float], given: dict[str, float], is_pure: bool) -> tuple[float, ...]:
    """One turn is 2 pi radians and one cycle: 60 rpm equals 1 Hz and 6.28 rad/s, while 1 Hz is no
    angular frequency."""
    angular = [
        {"angle" if kind == "cycle" else kind: power for kind, power in kinds.items()}
        for kinds in (wanted, given)
    ]
    in_turns = [
        {"frequency" if kind == "cycle" else kind: power for kind, power in kinds.items()}
        for kinds in (wanted, given)
    ]
    cycles = given.get("cycle", 0) - wanted.get("cycle", 0)
    factors = []
    if angular[0] == angular[1] or not (wanted and given):
        factors.append(1.0)
    if cycles and not is_pure and (in_turns[0] == in_turns[1] or not (wanted and given)):
        factors.append(_TURN**-cycles)
    return tuple(factors)


def _by_group(meaning: UnitMeaning) -> dict[str, dict[str, float]]:
    has_light = any(name == _LIGHT for name, _ in meaning.dimensions)
    groups: dict[str, dict[str, float]] = {}
    for kind, power in meaning.kinds:
        group = _GROUPS.get(kind, "count" if kind.startswith("number of") else "")
        # Candela and lumen differ by the angle, which is often left out.
        group = "information" if has_light and kind == "angle" else group
        if group:
            groups.setdefault(group, {})[kind] = power
    return groups


def _kind(one: Measured, name: str) -> bool:
    return one.meaning.kinds == ((name, 1),)


def _is_torque(one: Measured) -> bool:
    """Whether the unit is the newton metre, which is used for torques and hardly ever for
    energies."""
    if len(one.units) != 2 or any(power != 1 for _, power in one.units):
        return one.units == (("Nm", 1),)
    meanings = [factor_meaning(name, 1) for name, _ in one.units]
    is_length = [meaning.dimensions == (("meter", 1),) for meaning in meanings]
    return any(is_length) and (("force", 1),) in [meaning.kinds for meaning in meanings]


def is_ratio(one: Measured) -> bool:
    """Whether the unit stands for a number, so that the number alone says the same: 5 % and 0.05,
    0.5 rad and 0.5. Not 30 degrees and 30, nor 5 photons and 5."""
    kinds: Iterable[tuple[str, float]] = one.meaning.kinds
    is_radian = one.meaning.factor == 1 and all(kind == "angle" for kind, _ in kinds)
    return one.is_pure and (not kinds or is_radian)


def written(units: Factors) -> str:
    """The unit as it was written, on one line."""
    above = [_powered(name, power) for name, power in units if power > 0]
    below = [_powered(name, -power) for name, power in units if power < 0]
    return "/".join(["·".join(above) or "1", *below])


def _powered(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"
