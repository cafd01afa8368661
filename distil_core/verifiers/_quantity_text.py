r"""Reads a number with a unit from text or LaTeX: `3.0e8 m/s`, `$5.4 \times 10^6 \mathrm{N/C}$`.

This grammar replaces pint's expressions, which calculate. Here only one number is evaluated, so
that `10**10**10` is an error and not a hang. The meaning of units is in `_unit_names`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from distil_core.verifiers._number_text import leading_number, prepared
from distil_core.verifiers._quantity_markup import plain_units

_MAX_CHARACTERS = 300
_MAX_UNITS = 20
_MAX_UNIT_NAME = 40
_MAX_POWER = 12
_MAX_MAGNITUDE = 1e300
_MAX_PARTS = 6

Factors = tuple[tuple[str, int], ...]

_EQUALS = re.compile(r"[=≈]")
_INTRODUCTION = re.compile(
    r"\s*(?:(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:)\s*:?\s*)?"
    r"(?:(?:about|approximately|approx\.?|exactly)\s+)?",
    re.IGNORECASE,
)
# Besides a name and a quantity, a calculation may precede an equals sign; alternatives may not.
_NO_CALCULATION = re.compile(
    r"[,;?!≠<>±~]|\\(?:ne|neq|pm|le|ge|leq|geq|lt|gt)(?![a-z])|\b(?:or|and|not|maybe|vs)\b"
)
_DOUBT = re.compile(
    r"(?:\b(?:or|not|nor|than|isn't|n't|never|either|neither|under|over|above|below)"
    r"|[<>≤≥±≠]|\\(?:pm|ne|neq|le|ge|leq|geq|lt|gt))\s*$",
    re.IGNORECASE,
)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SCALE = re.compile(rf"\s+({'|'.join(_SCALES)})(?![a-z])|^(k)(?=\s)")
# 6.64 10^4 J, as some files write it.
_TIMES_LEFT_OUT = re.compile(r"(?<=\d) (?=10\s*(?:\^|\*\*))")
_ROOT = r"(?:\\pi(?![a-zA-Z])|π|\\sqrt\s*\{?(\d{1,12}(?:\.\d{1,12})?)\}?|√(\d{1,12}))"
_IRRATIONAL = re.compile(rf"\s*\*?\s*{_ROOT}")
_OVER = re.compile(r"\s*/\s*(\d{1,12})(?![\d.])")
_IRRATIONAL_FRACTION = re.compile(
    rf"([-+]?)\s*\\frac\s*\{{\s*(\d{{0,12}})\s*{_ROOT}\s*\}}\s*\{{\s*(\d{{1,12}})\s*\}}"
)
_NUMBER_START = re.compile(r"(?:[-+]\s*)?(?:\d|\.\d|\\frac|\\pi|π|\\sqrt|√)")
# One part of `1 h 30 min` or `5 ft 6 in`, and what may join two parts.
_PART = re.compile(
    r"(\d{1,9}(?:,\d{3})*(?:\.\d{1,20})?(?:/\d{1,4})?)(?![eE]-?\d)\s*"
    r"([^\W\d_]+|[°'\"\u2032\u2033]{1,2})\.?"
)
_JOINT = re.compile(r"\s*(?:[,+]\s*)?(?:and\s+)?")
_UNIT_TOKEN = re.compile(
    r"\s*(?:(?P<name>[^\W\d_]+|°[CFKRc]?|[%‰'\"\u2032\u2033])"
    r"|(?P<power>(?:\^|\*\*)\s*(?:\{\s*[-+]?\s*\d{1,3}\s*\}|\(\s*[-+]?\s*\d{1,3}\s*\)|[-+]?\d{1,3}))"
    r"|(?P<operator>[*/.·-](?=\s*(?:[^\W\d_]|[(\[{°%‰])))|(?P<paren>[(){}\[\]]))"
)
# m2, s-1, and s -1 as some files write it; an unsigned number after a blank is separate.
_BARE_POWER = re.compile(r"-?\d{1,2}(?![\d.])|\s-\d{1,2}(?![\d.])")
_RECIPROCAL = re.compile(r"^1(?=\s*/)")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_BEFORE = ("square", "sq", "cubic", "cu")
_JOINED_PREFIXES = re.compile(r"\b(k|M|G|m|µ|n|p)\s+(?=Ω)")


class QuantityError(Exception):
    """The text is no quantity; the message completes a sentence that says why."""


@dataclass(frozen=True)
class QuantityText:
    """A number and its unit as factors: (name as written, power). No factors: a bare number.
    smaller: further parts of the same quantity, as in 1 h 30 min. before: the other sides of its
    equals signs."""

    number: float
    units: Factors
    smaller: tuple[tuple[float, str], ...] = ()
    before: tuple["QuantityText", ...] = ()


def read_quantity(text: str) -> tuple[QuantityText, ...]:
    """The possible readings of the whole text as one quantity, optionally after `name =`: at least
    one, the likeliest first. Raises `QuantityError`."""
    if len(text) > _MAX_CHARACTERS:
        raise QuantityError(f"has more than {_MAX_CHARACTERS} characters")
    pieces = _EQUALS.split(_INTRODUCTION.sub("", _plain(text), count=1))
    *before, last = (piece.strip().rstrip(".;,").strip() for piece in pieces)
    if any(_stated(part) is None and _NO_CALCULATION.search(part) for part in before):
        raise QuantityError("is more than one quantity")
    return _with_equals(_readings(last), before)


def quantities_at_end(line: str) -> Iterator[tuple[QuantityText, ...]]:
    """The quantities that a line of prose may end with (`So the charge is 56 pC.`), the longest
    first, each with its readings. Raises `QuantityError` where there is none."""
    if len(line) > 4 * _MAX_CHARACTERS:
        raise QuantityError(f"is on a line of more than {4 * _MAX_CHARACTERS} characters")
    *before, last = _EQUALS.split(_plain(line))
    plain = last.strip().rstrip(".;,* ")
    error: QuantityError | None = QuantityError("is no number with a unit")
    for match in _NUMBER_START.finditer(plain):
        start = match.start()
        character = plain[start - 1] if start else " "
        # A quantity does not begin at a digit inside a name, a number or an expression.
        if character.isalnum() or character in "^_*/.,{" or _DOUBT.search(plain, 0, start):
            continue
        try:
            readings = _with_equals(_readings(plain[start:]), before)
        except QuantityError as found:
            error = error and found
        else:
            error = None
            yield readings
    if error:
        raise error


def _plain(text: str) -> str:
    plain = _TIMES_LEFT_OUT.sub(" * ", plain_units(prepared(plain_units(text))))
    return _JOINED_PREFIXES.sub(r"\1", plain)


def _with_equals(readings: Iterator[QuantityText], before: list[str]) -> tuple[QuantityText, ...]:
    equal = tuple(filter(None, map(_stated, before)))
    return tuple(replace(one, before=equal) for one in readings)


def _stated(part: str) -> QuantityText | None:
    """The quantity before an equals sign; None for a name or for a calculation, which is not
    evaluated."""
    try:
        return _reading(part.strip())
    except QuantityError:
        return None


def _readings(text: str) -> Iterator[QuantityText]:
    compound = _compound(text)
    yield from compound
    try:
        reading = _reading(text)
    except QuantityError:
        if not compound:
            raise
        return
    yield reading
    as_usual = _reading(text, divides_all=True)
    if as_usual != reading:
        yield as_usual


def _compound(text: str) -> tuple[QuantityText, ...]:
    """`1 h 30 min`, `5 ft 6 in`, `30° 15′`: one quantity in several units, in which only the last
    part may be a fraction. Whether the units are of one kind and decreasing is checked later."""
    position = 0
    parts: list[tuple[float, str]] = []
    sign = -1.0 if text.startswith("-") else 1.0
    text = text.removeprefix("-").strip()
    while match := _PART.match(text, position):
        top, _, bottom = match[1].replace(",", "").partition("/")
        if bottom and not int(bottom):
            return ()
        parts.append((float(top) / float(bottom or 1), match[2]))
        joint = _JOINT.match(text, match.end())
        position = joint.end() if joint else match.end()
    if position < len(text) or not 2 <= len(parts) <= _MAX_PARTS:
        return ()
    named = list(zip((number for number, _ in parts), _names([u for _, u in parts]), strict=True))
    if not all(number.is_integer() for number, _ in named[:-1]):
        return ()
    smaller = tuple((sign * number, name) for number, name in named[1:])
    return (QuantityText(sign * named[0][0], ((named[0][1], 1),), smaller),)


def _names(units: list[str]) -> list[str]:
    """The names of the units. Primes are minutes and seconds of arc after degrees, else feet and
    inches."""
    marks = ("arcminute", "arcsecond") if "°" in units else ("foot", "inch")
    single, double = dict.fromkeys("'\u2032", marks[0]), dict.fromkeys('"\u2033', marks[1])
    named = {**single, **double, "''": marks[1], "\u2032\u2032": marks[1]}
    return [named.get(unit, unit) for unit in units]


def _reading(text: str, divides_all: bool = False) -> QuantityText:
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1].strip()
    number, rest = _number(text)
    if not abs(number) <= _MAX_MAGNITUDE:
        raise QuantityError("has an exponent beyond 300")
    return QuantityText(number, _units(rest, divides_all))


def _number(text: str) -> tuple[float, str]:
    """The number at the start of a text, and the rest. It may be multiplied by π or a square
    root."""
    if fraction := _IRRATIONAL_FRACTION.match(text):
        if not int(fraction[5]):
            raise QuantityError("is divided by zero")
        value = float(fraction[2] or 1) * _irrational(fraction[3], fraction[4]) / int(fraction[5])
        return (-value if fraction[1] == "-" else value), text[fraction.end() :]
    sign = re.match(r"[-+]?\s*(?=\\pi|π|\\sqrt|√)", text)
    found = leading_number(text)
    if sign and _IRRATIONAL.match(text, sign.end()):
        value, rest = (-1.0 if "-" in sign[0] else 1.0), text[sign.end() :]
    elif found is None:
        raise QuantityError("has no number at its start" if text else "is empty")
    else:
        try:
            value, rest = float(found[0]), found[1]
        except OverflowError:
            raise QuantityError("has an exponent beyond 300") from None
        if (found[0] != 0) != (value != 0) or 0 < abs(value) < 1 / _MAX_MAGNITUDE:
            raise QuantityError("has an exponent beyond 300")
    if scale := _SCALE.match(rest):
        value, rest = value * _SCALES.get(scale[1], 1e3), rest[scale.end() :]
    if root := _IRRATIONAL.match(rest):
        value, rest = value * _irrational(root[1], root[2]), rest[root.end() :]
        if (over := _OVER.match(rest)) and int(over[1]):
            value, rest = value / int(over[1]), rest[over.end() :]
    return value, rest


def _irrational(*radicands: str | None) -> float:
    radicand = next(filter(None, radicands), None)
    return math.pi if radicand is None else math.sqrt(float(radicand))


def _units(text: str, divides_all: bool) -> Factors:
    """Factors of `m/s^2`, `N m^2 / C^2`, `J/(mol K)`, `kg m^-3`, `m s-1`, `square meters per
    second`. A slash divides by the next factor or parenthesis only, as in pint and Python; with
    divides_all by everything after it (`J/mol K`), as `per` does."""
    text = _RECIPROCAL.sub("", text.strip())
    factors: list[tuple[str, int]] = []
    signs = [1]  # of the parentheses around
    sign = after = power_ahead = 1  # of the next name, of all names after it, and its power
    position, is_open = 0, False
    while position < len(text):
        token = _UNIT_TOKEN.match(text, position)
        if token is None:
            raise QuantityError(
                f"has a unit that cannot be read at {text[position:].strip()[:20]!r}"
            )
        position = token.end()
        if (word := (token["name"] or "").lower()) == "per":
            sign, after, is_open = -1, -1, True
        elif word in _BEFORE and power_ahead == 1:
            power_ahead = _POWERS[word]
        elif word and word not in _POWERS:
            position = _append(factors, token["name"], sign * signs[-1], text, position)
            if power_ahead != 1:
                _raise_last(factors, power_ahead)
            sign, power_ahead, is_open = after, 1, False
        elif word or token["power"]:
            digits = re.sub(r"[^\d+-]", "", token["power"] or "")
            _raise_last(factors, _POWERS.get(word) or int(digits))
        elif token["operator"]:
            sign = -1 if token["operator"] == "/" else sign
            after = sign if divides_all else after
        else:
            _enter_or_leave(token["paren"], signs, sign)
            sign = after = 1
    if len(signs) > 1 or (text and not factors) or is_open or power_ahead != 1:
        raise QuantityError(f"has a unit that cannot be read at {text[:20]!r}")
    return tuple(factors)


def _append(factors: list[tuple[str, int]], name: str, power: int, text: str, position: int) -> int:
    """Add a factor with the power written at its name, and return where the text continues."""
    if len(name) > _MAX_UNIT_NAME or len(factors) >= _MAX_UNITS:
        raise QuantityError("has a unit that is too long")
    factors.append((name, power))
    if bare := _BARE_POWER.match(text, position):
        _raise_last(factors, int(bare[0]))
        return bare.end()
    return position


def _enter_or_leave(parenthesis: str, signs: list[int], sign: int) -> None:
    if parenthesis in "({[" and len(signs) <= _MAX_UNITS:
        signs.append(signs[-1] * sign)
    elif parenthesis in ")}]" and len(signs) > 1:
        signs.pop()
    else:
        raise QuantityError("has a unit whose parentheses do not match")


def _raise_last(factors: list[tuple[str, int]], power: int) -> None:
    if not factors or abs(factors[-1][1]) != 1 or not 0 < abs(power) <= _MAX_POWER:
        raise QuantityError(f"has a unit with the power {power} in a place where it means nothing")
    name, sign = factors.pop()
    factors.append((name, sign * power))
