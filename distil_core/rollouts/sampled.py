"""A rollout as it was sampled: its turns, and what the environment made of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distil_core.engines.base import SampledResponse, require_responses
from distil_core.environments.base import FeedbackItem, Step, Verdict
from distil_core.errors import EnvironmentFault


@dataclass(frozen=True)
class SampledTurn:
    """response: what the policy wrote. action: its text. step: what became of it; None where it was
    cut, and so was never done. observation_ids: the tokens after it, before the next turn; the
    observation's text as the policy read it is in `observation`."""

    response: SampledResponse
    action: str
    step: Step | None = None
    observation: str | None = None
    observation_ids: Sequence[int] = ()


@dataclass(frozen=True)
class SampledRollout:
    """turns: empty where there is an error, which says why there is no rollout. attempt: all of it
    as one text (`transcript_of`). is_cut: its last turn was too long, or it would have needed more
    turns than it may have. is_fault: whether the error is the environment's, not the engine's."""

    turns: tuple[SampledTurn, ...]
    attempt: str = ""
    is_cut: bool = False
    error: str | None = None
    is_fault: bool = False

    @classmethod
    def of_response(cls, response: SampledResponse, text: str) -> SampledRollout:
        """A single response and its text."""
        if response.error is not None:
            return cls((), error=response.error)
        turns = (SampledTurn(response, text),)
        return cls(turns, text, is_cut=response.finish_reason == "length")

    @property
    def answer(self) -> str:
        """The text of the last turn, which a verifier judges."""
        return self.turns[-1].action if self.turns else ""

    @property
    def verdict(self) -> Verdict | None:
        """The environment's, where it judges and the rollout came to its end."""
        step = self.turns[-1].step if self.turns else None
        return None if step is None or self.is_cut else step.verdict

    @property
    def feedback(self) -> tuple[FeedbackItem, ...]:
        """The environment's, on all turns."""
        return tuple(item for turn in self.turns if turn.step for item in turn.step.feedback)

    @property
    def has_steps(self) -> bool:
        """Whether an environment answered. A single response that was cut is like any other."""
        return any(turn.step is not None for turn in self.turns)

    @property
    def token_ids(self) -> list[int]:
        """All tokens after the context: each turn's, and those between it and the next."""
        return [
            token_id
            for turn in self.turns
            for token_id in (*turn.response.token_ids, *turn.observation_ids)
        ]

    @property
    def response(self) -> SampledResponse:
        """The rollout as one response: the policy's tokens alone, and how the last turn ended."""
        if self.error is not None:
            return SampledResponse.failed(self.error)
        return SampledResponse(
            [token_id for turn in self.turns for token_id in turn.response.token_ids],
            [value for turn in self.turns for value in turn.response.behaviour_logprobs],
            "length" if self.is_cut else self.turns[-1].response.finish_reason,
        )


def require_rollouts(rollouts: Sequence[SampledRollout]) -> None:
    """Raise `EngineError` or `EnvironmentFault` where the engine or the environment failed on more
    than a tenth of the rollouts (one may always): that is no matter of single rollouts any more."""
    require_responses([one.response for one in rollouts if not one.is_fault])
    faults = [one.error for one in rollouts if one.is_fault]
    allowed = min(max(1, len(rollouts) // 10), len(rollouts) - 1)
    if len(faults) > allowed:
        raise EnvironmentFault(
            f"the environment failed on {len(faults)} of {len(rollouts)} rollouts, at most "
            f"{allowed} may be without an end; the first says: {faults[0]}. Mend the reason and "
            "run the stage again"
        )
