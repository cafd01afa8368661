"""The contract of a program: what it is asked at one of the student's states, and what it says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from distil_core.problems.base import Problem
from distil_core.problems.turns import TurnSoFar
from distil_core.registry import ComponentOptions


@dataclass(frozen=True)
class Text:
    """How a response may go on from where the student stands.

    weight: its share, beside that of the program's other texts for the state. ends: whether the
    response ends with the text; where it does not, the program knows no further, and the text's
    last token is no label, since it may be the beginning of a longer one.
    """

    text: str
    weight: float = 1.0
    ends: bool = True


Reply: TypeAlias = str | Text | Sequence[str | tuple[str, float] | Text] | None
"""None, or no text: nothing to say at this state. Several texts: the label is their mixture, each
with the same share or, as (text, weight), with its own. "" is the end of the response, here."""


@runtime_checkable
class Program(Protocol):
    """Says how a response goes on. It runs in a process of its own, with a time limit; whatever it
    raises is a failure at this one state. The same question must have the same reply."""

    def __call__(
        self, problem: Problem, response_so_far: str, feedback: Mapping[str, str], /
    ) -> Reply:
        """The rest of the response, without what is in `response_so_far`.

        feedback: the text of each field of the expert's context: `prompt`, `attempt` (the whole
        response, of which the response so far is the beginning), `verdict`, and by kind what the
        tools said; a kind about which nothing was said is missing.
        """
        ...


@runtime_checkable
class TurnProgram(Program, Protocol):
    """A program that can be asked about each turn of a rollout in an environment; its
    `Options.follows_turns` is true."""

    def __call__(
        self,
        problem: Problem,
        response_so_far: str,
        feedback: Mapping[str, str],
        /,
        *,
        turns: Sequence[TurnSoFar] = (),
    ) -> Reply:
        """The rest of the turn, without what is in `response_so_far`, the turn's text so far. The
        end of a text that ends is the end of the turn.

        turns: those before it, with what the environment answered; none in a single response and in
        the first turn. feedback: `attempt` is the rollout as one text, and the tools' words are
        those on all turns; with context.environment.expert_sees past, up to the end of this turn.
        """
        ...


class ProgramOptions(ComponentOptions):
    """Base of a program's `Options`."""

    @property
    def follows_turns(self) -> bool:
        """Whether it is a `TurnProgram`, which is handed `turns`. One that is not cannot know what
        happened before a turn, and is not asked about rollouts in an environment."""
        return False


def texts_of(reply: object) -> tuple[Text, ...]:
    """The texts of a `Reply`, none where the program has nothing to say. Raises `ValueError` that
    says what it is instead, where it is none."""
    if reply is None:
        return ()
    entries = [reply] if isinstance(reply, str | Text) else reply
    if not isinstance(entries, Sequence) or isinstance(entries, bytes):
        raise ValueError(f"{_shown(reply)}, expected a text, several, or None")
    texts = tuple(_text_of(entry) for entry in entries)
    if texts and not math.fsum(text.weight for text in texts) > 0:
        raise ValueError("texts whose weights sum to 0")
    return texts


def _text_of(entry: object) -> Text:
    if isinstance(entry, tuple) and len(entry) == 2:
        entry = Text(*entry)
    elif isinstance(entry, str):
        entry = Text(entry)
    if not isinstance(entry, Text) or not isinstance(entry.text, str):
        raise ValueError(f"{_shown(entry)}, expected a text or (text, weight)")
    weight = entry.weight
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"the weight {weight!r}, expected a number from 0 on")
    try:
        entry.text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{entry.text!r:.80}, which is no valid text") from None
    return Text(entry.text, float(weight), bool(entry.ends))


def _shown(found: object) -> str:
    return f"{type(found).__name__} {found!r:.80}"
