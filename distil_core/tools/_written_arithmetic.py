"""Re-executes the arithmetic that an attempt writes down, equation by equation.

Read are `48 / 2 = 24`, chains (`2 + 3 = 5 * 2 = 10`), calculator annotations (`<<48/2=24>>`),
currency, percentages, units between numbers (`3 boxes * 4 = 12`), operators in words, and simple
LaTeX. Prose is ambiguous, and to call a true equation false misleads whoever learns from it. So an
equation is reported only when NO reading of it holds, and one that may continue in words or signs
that are not understood is left alone.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from distil_core.tools._arithmetic_expressions import (
    Expression,
    Reading,
    Token,
    is_unclear,
    tokens_of,
)

_MAX_SIDE_TOKENS = 64
_MAX_EQUATIONS = 200
_HALF_A_CENT = Fraction(1, 200)
_ANNOTATION = re.compile(r"<<([^<>\n]{0,200})>>")
_BULLET = re.compile(r"^\s*[-*+\u2022]\s+")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]{0,100})\}"), r"\1"),
    (re.compile(r"\\[dt]?frac\s*\{([\d.,]{1,60})\}\s*\{([\d.,]{1,60})\}"), r"(\1/\2)"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]{1,60})\}\s*\{([^{}]{1,60})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\]]"), " ; "),
    (re.compile(r"\\(?:left|right|[,;!])(?![a-zA-Z])"), ""),
)
_JOINING = re.compile(
    r"then|so|is|are|was|at|for|to|in|of|by|with|or|on|from|thus|that",
    re.IGNORECASE,
)
_CONTINUES = frozenset(("(", ")", "^", "**", "!", "\u2013", "\u2014"))
_WITH_REMAINDER = re.compile(r"remain|left ?over|round|whole", re.IGNORECASE)
# An attempt may change the unit over the equals sign: 3 * 20 minutes = 1 hour.
_CONVERSIONS = frozenset(
    {2, 3, 4, 7, 10, 12, 16, 24, 30, 31, 36, 52, 60, 100, 365, 1000, 1440, 3600, 5280}
)


def plain(value: Fraction) -> str:
    """A number as people write it: whole, or with six significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):.6g}"
    except OverflowError:
        return str(round(value))


def wrong_equations(text: str) -> Iterator[str]:
    """The written equations that do not hold, each with the value its left side really has.

    A right side that is the value rounded to the decimals it shows holds, and so does one within
    half a cent. At most 200 equations of a text are read.
    """
    reported: set[str] = set()
    for checked, (source, left, right) in enumerate(_equations(text)):
        if checked >= _MAX_EQUATIONS:
            return
        if any(_holds(one, other) for one in left for other in right):
            continue
        if _WITH_REMAINDER.search(source) and any(
            other.value == one.value // 1 for one in left for other in right
        ):
            continue
        widest, stated = max(left, key=lambda r: r.end - r.start), right[0]
        written = source[widest.start : widest.end].strip()
        line = f"{written} = {plain(widest.value)}, not {source[stated.start : stated.end].strip()}"
        key = re.sub(r"\s", "", line)
        if key not in reported:
            reported.add(key)
            yield line


def _equations(text: str) -> Iterator[tuple[str, list[Reading], list[Reading]]]:
    """Each equation's line, the readings of its left side, and those of its right side."""
    for line in text.split("\n"):
        if "=" not in line:
            continue
        for source in (*_ANNOTATION.findall(line), _ANNOTATION.sub("", line)):
            yield from _equations_of_line(_without_latex(_BULLET.sub("", source)))


def _without_latex(line: str) -> str:
    if "\\" in line:
        for pattern, replacement in _LATEX:
            line = pattern.sub(replacement, line)
    return line


def _equations_of_line(line: str) -> Iterator[tuple[str, list[Reading], list[Reading]]]:
    tokens = tokens_of(line)
    signs = [index for index, token in enumerate(tokens) if token.kind == "equals"]
    for number, sign in enumerate(signs):
        before = signs[number - 1] + 1 if number else 0
        after = signs[number + 1] if number + 1 < len(signs) else len(tokens)
        left = _left_readings(line, tokens[max(before, sign - _MAX_SIDE_TOKENS) : sign], number > 0)
        right = _right_readings(tokens[sign + 1 : min(after, sign + 1 + _MAX_SIDE_TOKENS)])
        if left and right:
            yield line, left, right


def _left_readings(line: str, side: Sequence[Token], middle: bool) -> list[Reading]:
    """What the tokens before an equals sign can mean: every run that ends there and begins where
    an expression can. A lone number counts only as the whole side between two equals signs."""
    readings = []
    for first in range(len(side)):
        if not _can_begin(line, side, first):
            continue
        for percent in _meanings_of_percent(side):
            reading = Expression(side[first:], percent).whole()
            if reading is None:
                continue
            if reading.num_operators or (middle and first == 0 and not reading.units):
                readings.append(reading)
    return readings


def _can_begin(line: str, side: Sequence[Token], first: int) -> bool:
    token = side[first]
    glued = token.start > 0 and line[token.start - 1] in ".,:/%_^\\"
    if glued or (token.kind != "number" and token.text not in ("(", "-")):
        return False
    if first == 0:
        return True
    before = side[first - 1]
    joined = before.kind in ("number", "operator", "percent") or before.text in _CONTINUES
    if joined or token.text == "-":
        return False
    # An operator earlier in the same clause: this run may be a part of that expression.
    for earlier in reversed(side[:first]):
        if earlier.kind == "other":
            break
        if earlier.kind == "operator":
            return False
    if before.kind != "word":
        return True
    # "3 feet 4 inches", "1 and 1/4": one word between two numbers makes one number of them.
    counted = first > 1 and side[first - 2].kind in ("number", "percent")
    return not is_unclear(before) and (not counted or _JOINING.fullmatch(before.text) is not None)


def _right_readings(side: Sequence[Token]) -> list[Reading]:
    """What the tokens after an equals sign can mean: the whole expression there, or, in a running
    calculation such as `2 * 5 = 10 + 3 = 13`, its first number alone."""
    return [
        reading
        for percent in _meanings_of_percent(side)
        for reading in Expression(side, percent).prefixes()
    ]


def _meanings_of_percent(side: Sequence[Token]) -> tuple[Fraction, ...]:
    """30% is 3/10, and in sums and results also 30."""
    with_percent = any(token.kind == "percent" for token in side)
    return (Fraction(1), Fraction(1, 100)) if with_percent else (Fraction(1),)


def _holds(left: Reading, right: Reading) -> bool:
    error = abs(left.value - right.value)
    shown = Fraction(1, 2 * 10**right.decimals) if right.decimals else Fraction(0)
    if error <= max(_HALF_A_CENT, shown):
        return True
    if not (left.units and right.units) or left.units & right.units or not right.value:
        return False
    ratio = abs(left.value / right.value)
    return ratio in _CONVERSIONS or (ratio != 0 and 1 / ratio in _CONVERSIONS)
