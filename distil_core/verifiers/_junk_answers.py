"""Answers that must never get the full score, whatever a scoring rule computes.

Rules of reasoning-gym parse numbers with Python, which accepts `nan`, and then compare: `min(1,
nan)` is 1. This module does not need the library.
"""

import re
from fractions import Fraction

_NOT_FINITE = re.compile(r"(?<![^\W\d_])(?:nan|inf|infinity)[ij]?(?![^\W\d_])", re.IGNORECASE)
# A number larger than any answer: 1e99999999 as a fraction has that many digits.
_HUGE_EXPONENT = re.compile(r"\d\.?[eE][-+]?0*[1-9][\d_]{3,}")
_MAX_NUMBER_CHARACTERS = 200
_RELATIVE_TOLERANCE = Fraction(1, 10)


def is_costly(answer: str) -> bool:
    """Whether the answer holds a number with an exponent of four or more digits, as no right answer
    has."""
    return _HUGE_EXPONENT.search(answer) is not None


def contradicts(answer: str, right_answer: str) -> bool:
    """Whether an answer cannot be right, whatever its score: it holds a number that is not finite
    where the right answer holds none, or both are single numbers that differ by more than a
    tenth."""
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
