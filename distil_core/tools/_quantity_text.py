"""Reads a number with a unit from text or LaTeX: `3.0e8 m/s`, `$5.4 \\times 10^6 \\mathrm{N/C}$`.

A grammar of its own instead of pint's expressions, which calculate: here nothing is evaluated, so
`10**10**10` is an error and not a hang. What the units mean is left to pint.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_CHARACTERS = 300
_MAX_UNITS = 20
_MAX_UNIT_NAME = 40
_MAX_POWER = 12
_MAX_EXPONENT = 300

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LATEX = (
    (re.compile(r"\^\s*\{\s*([-+]?\s*\d{1,5})\s*\}"), r"^\1"),
    (
        re.compile(
            r"\\(?:mathrm|text|textrm|operatorname|mathbf|rm|mathit|unit|si)\s*\{([^{}]*)\}"
        ),
        r" \1 ",
    ),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" (\1)/(\2) "),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree|\\circ"), "°"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), " * "),
    (re.compile(r"\\(?:Omega|ohm)(?![a-zA-Z])"), " ohm "),
    (re.compile(r"\\mu(?![a-zA-Z])\s*"), "µ"),
    (re.compile(r"\\(?:AA|r?angstrom)(?![a-zA-Z])"), " angstrom "),
    (re.compile(r"\\(?:left|right|displaystyle|rm)(?![a-zA-Z])"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\[,;:! ]|[~$]|\\\(|\\\)|\\\[|\\\]"), " "),
)
_CHARACTERS = {
    "\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u2219": "*",
    "\u03bc": "µ", "\u03a9": " ohm ", "\u2126": " ohm ", "\u212b": " angstrom ",
    "\u00c5": " angstrom ", "\u2103": "°C", "\u2109": "°F", "\u00a0": " ", "\u2009": " ",
    "\u202f": " ",
}  # fmt: skip
_NUMBER = re.compile(
    r"(?:(?P<sign>[-+])\s*)?(?P<digits>(?:\d{1,3}(?:,\d{3}){1,9}(?![,\d])|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:[eE](?P<e>[-+]?\d{1,5})(?![\d.\w]))?(?![\d.])"
)
_POWER_OF_TEN = re.compile(
    r"\s*(?:[*xX]\s*)?10\s*(?:\^|\*\*)\s*(?:\{\s*([-+]?\s*\d{1,5})\s*\}|\(\s*([-+]?\s*\d{1,5})\s*\)|([-+]?\d{1,5}))(?![\d.])"
)
_EQUALS = re.compile(r"=|≈|\\approx|\\simeq")
_UNIT_TOKEN = re.compile(
    r"\s*(?:(?P<name>[^\W\d_]+|°[CFK]?|%|[\u2032\u2033])|(?P<power>(?:\^|\*\*)\s*[{(]?\s*[-+]?\d{1,3}\s*[)}]?)"
    r"|(?P<bare>[-+]?\d{1,2}(?![\d.]))|(?P<operator>[*/.])|(?P<paren>[(){}\[\]]))"
)


class QuantityError(Exception):
    """The text is no quantity; the message says why, as part of a sentence."""


@dataclass(frozen=True)
class QuantityText:
    """A number and its unit as factors: (name as written, power). No factors: a bare number."""

    number: float
    units: tuple[tuple[str, int], ...]


def read_quantity(text: str) -> QuantityText:
    """The whole text as one quantity, optionally after `name =`; raises `QuantityError`."""
    if len(text) > _MAX_CHARACTERS:
        raise QuantityError(f"has more than {_MAX_CHARACTERS} characters")
    plain = _without_markup(text)
    plain = _EQUALS.split(plain)[-1].strip().rstrip(".;,").strip()
    return _read(plain)


def quantities_at_end(line: str) -> Iterator[QuantityText]:
    """The readings of what a line of prose ends with (`So the charge is 56 pC.`), longest first;
    raises `QuantityError` where there is none."""
    if len(line) > 4 * _MAX_CHARACTERS:
        raise QuantityError(f"is on a line of more than {4 * _MAX_CHARACTERS} characters")
    plain = _EQUALS.split(_without_markup(line))[-1].strip().rstrip(".;,* ")
    previous_end = -1
    error: QuantityError | None = QuantityError("is no number with a unit")
    for match in _NUMBER.finditer(plain):
        # A digit inside of a name or an expression is no beginning.
        start = match.start()
        before = plain[start - 1] if start else " "
        if before.isalnum() or before in "^_*/.," or start == previous_end:
            continue
        previous_end = match.end()
        try:
            reading = _read(plain[start:])
        except QuantityError as found:
            error = error and found
        else:
            error = None
            yield reading
    if error:
        raise error


def _without_markup(text: str) -> str:
    for pattern, replacement in _LATEX:
        # Twice, since groups such as \mathrm{\mu C} nest.
        text = pattern.sub(replacement, pattern.sub(replacement, text))
    text = _SUPERSCRIPT.sub(lambda match: f"^{match[0].translate(_SUPERSCRIPTS)}", text)
    return "".join(_CHARACTERS.get(character, character) for character in text)


def _read(text: str) -> QuantityText:
    power = _POWER_OF_TEN.match(text)
    number = _NUMBER.match(text)
    if power and not (number and number["e"]):
        return QuantityText(_number("1", power), _units(text[power.end() :]))
    if number is None:
        raise QuantityError("has no number at its start" if text else "is empty")
    digits = (number["sign"] or "") + number["digits"].replace(",", "") + f"e{number['e'] or 0}"
    rest = text[number.end() :]
    power = None if number["e"] else _POWER_OF_TEN.match(rest)
    if power:
        rest = rest[power.end() :]
    return QuantityText(_number(digits, power), _units(rest))


def _number(digits: str, power: re.Match[str] | None) -> float:
    exponent = int(next(filter(None, power.groups()), "0").replace(" ", "")) if power else 0
    mantissa, _, written = digits.partition("e")
    exponent += int(written or 0)
    if abs(exponent) > _MAX_EXPONENT:
        raise QuantityError(f"has an exponent beyond {_MAX_EXPONENT}")
    return float(f"{mantissa}e{exponent}")


def _units(text: str) -> tuple[tuple[str, int], ...]:
    """Factors of `m/s^2`, `N m^2 / C^2`, `J/(mol K)`, `kg m^-3`, `m s-1`. Each slash divides by the
    next factor or parenthesis only, as pint and Python read it."""
    text = text.strip()
    if not text:
        return ()
    factors: list[tuple[str, int]] = []
    signs = [1]  # of the parentheses around
    sign = 1
    position = 0
    while position < len(text):
        token = _UNIT_TOKEN.match(text, position)
        if token is None or token.end() == position:
            raise QuantityError(
                f"has a unit that cannot be read at {text[position:].strip()[:20]!r}"
            )
        position = token.end()
        if name := token["name"]:
            if name == "per":
                sign = -1
                continue
            if len(name) > _MAX_UNIT_NAME or len(factors) >= _MAX_UNITS:
                raise QuantityError("has a unit that is too long")
            factors.append((name, sign * signs[-1]))
            sign = 1
        elif exponent := token["power"] or token["bare"]:
            _raise_last(factors, int(re.sub(r"[^\d+-]", "", exponent)))
        elif token["operator"]:
            sign = -1 if token["operator"] == "/" else 1
        else:
            _enter_or_leave(token["paren"], signs, sign)
            sign = 1
    if len(signs) > 1 or not factors:
        raise QuantityError(f"has a unit that cannot be read at {text[:20]!r}")
    return tuple(factors)


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
