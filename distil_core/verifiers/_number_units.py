"""Units around a number, as words: which texts can be a unit, and how two units compare."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint

_MAX_WORDS = 12
_MAX_WORD = 30
_UNIT = re.compile(
    r"(?:[^\W\d_]+|[(/,%°$€£¥₹¢'\"-])(?:[^\W\d_]|\^\{?-?[1-9]\}?|[ ,./()%°*'\"$€£¥₹¢-])*"
)
_STOP = re.compile(r"(?<!\.)[.,;]$")
_PIECE = re.compile(r"[^\W\d_]+|\^\{?(-?[1-9])\}?|[%°$€£¥₹¢/]")
# Words that change the number before them, put it in doubt, or offer an alternative.
_CHANGING_WORDS = (
    "or maybe perhaps possibly probably likely about around approximately approx roughly nearly "
    "almost circa plus minus times divided multiplied added subtracted less more fewer greater "
    "larger smaller higher lower above below under over than between to through until not but if "
    "unless except either neither nor versus vs unsure uncertain unknown guess guessing think "
    "believe wait no actually instead rather correction sorry squared cubed factorial root half "
    "halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh eighth "
    "eighths ninth tenth tenths hundredth hundredths thousandth thousandths millionth millionths "
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred hundreds thousand thousands million millions billion billions trillion trillions "
    "dozen dozens twice double triple thrice modulo mod remainder remaining wrong incorrect false "
    "least most minimum maximum cannot can't isn't"
)
# A single letter is a variable, except for units that are common in word problems.
_SYMBOLS = frozenset("mgshlLdAVWNJKCFTa")
_FILLING_WORDS = (
    "a an the of in is are was were for and total altogether all each it they them that this unit "
    "units answer exactly only per final"
)
_CHANGING = frozenset(_CHANGING_WORDS.split())
_FILLERS = frozenset(_FILLING_WORDS.split())
_SAME = {
    "usd": "$", "us": "$", "dollar": "$", "buck": "$", "eur": "€", "euro": "€", "gbp": "pound",
    "£": "pound", "¢": "cent", "°": "degree", "deg": "degree", "percent": "%", "pct": "%",
    "inr": "₹", "rupee": "₹", "rs": "₹", "yen": "¥", "feet": "foot", "children": "child",
    "people": "person", "hr": "hour", "h": "hour", "min": "minute", "sec": "second", "s": "second",
    "men": "man", "women": "woman", "sq": "square", "mph": "mile/hour",
}  # fmt: skip
_MONEY = {("cent",): ("$", Fraction(1, 100))}


def unit_words(currency: str, text: str) -> tuple[str, ...] | None:
    """The unit before and after a number, as words and signs; None where the text after the number
    is no unit (`or 17`, `*2`, `x`, `million`)."""
    words = [currency.strip(" .")[-1:]] if currency.endswith("$") else [currency.strip(" .")]
    text = _STOP.sub("", text.strip()).strip()
    if text:
        if not _UNIT.fullmatch(text) or ".." in text:
            return None
        found = [match[0] for match in _PIECE.finditer(text)]
        if not all(map(_may_be_unit, found)) or len(found) > 2 * _MAX_WORDS or found == ["/"]:
            return None
        if not any(piece not in "/" for piece in found):
            return None
        words += found
    return tuple(filter(None, words))


def _may_be_unit(piece: str) -> bool:
    if not piece[0].isalnum():
        return True
    if not piece.isalpha():
        return False
    if len(piece) == 1 and piece not in _SYMBOLS:
        return False
    return len(piece) <= _MAX_WORD and piece.lower() not in _CHANGING


def is_percent(unit: tuple[str, ...]) -> bool:
    """Whether the unit is percent, in any spelling. Percentage points are a plain number of
    points."""
    plain = tuple(word.lower() for word in unit)
    return plain[:1] in (("%",), ("percent",), ("pct",)) or plain[:2] == ("per", "cent")


def factor_between(unit: tuple[str, ...], wanted: tuple[str, ...]) -> Fraction | None:
    """The factor that converts a number in `unit` to `wanted`: 1 where either is missing or both
    mean the same, None where they cannot be compared."""
    one, other = _significant(unit), _significant(wanted)
    if not one or not other or one == other:
        return Fraction(1)
    for source, target, is_inverse in ((one, other, False), (other, one, True)):
        if source in _MONEY and target == (_MONEY[source][0],):
            factor = _MONEY[source][1]
            return 1 / factor if is_inverse else factor
    converted = _converted(_expression(unit), _expression(wanted))
    if converted is not None:
        return converted or None
    # Such as "18 minutes longer": pint does not know this as a unit.
    words = {word for word in one if word[0].isalpha() or word in "$€₹¥%"}
    return Fraction(1) if words & set(other) else None


def _significant(unit: tuple[str, ...]) -> tuple[str, ...]:
    words = (_singular(word) for word in unit if word.lower() not in _FILLERS)
    return tuple(dict.fromkeys(words))


def _singular(word: str) -> str:
    plain = word.lower() if len(word) > 2 or word.lower() in _SAME else word
    if plain in _SAME:
        return _SAME[plain]
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if plain.endswith(ending) and len(plain) > len(ending) + 1:
            return plain.removesuffix(ending) + replacement
    if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss"):
        plain = plain[:-1]
    return _SAME.get(plain, plain)


def _expression(unit: tuple[str, ...]) -> str:
    """The unit as text for pint: names joined by products, each slash dividing by the next name
    only."""
    text = " ".join(unit).replace(" ^", "^").replace("^{", "^").replace("}", "")
    return text.replace("°", "degree")


@lru_cache(maxsize=1024)
def _converted(unit: str, wanted: str) -> Fraction | None:
    """The conversion factor; None where one of the two is no unit, 0 where they measure different
    things."""
    import pint

    registry = _registry()
    try:
        source, target = registry.parse_units(unit), registry.parse_units(wanted)
    except Exception:
        # On other words pint's parser raises whatever its tokenizer and Python's raise.
        return None
    try:
        return Fraction(registry.Quantity(Fraction(1), source).to(target).magnitude)
    except pint.DimensionalityError:
        return Fraction(0)
    except (pint.PintError, ArithmeticError, TypeError, ValueError):
        return None


@lru_cache(maxsize=1)
def _registry() -> "pint.UnitRegistry[Any]":
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(non_int_type=Fraction)
    return registry
