"""Plain arithmetic in prose: split into tokens, and read as expressions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

_TOKEN = re.compile(
    r"(?P<number>(?:[$\u20ac\u00a3\u00a5\u20b9][ ]?)?"
    r"(?:\d{1,3}(?:,\d{3}){1,9}(?!\d|,\d)|\d{1,40})(?:\.\d{1,40})?(?!\d)"
    r"|\$?\.\d{1,40})"
    r"|(?P<operator>[+*/\u00d7\u00f7\u2212-])(?![*/=])|(?P<equals>=)(?!=)|(?P<percent>%)"
    r"|(?P<paren>[()])|(?P<word>[^\W\d_]+(?:['\u2019-][^\W\d_]+)*)|(?P<other>\*\*|\S)"
)
# Signs that end an expression: what follows does not belong to the number before.
_ENDS = frozenset(".,;?\"'\u2019\u201d\u201c]}$>|\u2022\u21d2\u2192#&\u20ac\u00a3<*`")
_NUMBER_FOLLOWS = re.compile(r"\s*[$(]?\s*\.?\d")
_SIGNED_NUMBER_FOLLOWS = re.compile(r"\s*\(?\s*[-\u2212]?\s*\$?\s*\.?\d")
_SIGNS = {"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"}
_OPERATORS_IN_WORDS = {"plus": "+", "minus": "-", "times": "*", "x": "*", "X": "*"}
# Words that change what the numbers beside them mean. One-letter words may be variables.
_UNCLEAR = re.compile(
    r"less|than|half|halves|twice|double|triple|thrice|thirds?|quarters?|fourths?|fifths?|sixths?"
    r"|sevenths?|eighths?|ninths?|tenths?|hundredths?|thousandths?|tens|ones|dozens?|hundreds?"
    r"|thousands?|millions?|billions?|trillions?|cents?|squared?|cubed?|power|factorial|choose"
    r"|remainder|divided|multiplied|subtracted|added|over|mod|modulo|sqrt|root|log|ln|sin|cos|tan"
    r"|gcd|lcm|max|min|average|mean|median|difference|product|ratio|absolute|am|pm|noon|midnight"
    r"|o['\u2019]clock|as|plus|minus",
    re.IGNORECASE,
)
# A verb ends the unit: in "the 3 towns is -48" nothing is subtracted from 3.
_VERB = re.compile(
    r"is|are|was|were|be|been|then|so|thus|hence|that|equals?|makes?|has|have|had|it"
)


# What a unit measures, and its size in the smallest unit of its kind.
Measure = tuple[str, Fraction]
_KINDS: dict[str, dict[str, int]] = {
    "time": {"second sec": 1, "minute min": 60, "hour hr": 3600, "day": 86400, "week": 604800},
    "years": {"month": 1, "year yr": 12, "decade": 120, "century centurie": 1200},
    "length": {"inch inche in": 1, "foot feet ft": 12, "yard yd": 36, "mile mi": 63360},
    "metres": {
        "millimeter millimetre mm": 1, "centimeter centimetre cm": 10, "meter metre": 1000,
        "kilometer kilometre km": 1000000,
    },
    "mass": {"ounce oz": 1, "pound lb": 16, "ton": 32000},
    "grams": {"milligram mg": 1, "gram": 1000, "kilogram kg kilo": 1000000, "tonne": 10**9},
    "volume": {"cup": 1, "pint": 2, "quart": 4, "gallon": 16},
    "litres": {"milliliter millilitre ml": 1, "liter litre": 1000},
    "money": {"penny pennie": 1, "dollar": 100},
    "count": {"piece single shoe sock egg": 1, "pair couple": 2},
}  # fmt: skip
_MEASURES: dict[str, Measure] = {
    name: (kind, Fraction(size))
    for kind, units in _KINDS.items()
    for names, size in units.items()
    for name in names.split()
}
# These count things, but a bare number is never in them.
_MEASURES |= {"nickel": ("money", Fraction(5)), "dime": ("money", Fraction(10))}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int
    value: Fraction = Fraction(0)
    decimals: int = 0


@dataclass(frozen=True)
class Reading:
    """One possible value of a run of tokens. num_operators: 0 for a lone number. measures: those of
    its units that are known."""

    value: Fraction
    start: int
    end: int
    num_operators: int
    units: frozenset[str]
    decimals: int
    measures: frozenset[Measure] = frozenset()


def tokens_of(line: str) -> list[Token]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(line):
        kind, text = str(match.lastgroup), match[0]
        follows_number = bool(tokens) and (
            tokens[-1].kind in ("number", "percent") or tokens[-1].text == ")"
        )
        value, decimals = Fraction(0), 0
        if kind == "number":
            digits = text.lstrip("$\u20ac\u00a3\u00a5\u20b9 ").replace(",", "")
            value, decimals = Fraction(digits), len(digits.partition(".")[2])
            if re.match(r"0\d", digits):
                kind = "other"  # a time or a code
        elif text == "\u2013" and follows_number:
            kind, text = "operator", "-"
        elif kind == "operator":
            text = _SIGNS.get(text, text)
        elif kind == "word" and text in _OPERATORS_IN_WORDS:
            # A sign only between two numbers, with or without a unit: `x` may be a variable, and
            # `5 times` a count.
            following = _NUMBER_FOLLOWS if len(text) == 1 else _SIGNED_NUMBER_FOLLOWS
            if _is_counted(tokens) and following.match(line, match.end()):
                kind, text = "operator", _OPERATORS_IN_WORDS[text]
        elif kind == "word" and text.lower() in ("percent", "pct"):
            kind = "percent"
        tokens.append(Token(kind, text, match.start(), match.end(), value, decimals))
    return tokens


def _is_counted(tokens: Sequence[Token]) -> bool:
    """Whether the tokens end in a number that at most three words of a unit follow."""
    for token in reversed(tokens[-4:]):
        if token.kind != "word":
            return token.kind in ("number", "percent") or token.text == ")"
    return False


def sizes_of(kind: str) -> set[Fraction]:
    """The sizes, in the smallest unit of this kind, of the units that a bare number may be in."""
    return {Fraction(size) for size in _KINDS[kind].values()}


def is_unclear(word: Token) -> bool:
    """Whether a word changes what the numbers beside it mean."""
    return _UNCLEAR.fullmatch(word.text) is not None or (len(word.text) == 1 and word.text != "a")


class Expression:
    """Reads numbers with optional units, joined by the four operations and parentheses.

    in_smallest_unit: convert each number to the smallest unit of its kind, so that 1 hour + 30
    minutes is 5400.
    """

    def __init__(
        self, tokens: Sequence[Token], percent: Fraction, *, in_smallest_unit: bool = False
    ):
        self._tokens = tokens
        self._percent = percent
        self._in_smallest_unit = in_smallest_unit
        self._at = 0
        self._operators: list[str] = []
        self._with_percent = 0
        self._operands = 0
        self._units: set[str] = set()
        self._decimals = 0
        self._measures: set[Measure] = set()

    def whole(self) -> Reading | None:
        """All tokens read as one expression."""
        reading = self._read()
        return reading if reading is not None and self._at == len(self._tokens) else None

    def prefixes(self) -> Iterator[Reading]:
        """The first expression and the first number; none where it is unclear what the next word
        means."""
        tokens = self._tokens
        reading = self._read()
        if reading is None or (self._at < len(tokens) and not self._may_end()):
            return
        yield reading
        if reading.num_operators:
            first = Expression(tokens, self._percent)
            number = first._first_number()
            if number is not None:
                yield number

    def _may_end(self) -> bool:
        following = self._tokens[self._at]
        if following.kind == "word":
            return not is_unclear(following)
        if following.kind != "other" or following.text not in _ENDS:
            return False
        # `= 6666.66...` continues.
        after = self._tokens[self._at + 1 : self._at + 2]
        return not (following.text == "." and after and after[0].text in (".", "\u2026"))

    def _first_number(self) -> Reading | None:
        try:
            value = self._signed()
        except (ValueError, ZeroDivisionError):
            return None
        return self._reading(value)

    def _read(self) -> Reading | None:
        try:
            value = self._sum()
        except (ValueError, ZeroDivisionError, RecursionError):
            return None
        mixed = 0 < self._with_percent < self._operands
        additive = [sign for sign in self._operators if sign in "+-"]
        # "50 + 20%" means different things to different people.
        if mixed and additive:
            return None
        if self._percent == 1 and self._with_percent and len(additive) < len(self._operators):
            # `8 / 32 * 100% = 25%` converts a share to percent.
            last = self._tokens[: self._at][-2:]
            if self._with_percent > 1 or [token.text for token in last] != ["100", "%"]:
                return None
        return self._reading(value)

    def _reading(self, value: Fraction) -> Reading:
        last = self._tokens[self._at - 1]
        for token in reversed(self._tokens[: self._at]):
            if token.kind != "word":
                last = token
                break
        return Reading(
            value,
            self._tokens[0].start,
            last.end,
            len(self._operators),
            frozenset(self._units),
            self._decimals,
            frozenset(self._measures),
        )

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take_operator(self, signs: str) -> str | None:
        token = self._peek()
        if token is None or token.kind != "operator" or token.text not in signs:
            return None
        self._at += 1
        self._operators.append(token.text)
        return token.text

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._take_operator("+-"):
            other = self._product()
            value = value + other if sign == "+" else value - other
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._take_operator("*/") or self._take_of():
            other = self._signed()
            value = value * other if sign == "*" else value / other
        return value

    def _take_of(self) -> str | None:
        """Take "of" where it multiplies: `20% of 50`, `1/2 of 10`, `8 packs of 5 bags`; not `5 for
        a total of 8`."""
        words = [token.kind == "word" for token in self._tokens[max(0, self._at - 2) : self._at]]
        match self._tokens[self._at : self._at + 2]:
            case [Token(kind="word", text="of"), Token(kind="number")] if not all(words):
                if self._tokens[self._at - 1].kind == "percent":
                    if self._percent == 1:
                        raise ValueError("a percentage of something is a share")
                    self._with_percent -= 1
                self._at += 1
                self._operators.append("*")
                return "*"
        return None

    def _signed(self) -> Fraction:
        token = self._peek()
        if token is not None and token.text == "-" and token.kind == "operator":
            self._at += 1
            return -self._operand()
        return self._operand()

    def _operand(self) -> Fraction:
        token = self._peek()
        if token is None:
            raise ValueError("an operand is missing")
        self._at += 1
        if token.text == "(":
            value = self._sum()
            closing = self._peek()
            if closing is None or closing.text != ")":
                raise ValueError("a parenthesis is not closed")
            self._at += 1
        elif token.kind == "number":
            value = token.value
            self._operands += 1
            self._decimals = token.decimals
            if token.text.startswith("$"):
                value = self._measured(value, "dollar")
        else:
            raise ValueError(f"not an operand: {token.text}")
        return self._with_units(value)

    def _with_units(self, value: Fraction) -> Fraction:
        token = self._peek()
        if token is not None and token.kind == "percent":
            self._at += 1
            self._with_percent += 1
            value *= self._percent
        for _ in range(3):
            match self._tokens[self._at : self._at + 2]:
                case [Token(kind="word", text="of"), Token(kind="number")]:
                    break
                case [Token(kind="word") as word, *_]:
                    value = self._counted(value, word)
                case _:
                    break
        # `$750/week`, `10 legs/mutant`: a unit under the slash.
        match self._tokens[self._at : self._at + 2]:
            case [Token(kind="operator", text="/"), Token(kind="word") as unit]:
                if not is_unclear(unit):
                    self._at += 2
        return value

    def _counted(self, value: Fraction, word: Token) -> Fraction:
        if is_unclear(word) or _VERB.fullmatch(word.text):
            raise ValueError(f"no unit: {word.text}")
        self._at += 1
        name = word.text.lower().rstrip("s")
        self._units.add(name)
        return self._measured(value, name)

    def _measured(self, value: Fraction, unit: str) -> Fraction:
        if unit not in _MEASURES:
            return value
        self._measures.add(_MEASURES[unit])
        return value * _MEASURES[unit][1] if self._in_smallest_unit else value
