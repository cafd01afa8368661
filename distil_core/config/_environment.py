"""Settings of an environment: what answers the policy between its turns."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from distil_core.config._base import Component, Positive

_FIELD = "{observation}"


class EnvironmentParams(Component):
    """What answers the policy between its turns. Without one, a rollout is a single response."""

    max_turns: Annotated[int, Field(ge=2, le=64)]
    """The most turns of a rollout. One that would need more is cut, and has no reward."""
    max_observation_tokens: PositiveInt
    """The longest answer of the environment, in tokens; of a longer one the middle is left out."""
    step_timeout_s: Positive | None = 60.0
    """Seconds that the environment may take for one answer; null for no limit. A rollout that
    exceeds it is a row with an error."""
    role: Literal["tool", "user"] = "tool"
    """Whose message an answer is, where the context is a chat."""
    declare_tools: bool = False
    """Whether the chat template gets the schemas of the environment's tools, to write them where it
    has a place for them."""
    observation_template: str = _FIELD
    """What is written between two turns, around the environment's answer: the message's text in a
    chat, and all that is there otherwise."""
    expert_sees: Literal["hindsight", "past"] = "hindsight"
    """What the expert reads at the states of a turn. 'hindsight': the feedback on all turns and the
    verdict. 'past': the feedback on this turn and those before it, nothing of what came later."""

    @field_validator("observation_template")
    @classmethod
    def _has_its_field(cls, template: str) -> str:
        if template.count(_FIELD) != 1:
            raise ValueError(f"expected the field {_FIELD} once in it, found {template!r}")
        return template
