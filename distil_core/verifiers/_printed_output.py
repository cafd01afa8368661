"""Compares what a program printed with what it should have printed."""

import re
from decimal import Decimal, localcontext

_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][-+]?\d{1,3})?", re.ASCII)
_MAX_DIGITS = 400
_MAX_TOLERANCE = Decimal("1e-6")


def same_output(printed: str, expected: str, comparison: str) -> bool:
    """Whether the output is right by 'exact', 'lines' or 'tokens': see the options of
    stdin_programs."""
    if printed == expected:
        return True
    if comparison == "exact":
        return False
    if comparison == "tokens":
        return _same_tokens(printed.split(), expected.split())
    given, wanted = printed.rstrip().split("\n"), expected.rstrip().split("\n")
    return len(given) == len(wanted) and all(map(_same_line, given, wanted))


def _same_line(printed: str, expected: str) -> bool:
    printed, expected = printed.rstrip(), expected.rstrip()
    if printed == expected:
        return True
    given, wanted = printed.split(), expected.split()
    if not _same_tokens(given, wanted):
        return False
    # Between words, blanks are part of the expected output; between numbers they only separate.
    return all(map(_NUMBER.fullmatch, wanted)) or re.findall(r"\s+", printed) == re.findall(
        r"\s+", expected
    )


def _same_tokens(printed: list[str], expected: list[str]) -> bool:
    return len(printed) == len(expected) and all(map(same_numbers, printed, expected))


def same_numbers(printed: str, expected: str) -> bool:
    """Whether two words are the same text or the same number: 0.5 and 0.50, 1 and 1.0.

    A number with decimals may be off by a relative error of one millionth, or by rounding to the
    digits of the expected number, at most a millionth. Beside a whole number only the rounding is
    allowed. A word with a leading zero is text, not a number.
    """
    if printed == expected:
        return True
    if max(len(printed), len(expected)) > _MAX_DIGITS:
        return False
    if not (_NUMBER.fullmatch(printed) and _NUMBER.fullmatch(expected)):
        return False
    with localcontext() as context:
        context.prec = 3 * _MAX_DIGITS
        given, wanted = Decimal(printed), Decimal(expected)
        return abs(given - wanted) <= _tolerance(given, wanted)


def _tolerance(given: Decimal, wanted: Decimal) -> Decimal:
    if given == given.to_integral_value() and wanted == wanted.to_integral_value():
        return Decimal(0)
    exponent = wanted.as_tuple().exponent
    assert isinstance(exponent, int), "neither infinite nor NaN"
    rounding = min(_MAX_TOLERANCE, Decimal(5).scaleb(exponent - 1))
    return max(rounding, _MAX_TOLERANCE * abs(wanted)) if exponent < 0 else rounding
