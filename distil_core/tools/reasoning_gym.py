"""Verifier of reasoning-gym problems: the generator's own scoring rule, in [0, 1]."""

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from distil_core.errors import VerifierError
from distil_core.problems._reasoning_gym_library import UNREADABLE, create_dataset
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools.base import FeedbackItem, Verification, Verifier

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

_MAX_ANSWER_CHARACTERS = 10_000


class Options(ComponentOptions):
    """answer: where it stands. `tag`: in the last `<answer>..</answer>`. `response`: it is the
    whole response."""

    answer: Literal["tag", "response"] = "tag"


class ReasoningGymVerifier(Verifier):
    """Malformed: no closed answer block, an empty answer, one above 10,000 characters, or one that
    the generator's rule cannot read: a rule that fails has taken the reference before. The
    reward is the generator's score; correct is a score of 1, anything below is wrong, also where
    the generator gives a part of the reward for it."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        self._dataset = cache(_dataset)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` for a problem of another source."""
        try:
            metadata: dict[str, Any] = json.loads(problem.metadata)
            name, config, entry = metadata["dataset"], metadata["config"], metadata["entry"]
        except (ValueError, KeyError, TypeError) as error:
            raise VerifierError(
                f"problem {problem.problem_id} is none of the source reasoning_gym "
                f"({type(error).__name__}: {error}): choose another consult.verifier"
            ) from error
        answer = self._answer(response)
        if answer is None:
            return _malformed("The response has no <answer>..</answer>.")
        if not answer:
            return _malformed("The answer is empty.")
        if len(answer) > _MAX_ANSWER_CHARACTERS:
            return _malformed(f"The answer is longer than {_MAX_ANSWER_CHARACTERS} characters.")
        dataset = self._dataset(name, json.dumps(config, sort_keys=True))
        try:
            score = float(dataset.score_answer(answer, entry))
        except UNREADABLE:
            return _malformed(f"The answer {answer!r:.200} is not in the form that is asked for.")
        reward = min(max(score, 0.0), 1.0)
        if reward == 1:
            return Verification(1.0, "correct", (), answer=answer)
        said = f"The answer {answer!r:.200} scores {reward:.2f} of 1."
        if self._reveals:
            said += f" An answer that scores 1 is {problem.reference!r:.500}."
        return Verification(reward, "wrong", (FeedbackItem("tool_output", said),), answer=answer)

    def _answer(self, response: str) -> str | None:
        if self._options.answer == "response":
            return response.strip()
        before, opened, _ = response.rpartition("</answer>")
        start = before.rfind("<answer>")
        return before[start + len("<answer>") :].strip() if opened and start >= 0 else None


def _malformed(said: str) -> Verification:
    return Verification(0.0, "malformed", (FeedbackItem("tool_output", said),))


def _dataset(name: str, config: str) -> "ProceduralDataset":
    return create_dataset(name, {**json.loads(config), "seed": 0, "size": 1})


def build(options: Options, reveal: str) -> ReasoningGymVerifier:
    """The verifier, by name from the registry."""
    return ReasoningGymVerifier(options, reveal)
