"""Find the answer in a line of prose: `So she makes 18 dollars.`, `18 because 9 * 2 = 18.`"""

import re
from collections.abc import Iterator

from distil_core.verifiers._answer_text import unmarked
from distil_core.verifiers._math_latex import MathTextError
from distil_core.verifiers._math_text import Node, read_math

_MAX_STARTS = 20
_REASON = re.compile(r",?\s(?:because|since|as|which|where|so)\s", re.IGNORECASE)
_SEGMENT = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_NUMBER = re.compile(r"(?<![\w.,/^*+\\{(-])[-+]?[$€£]?\.?\d")
# Texts before a number that make it one of several, or part of an expression.
_JOINING = re.compile(
    r"(?:\b(?:or|and|to|than|about|around|approximately|roughly|not|nor|between|maybe|perhaps|plus"
    r"|minus|times|of|over)|[-+*/^=<>~,(]|\d)\s*$",
    re.IGNORECASE,
)


def read_plain_answer(text: str, *, with_clock: bool) -> Node:
    """The whole line as an answer, or its last part that is one. Raises `MathTextError`."""
    try:
        return read_math(text, with_clock=with_clock)
    except MathTextError as error:
        if error.is_doubt:
            raise
        first_error = error
    for part in _parts(text):
        try:
            return read_math(part, with_clock=with_clock)
        except MathTextError as error:
            if error.is_doubt:
                raise
    raise first_error


def _parts(text: str) -> Iterator[str]:
    """The parts of the line that may be the answer: the line up to a reason given for it, its last
    formula, and every part from a number to the end of the line."""
    if reason := _REASON.search(text):
        yield text[: reason.start()]
        text = text[: reason.start()]
    segments = list(_SEGMENT.finditer(text))
    if segments and not re.search(r"\d", _SEGMENT.sub("", text[segments[-1].start() :])):
        yield next(filter(None, segments[-1].groups()))
    plain = unmarked(text)
    for start in list(_NUMBER.finditer(plain))[:_MAX_STARTS]:
        before = plain[: start.start()]
        if not _JOINING.search(before) or before.rstrip().endswith("="):
            yield plain[start.start() :]
