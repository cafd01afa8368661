"""What components of several kinds give besides their answer: rewards and feedback."""

import math
from collections.abc import Iterable

from distil_core.feedback.sources import known_kinds
from distil_core.testing.checks import require
from distil_core.verifiers.base import FeedbackItem


def require_reward(reward: object, where: str, expected: str = "a number in [0, 1]") -> None:
    """Raise unless it is a number from 0 to 1. where: when it was given."""
    require(
        isinstance(reward, int | float)
        and not isinstance(reward, bool)
        and math.isfinite(reward)
        and 0 <= reward <= 1,
        f"{where} the reward is {reward!r}, expected {expected}",
    )


def require_feedback(items: Iterable[object], where: str) -> None:
    """Raise unless all of it is text of a kind that contexts may name. where: when it was given."""
    for item in items:
        require(
            isinstance(item, FeedbackItem)
            and item.kind in known_kinds()
            and isinstance(item.text, str),
            f"{where} feedback holds {item!r:.80}, expected FeedbackItem(kind, text) with a kind "
            f"of {', '.join(sorted(known_kinds()))}",
        )
