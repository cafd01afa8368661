"""Answers that no rule may give the full score to, whatever it calculates.

Rules of reasoning-gym read numbers with Python's readers, which take `nan`, and compare with what
comes of them: `min(1, nan)` is 1. Nothing of the library is needed here.
"""

import re
from fractions import Fraction

_NOT_FINITE = re.compile(r"(?<![^\W\d_])(?:nan|inf|infinity)[ij]?(?![^\W\d_])", re.IGNORECASE)
# A number that takes more room than any answer: 1e99999999 as a fraction has as many digits.
_HUGE_EXPONENT = re.compile(r"\d\.?[eE][-+]?0*[1-9][\d_]{3,}")
_MAX_NUMBER_CHARACTERS = 200
_RELATIVE_TOLERANCE = Fraction(1, 10)


def is_costly(answer: str) -> bool:
    """Whether it holds a number with an exponent of four digits or more, which no answer has."""
    return _HUGE_EXPONENT.search(answer) is not None


def contradicts(answer: str, right_answer: str) -> bool:
    """Whether an answer cannot be right whatever its score: it holds a number that is not finite
    where the right one holds none, or both are one number and they differ by more than a tenth."""
    if answer.strip() == right_answer.strip():
        return False
    if _NOT_FINITE.search(answer) and not _NOT_FINITE.search(right_answer):
        return True
    found, expected = _number(answer), _number(right_answer)
    if found is None or expected is None:
        return False
    return abs(found - expected) > _RELATIVE_TOLERANCE * abs(expected)


def _number(text: str) -> Fraction | None:
    plain = text.strip().replace(",", "")
    if len(plain) > _MAX_NUMBER_CHARACTERS or is_costly(plain):
        return None
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None
