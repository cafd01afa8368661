"""What an environment may answer: sound, and of bounded size, whatever its `step` returned."""

import math
from typing import get_args

from distil_core.environments.base import FeedbackItem, Step, Verdict

MAX_CHARACTERS = 1_000_000
"""Of an observation, and of a step's feedback. More never leaves the environment's process."""
MAX_FEEDBACK_ITEMS = 64
"""Of one step; those after them are left out."""
_MAX_KIND_CHARACTERS = 100
_VERDICTS = get_args(Verdict)


def shortened(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """`text` as valid UTF-8, with the middle left out where it is too long; what is left out is
    counted in its place."""
    if len(text) > max_characters:
        marker = f"\n[.. {len(text) - max_characters} characters left out ..]\n"
        kept = max_characters - len(marker)
        text = f"{text[: kept - kept // 2]}{marker}{text[len(text) - kept // 2 :]}"
    # Tables and tokenizers have no lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def defect_of(step: object, judges: bool) -> str | None:
    """What is wrong with a step that could not be stored or counted; None where it is sound.
    judges: whether the environment says that it gives verdicts."""
    if not isinstance(step, Step):
        return f"{type(step).__name__} in place of a Step"
    if step.observation is not None and not isinstance(step.observation, str):
        return f"an observation that is {type(step.observation).__name__}, expected text or None"
    if (reward := step.reward) is not None and not _is_reward(reward):
        return f"the reward {reward!r:.100}, expected a number from 0 to 1 or None"
    if not isinstance(step.is_marked, bool):
        return f"is_marked {step.is_marked!r:.100}, expected True or False"
    if step.isolation is not None and not isinstance(step.isolation, str):
        return f"the isolation {step.isolation!r:.100}, expected text or None"
    return _wrong_feedback(step) or _wrong_verdict(step, judges)


def bounded(step: Step) -> Step:
    """A sound step with its texts shortened, of this module's own class: any subclass of an
    environment's might not be readable elsewhere."""
    observation = None if step.observation is None else shortened(str(step.observation))
    reward = None if step.reward is None else float(step.reward)
    items = tuple(step.feedback)[:MAX_FEEDBACK_ITEMS]
    share = MAX_CHARACTERS // max(1, len(items))
    feedback = tuple(
        FeedbackItem(str(item.kind), shortened(str(item.text), share)) for item in items
    )
    return Step(observation, reward, step.verdict, feedback, step.is_marked, step.isolation)


def _is_reward(reward: object) -> bool:
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        return False
    return math.isfinite(reward) and 0 <= reward <= 1


def _wrong_feedback(step: Step) -> str | None:
    if not isinstance(step.feedback, tuple | list):
        return f"feedback that is {type(step.feedback).__name__}, expected a tuple"
    for item in step.feedback:
        if not isinstance(item, FeedbackItem):
            return f"feedback that holds {type(item).__name__}, expected FeedbackItem"
        if not isinstance(item.kind, str) or not 0 < len(item.kind) <= _MAX_KIND_CHARACTERS:
            return f"feedback of kind {item.kind!r:.100}, expected a short name"
        if not isinstance(item.text, str):
            return f"feedback whose text is {type(item.text).__name__}"
    return None


def _wrong_verdict(step: Step, judges: bool) -> str | None:
    if step.verdict is not None and step.verdict not in _VERDICTS:
        return f"the verdict {step.verdict!r:.100}, expected one of {', '.join(_VERDICTS)}"
    if step.verdict is not None and not judges:
        return "a verdict, while its options say that it does not judge"
    if step.verdict is not None and step.observation is not None:
        return "a verdict together with an observation: a verdict is of a rollout that has ended"
    if judges and step.observation is None and (step.verdict is None or step.reward is None):
        return "the end of a rollout without verdict and reward, while its options say it judges"
    return None
