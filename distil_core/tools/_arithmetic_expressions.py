"""Plain arithmetic in prose: its tokens, and what a run of them can mean as an expression."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

_TOKEN = re.compile(
    r"(?P<number>(?:\$[ ]?)?(?:\d{1,3}(?:,\d{3}){1,9}(?!\d|,\d)|\d{1,40})(?:\.\d{1,40})?(?!\d)"
    r"|\$?\.\d{1,40})"
    r"|(?P<operator>[+*/\u00d7\u00f7\u2212-])(?![*/=])|(?P<equals>=)(?!=)|(?P<percent>%)"
    r"|(?P<paren>[()])|(?P<word>[^\W\d_]+(?:['\u2019-][^\W\d_]+)*)|(?P<other>\*\*|\S)"
)
_NUMBER_FOLLOWS = re.compile(r"\s*[$(]?\s*\.?\d")
_SIGNS = {"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"}
_OPERATORS_IN_WORDS = {"plus": "+", "minus": "-", "times": "*", "x": "*", "X": "*"}
# Words that change what the numbers beside them mean. One-letter words may be variables.
_UNCLEAR = re.compile(
    r"less|than|half|twice|double|triple|thrice|third|thirds|quarter|quarters|dozen|dozens"
    r"|hundred|thousand|million|billion|cent|cents|squared|cubed|remainder|divided"
    r"|multiplied|subtracted|added|over|mod|sqrt",
    re.IGNORECASE,
)


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
    """A value that a run of tokens can mean. num_operators: 0 for a lone number."""

    value: Fraction
    start: int
    end: int
    num_operators: int
    units: frozenset[str]
    decimals: int


def tokens_of(line: str) -> list[Token]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(line):
        kind, text = str(match.lastgroup), match[0]
        follows_number = bool(tokens) and (
            tokens[-1].kind in ("number", "percent") or tokens[-1].text == ")"
        )
        value, decimals = Fraction(0), 0
        if kind == "number":
            digits = text.replace("$", "").replace(",", "").strip()
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
            counted = follows_number or (len(tokens) > 1 and tokens[-2].kind == "number")
            if counted and _NUMBER_FOLLOWS.match(line, match.end()):
                kind, text = "operator", _OPERATORS_IN_WORDS[text]
        elif kind == "word" and text.lower() in ("percent", "pct"):
            kind = "percent"
        tokens.append(Token(kind, text, match.start(), match.end(), value, decimals))
    return tokens


def is_unclear(word: Token) -> bool:
    return _UNCLEAR.fullmatch(word.text) is not None or (len(word.text) == 1 and word.text != "a")


class Expression:
    """Reads numbers with optional units, joined by the four operations and parentheses."""

    def __init__(self, tokens: Sequence[Token], percent: Fraction):
        self._tokens = tokens
        self._percent = percent
        self._at = 0
        self._operators: list[str] = []
        self._with_percent = 0
        self._operands = 0
        self._units: set[str] = set()
        self._decimals = 0

    def whole(self) -> Reading | None:
        """The reading of all tokens as one expression."""
        reading = self._read()
        return reading if reading is not None and self._at == len(self._tokens) else None

    def prefixes(self) -> Iterator[Reading]:
        """The first expression and the first number; nothing where what follows is unclear."""
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
        return following.kind == "other" and following.text not in ("^", "**", "!", ":", "_", "\\")

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
            # `8 / 32 * 100% = 25%` is the way a share is turned into percent.
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
        while sign := self._take_operator("*/"):
            other = self._signed()
            value = value * other if sign == "*" else value / other
        return value

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
        else:
            raise ValueError(f"not an operand: {token.text}")
        return self._with_units(value)

    def _with_units(self, value: Fraction) -> Fraction:
        token = self._peek()
        if token is not None and token.kind == "percent":
            self._at += 1
            self._with_percent += 1
            value *= self._percent
            token = self._peek()
            if token is not None and token.text == "of" and self._next_is_number():
                self._at += 1
                self._operators.append("*")
                return value * self._operand()
        for _ in range(3):
            token = self._peek()
            if token is None or token.kind != "word":
                break
            if is_unclear(token):
                raise ValueError(f"unclear: {token.text}")
            self._units.add(token.text.lower().rstrip("s"))
            self._at += 1
        # `$750/week`, `10 legs/mutant`: a unit under the slash.
        match self._tokens[self._at : self._at + 2]:
            case [Token(kind="operator", text="/"), Token(kind="word") as unit]:
                if not is_unclear(unit):
                    self._at += 2
        return value

    def _next_is_number(self) -> bool:
        following = self._tokens[self._at + 1 : self._at + 2]
        return bool(following) and following[0].kind == "number"
