"""How what tools say reads in the expert's context, by `context.wording`.

A verifier's feedback is stored in its own words, and worded anew here each time that it is read. So
other words need no other verdicts. Of a line that states a correction the parts are known: the
expression that was checked, the value it was given, and the one that it really has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from distil_core.config.models import WordingParams
from distil_core.verifiers.base import FeedbackItem

_FORMS = tuple(
    map(
        re.compile,
        (
            r"(?P<expression>.+) = (?P<value>[^=]+), not (?P<stated>.+)",
            r"(?P<expression>.+) = (?P<value>(?P<stated>[^=]+)), as stated",
            r"(?:test \d+(?: \(hidden\))?: )?"
            r"(?P<expression>.+) returned (?P<stated>.+), expected (?P<value>.+)",
            r"(?P<expression>The final answer) (?P<stated>.+) is wrong; it is (?P<value>.+)\.",
        ),
    )
)
"""Lines that state a correction, or that none is needed (docs/feedback-tools.md#corrections)."""

_AS_SAID = WordingParams()


@dataclass(frozen=True)
class Correction:
    """A checked expression as text, the value that it really has, and the one stated for it."""

    expression: str
    value: str
    stated: str

    def in_words(self, template: str) -> str:
        """The template with the parts in its fields."""
        return template.format_map(vars(self))


def read_correction(line: str) -> Correction | None:
    """The correction that a tool's line states; None for a line that states none."""
    for form in _FORMS:
        if found := form.fullmatch(line):
            return Correction(**found.groupdict())
    return None


def worded(feedback: Sequence[FeedbackItem], wording: WordingParams) -> tuple[FeedbackItem, ...]:
    """The feedback as the expert is to read it. Items of a kind that `wording` is about become one
    item; it is missing where nothing of them is kept. Those of other kinds stay as they are."""
    if wording == _AS_SAID:
        return tuple(feedback)
    said: dict[str, list[str]] = {}
    for item in feedback:
        if item.kind in wording.kinds:
            said.setdefault(item.kind, []).extend(item.text.split("\n"))
    kept = [item for item in feedback if item.kind not in wording.kinds]
    for kind, lines in said.items():
        words = [text for line in lines if (text := _in_words(line, wording)) is not None]
        if words:
            kept.append(FeedbackItem(kind, wording.separator.join(words)))
    return tuple(kept)


def worded_verdict(verdict: str, wording: WordingParams) -> str:
    """The word for a verdict."""
    return next((word for known, word in wording.verdicts.items() if known == verdict), verdict)


def _in_words(line: str, wording: WordingParams) -> str | None:
    correction = read_correction(line)
    if correction is None:
        return line if wording.keep == "all" else None
    return line if wording.correction is None else correction.in_words(wording.correction)
