"""The states of a rollout that a program is asked about."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from distil_core.experts.programs.base import Text
from distil_core.seeds import generator


@dataclass(frozen=True)
class Line:
    """One line of a response, with its end.

    start, stop: its states are those before the tokens start .. stop - 1; the first is the first
    state whose text reaches into the line. rest: what the student wrote of it from there on.
    is_last: whether no other line follows.
    """

    start: int
    stop: int
    rest: str
    is_last: bool


def lines_of(texts: Sequence[str]) -> list[Line]:
    """The lines of a response. texts: what the student wrote before each of its tokens, and at
    last all of it."""
    num_ends = [text.count("\n") for text in texts]
    num_states = len(texts) - 1
    starts = [at for at in range(num_states) if at == 0 or num_ends[at] > num_ends[at - 1]]
    lines = []
    for start, stop in pairwise([*starts, num_states]):
        is_last = stop == num_states and num_ends[-1] == num_ends[start]
        written = texts[-1][len(texts[start]) :]
        end = len(written) if is_last else written.find("\n") + 1
        lines.append(Line(start, stop, written[:end], is_last))
    return lines


def first_wrong_line(
    lines: Sequence[Line], answers: Mapping[int, Sequence[Text]], has_ended: bool
) -> Line | None:
    """The first line that is in none of the program's texts for its start; None where there is
    none. A line about which it said nothing counts as right. answers: texts by state. has_ended:
    whether the student ended the response."""
    for line in lines:
        texts = answers.get(line.start, ())
        if texts and not any(_has(text, line, has_ended) for text in texts):
            return line
    return None


def _has(text: Text, line: Line, has_ended: bool) -> bool:
    if line.is_last and has_ended and text.ends:
        return text.text == line.rest
    # A text that does not end yet may be the beginning of the line.
    return text.text.startswith(line.rest) or (not text.ends and line.rest.startswith(text.text))


def chosen(states: Sequence[int], share: float, seed: int, rollout_id: str) -> list[int]:
    """A share of the states, rounded up, in order; the same for the same seed and rollout."""
    if share >= 1.0:
        return list(states)
    order = generator(seed, "expert", "states", rollout_id).permutation(len(states))
    kept = order[: math.ceil(share * len(states))]
    return sorted(states[index] for index in kept.tolist())
