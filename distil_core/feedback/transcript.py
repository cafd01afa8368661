"""A rollout as its readers get it in place of a single response: the expert in {attempt}, sources
of feedback, people."""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from distil_core.config.models import ContextParams
from distil_core.tables.schemas import ConsultationRow, FeedbackItem, RolloutRow

_NAMES = {"tool": "Tool", "user": "User"}


class Spoken(Protocol):
    """A turn: what the policy said, and what it read after it."""

    @property
    def action(self) -> str: ...
    @property
    def observation(self) -> str | None: ...


def transcript_of(turns: Sequence[Spoken], params: ContextParams) -> str:
    """The turns as one text, without what the environment answered to the last of them. In a chat
    each has its speaker's name; otherwise it is the text that the policy saw and wrote."""
    *earlier, last = turns
    if not earlier or params.environment is None:
        return last.action
    if params.chat:
        name = _NAMES[params.environment.role]
        said = [(f"Assistant: {turn.action}", f"{name}: {turn.observation}") for turn in earlier]
        return "\n\n".join([*chain.from_iterable(said), f"Assistant: {last.action}"])
    template = params.environment.observation_template
    texts = [
        turn.action + template.replace("{observation}", turn.observation or "") for turn in earlier
    ]
    return "".join([*texts, last.action])


def attempt_text(rollout: RolloutRow, params: ContextParams, num_turns: int | None = None) -> str:
    """The rollout up to its turn `num_turns`, by default all of it."""
    if not rollout.turns:
        return rollout.response
    return transcript_of(rollout.turns[:num_turns], params)


def feedback_on(
    rollout: RolloutRow, consultation: ConsultationRow | None, num_turns: int | None = None
) -> tuple[FeedbackItem, ...]:
    """What was said of the turns up to `num_turns`, by default all, and then of the whole rollout,
    where that is to be known."""
    of_turns = chain.from_iterable(turn.feedback for turn in rollout.turns[:num_turns])
    return (*of_turns, *(consultation.feedback if consultation else ()))
