"""Recomputes the arithmetic written in an attempt, equation by equation.

It reads `48 / 2 = 24`, chains (`2 + 3 = 5 * 2 = 10`), calculator annotations (`<<48/2=24>>`),
currency, percentages, units between numbers (`3 boxes * 4 = 12`), operators in words, and simple
LaTeX. Prose is ambiguous, and calling a true equation false would mislead the learner. So an
equation is reported only when NO reading of it holds; one that may continue in words or signs that
are not understood is not reported.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from distil_core.verifiers._arithmetic_expressions import (
    Expression,
    Reading,
    Token,
    is_unclear,
    sizes_of,
    tokens_of,
)

_MAX_SIDE_TOKENS = 64
_MAX_EQUATIONS = 200
_MAX_COUNTS = 3
_HALF_A_CENT = Fraction(1, 200)
_ANNOTATION = re.compile(r"<<([^<>\n]{0,200})>>")
_BULLET = re.compile(r"^\s*[-*+\u2022]\s+")
# Other kinds of arithmetic, in which 7 + 8 = 3 may hold.
_OTHER_ARITHMETIC = re.compile(
    r"\b(?:mod|modulo|pmod|base|binary|octal|hex|hexadecimal|clock|o'clock)\b|\u2261", re.IGNORECASE
)
# Other ways to read a line. An equation that holds in one of them is not called false.
_VARIANTS = (
    # A list's dash may be a sign, its number look like a decimal: `- 5 - 3 = -8`, `1.5 + 3 = 8`.
    (re.compile(r"^\s*[-\u2212\u2013]\s+(?=[\d$.])"), "-"),
    (re.compile(r"^\s*\(?\d{1,2}[.)](?=\d)"), ""),
    # `Day 2 - 5 + 3 = 8`
    (re.compile(r"^(\D*[A-Za-z]) \d{1,4} [-\u2212\u2013\u2014] "), r"\1; "),
    # `1-1/2`, `10-15 minutes`
    (re.compile(r"(?<![\d./-])(\d{1,9})-(\d{1,9}/\d{1,9})(?![\d./])"), r"(\1+\2)"),
    (re.compile(r"(?<![\d.,-])(\d{1,9})[-\u2013](\d{1,9})(?![\d.,-])"), r"\1"),
    (re.compile(r"(?<![\d.,-])(\d{1,9})[-\u2013](\d{1,9})(?![\d.,-])"), r"\2"),
    # `1.500` may be 1,500.
    (re.compile(r"(?<![\d.,])(\d{1,3})\.(\d{3})(?![\d.])"), r"\1\2"),
)
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]{0,100})\}"), r"\1"),
    (re.compile(r"\\[dt]?frac\s*\{([\d.,]{1,60})\}\s*\{([\d.,]{1,60})\}"), r"(\1/\2)"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]{1,60})\}\s*\{([^{}]{1,60})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\]]"), " ; "),
    (re.compile(r"\\(?:left|right|[,;!])(?![a-zA-Z])|\{(?=,\})|(?<=\{,)\}"), ""),
)
_JOINING = re.compile(
    r"then|so|is|are|was|at|for|to|in|of|by|with|or|on|from|thus|that",
    re.IGNORECASE,
)
_SIGN_AFTER_CURRENCY = re.compile(r"(\$) ?([-\u2212]) ?(?=[\d.])")
# Signs before an expression that do not belong to it.
_SEPARATORS = frozenset(".,;:?\"'\u2018\u2019\u201c\u201d#>\u2022\u2192\u21d2\u2234$`")
_WITH_REMAINDER = re.compile(r"remain|left ?over|round|whole", re.IGNORECASE)
# `8 packs of 5 bags * $4` may or may not multiply all three, so it is not used for a correction.
_IMPLIED_PRODUCT = re.compile(r"[^\W\d_] of \$?\d")
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


@dataclass(frozen=True)
class _Equation:
    """One equals sign of a line. number: its position among the line's equals signs. left, right:
    the possible readings of its sides. in_smallest_units: the left side's readings in smallest
    units. counts: numbers before the left side that may multiply it."""

    line: str
    number: int
    left: list[Reading]
    right: list[Reading]
    in_smallest_units: list[Reading]
    counts: tuple[Fraction, ...]

    def holds(self) -> bool:
        """Whether any of its readings holds."""
        if any(_holds(one, other, self.counts) for one in self.left for other in self.right):
            return True
        if any(
            _holds_converted(one, other) for one in self.in_smallest_units for other in self.right
        ):
            return True
        with_remainder = _WITH_REMAINDER.search(self.line) is not None
        return with_remainder and any(
            other.value == one.value // 1 for one in self.left for other in self.right
        )

    def correction(self) -> str:
        """The value that its left side really has."""
        widest, stated = self._widest(), self.right[0]
        return f"{self._written(widest)} = {plain(widest.value)}, not {self._written(stated)}"

    def confirmation(self) -> str | None:
        """That the value stated is right; None where another reading than the plain one holds."""
        widest = self._widest()
        stated = next((right for right in self.right if _shows(widest.value, right)), None)
        if stated is None:
            return None
        return f"{self._written(widest)} = {self._written(stated)}, as stated"

    def _widest(self) -> Reading:
        plain_readings = [
            reading
            for reading in self.left
            if not _IMPLIED_PRODUCT.search(self.line[reading.start : reading.end])
        ]
        return max(plain_readings or self.left, key=lambda reading: reading.end - reading.start)

    def _written(self, reading: Reading) -> str:
        return self.line[reading.start : reading.end].strip()


def checked_equations(text: str, *, confirm: bool = False) -> Iterator[str]:
    """The written equations that do not hold, each with the real value of its left side, and with
    `confirm` also those that plainly hold, in the order of the text.

    A right side also holds if it is the value rounded to the decimals it shows, or is within half a
    cent. At most 200 equations of a text are read.
    """
    reported: set[str] = set()
    checked = 0
    for source in _sources(text):
        line = _without_latex(source)
        for equation in _equations(_BULLET.sub("", line)):
            if checked >= _MAX_EQUATIONS:
                return
            checked += 1
            is_right = equation.holds() or _holds_in_a_variant(line, equation.number)
            if is_right and not confirm:
                continue
            found = equation.confirmation() if is_right else equation.correction()
            key = re.sub(r"\s", "", found or "")
            if found and key not in reported:
                reported.add(key)
                yield found


def _sources(text: str) -> Iterator[str]:
    """Each line with an equation, and each calculator annotation on its own."""
    for line in text.split("\n"):
        if "=" in line and not _OTHER_ARITHMETIC.search(line):
            yield from (*_ANNOTATION.findall(line), _ANNOTATION.sub("", line))


def _without_latex(line: str) -> str:
    line = _SIGN_AFTER_CURRENCY.sub(r"\2\1", line)
    if "\\" in line or "{,}" in line:
        for pattern, replacement in _LATEX:
            line = pattern.sub(replacement, line)
    return line


def _holds_in_a_variant(line: str, number: int) -> bool:
    for pattern, replacement in _VARIANTS:
        variant = pattern.sub(replacement, line)
        if variant == line:
            continue
        for equation in _equations(_BULLET.sub("", variant)):
            if equation.number == number and equation.holds():
                return True
    return False


def _equations(line: str) -> Iterator[_Equation]:
    """The line's equations of which both sides can be read."""
    tokens = tokens_of(line)
    signs = [index for index, token in enumerate(tokens) if token.kind == "equals"]
    for number, sign in enumerate(signs):
        before = signs[number - 1] + 1 if number else 0
        after = signs[number + 1] if number + 1 < len(signs) else len(tokens)
        side = tokens[max(before, sign - _MAX_SIDE_TOKENS) : sign]
        left = _left_readings(line, side, number > 0)
        right = _right_readings(tokens[sign + 1 : min(after, sign + 1 + _MAX_SIDE_TOKENS)])
        if left and right:
            measured = _left_readings(line, side, number > 0, in_smallest_unit=True)
            start = min(reading.start for reading in left)
            yield _Equation(line, number, left, right, measured, _counts(side, start))


def _counts(side: Sequence[Token], start: int) -> tuple[Fraction, ...]:
    """Products of the last numbers before an expression: 4 crates, each with 6 jars * $2."""
    products, product = [Fraction(1)], Fraction(1)
    before = [token.value for token in side if token.kind == "number" and token.end <= start]
    for value in before[: -_MAX_COUNTS - 1 : -1]:
        product *= value
        products += [value, product]
    return tuple(products)


def _left_readings(
    line: str, side: Sequence[Token], middle: bool, *, in_smallest_unit: bool = False
) -> list[Reading]:
    """The readings of the tokens before an equals sign: every run that ends there and begins where
    an expression can begin. A lone number counts only if it is the whole side between two equals
    signs."""
    readings: list[Reading] = []
    doubtful: list[Reading] = []
    for first in range(len(side)):
        is_beginning = _can_begin(line, side, first)
        if not is_beginning and not _is_sign(side, first):
            continue
        for percent in _meanings_of_percent(side):
            run = Expression(side[first:], percent, in_smallest_unit=in_smallest_unit)
            reading = run.whole()
            if reading is None:
                continue
            if reading.num_operators or (middle and first == 0 and not reading.units):
                (readings if is_beginning else doubtful).append(reading)
    # In "each of the 6 gets -5 + 3" the sign may be a minus of subtraction.
    return readings + doubtful if readings else []


def _can_begin(line: str, side: Sequence[Token], first: int) -> bool:
    token = side[first]
    glued = token.start > 0 and (
        line[token.start - 1] in ".,:/%_^\\" or line[token.start - 1].isalnum()
    )
    if glued or (token.kind != "number" and token.text not in ("(", "-")):
        return False
    if first == 0:
        return True
    before = side[first - 1]
    if token.text == "-" and not _is_sign(side, first):
        return False
    # An operator earlier in the same clause, whose expression this run may be part of.
    for earlier in reversed(side[:first]):
        if earlier.kind == "other":
            break
        if earlier.kind == "operator":
            return False
    if before.kind != "word":
        # `5 * $(3 + 2)`
        is_money = before.text == "$" and first > 1 and side[first - 2].kind != "word"
        return before.kind == "other" and before.text in _SEPARATORS and not is_money
    return _may_stand_before(side[:first], most_words=3 if token.text == "-" else 1)


def _is_sign(side: Sequence[Token], first: int) -> bool:
    """Whether a minus is a sign, as in `it was -5 - 3`: attached to its number, after a blank."""
    if first == 0 or side[first].text != "-" or side[first - 1].kind == "operator":
        return False
    following = side[first + 1 : first + 2]
    is_glued = bool(following) and following[0].start == side[first].end
    return is_glued and side[first - 1].end < side[first].start


def _may_stand_before(words: Sequence[Token], most_words: int) -> bool:
    """Whether an expression can begin after these words: not after `the root of` or `5 less than`,
    and not inside a number made of two, such as `3 feet 4 inches` and `1 and 1/4`. most_words: how
    many words can stand between those two."""
    run: list[Token] = []
    for token in reversed(words):
        if token.kind != "word":
            break
        run.append(token)
    if is_unclear(run[0]):
        return False
    if run[0].text.lower() in ("of", "the", "a", "an") and any(map(is_unclear, run[1:4])):
        return False
    number = words[-len(run) - 1 : -len(run)]
    counted = bool(number) and number[0].kind in ("number", "percent") and len(run) <= most_words
    return not counted or _JOINING.fullmatch(run[0].text) is not None


def _right_readings(side: Sequence[Token]) -> list[Reading]:
    """The readings of the tokens after an equals sign: the whole expression, or, in a running
    calculation such as `2 * 5 = 10 + 3 = 13`, only its first number."""
    return [
        reading
        for percent in _meanings_of_percent(side)
        for reading in Expression(side, percent).prefixes()
    ]


def _meanings_of_percent(side: Sequence[Token]) -> tuple[Fraction, ...]:
    """The readings of 30%: 3/10, and in sums and results also 30."""
    with_percent = any(token.kind == "percent" for token in side)
    return (Fraction(1), Fraction(1, 100)) if with_percent else (Fraction(1),)


def _holds(left: Reading, right: Reading, counts: Sequence[Fraction]) -> bool:
    if any(_shows(left.value * count, right) for count in counts):
        return True
    if not (left.units and right.units) or left.units & right.units or not right.value:
        return False
    ratio = abs(left.value / right.value)
    return ratio in _CONVERSIONS or (ratio != 0 and 1 / ratio in _CONVERSIONS)


def _holds_converted(left: Reading, right: Reading) -> bool:
    """Whether the equation holds after conversion: `1 hour + 30 minutes = 90 minutes`, `5 * 12 = 5
    feet`. left: in the smallest unit of its kind. A side without unit may be in any unit of that
    kind."""
    kinds = {kind for kind, _ in left.measures | right.measures}
    if len(kinds) != 1:
        return False
    sizes = sizes_of(kinds.pop())
    from_sizes = {Fraction(1)} if left.measures else sizes
    to_sizes = {size for _, size in right.measures} or sizes
    return any(_shows(left.value * one / other, right) for one in from_sizes for other in to_sizes)


def _shows(value: Fraction, right: Reading) -> bool:
    """Whether the right side is the value to the digits written: rounded, cut off, or within half a
    cent."""
    error = abs(value - right.value)
    if error <= _HALF_A_CENT or not right.decimals:
        return error <= _HALF_A_CENT
    unit = Fraction(1, 10**right.decimals)
    is_exact = (value / unit).denominator == 1
    return error <= unit / 2 or (not is_exact and error < unit and abs(right.value) < abs(value))
