"""Verifier of reasoning-gym problems: the generator's own scoring rule, in [0, 1]."""

import json
import math
from functools import cache
from typing import Any, Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.reasoning_gym_library import create_dataset
from distil_core.verifiers._junk_answers import contradicts, is_costly
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._scoring_process import ScoringProcess
from distil_core.verifiers._stored_answer import stored_answer
from distil_core.verifiers.base import FeedbackItem, Verification, Verifier, VerifierOptions

_MAX_ANSWER_CHARACTERS = 10_000


class Options(VerifierOptions):
    """Scored by the library reasoning-gym."""

    answer: Literal["tag", "response"] = "tag"
    """Where it stands. `tag`: in the last `<answer>..</answer>`. `response`: it is the whole
    response."""
    cpu_limit_s: float = Field(default=5.0, gt=0, le=600)
    """CPU seconds of scoring one answer."""
    memory_limit_mib: int = Field(default=4096, ge=512)
    """Memory of scoring one answer."""


class ReasoningGymVerifier(Verifier):
    """Malformed: no closed answer block, an empty answer, one with more than 10,000 characters, one
    that the generator's rule cannot read (where it does accept the reference), and one that cannot
    be scored within the limits. The reward is the generator's score. Correct is a score of 1;
    anything less is wrong, even where the generator gives partial reward. `nan`, and numbers that
    the reference contradicts, get no reward whatever the rule says."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        self._process = ScoringProcess(options.cpu_limit_s, options.memory_limit_mib << 20)
        self._require_usable = cache(_require_usable)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge the response. Raises `VerifierError` for a problem of another source, or one whose
        own answer its rule does not accept, and `ConfigError` where the library or the generator
        cannot be used."""
        name, config, entry = _metadata(problem)
        answer = self._answer(without_reasoning(response))
        refused = _refused(answer)
        if answer is None or refused:
            return _malformed(refused or "")
        self._require_usable(name, config)
        score = self._process.score(name, config, entry, answer)
        if score == "unreadable":
            return _malformed(f"The answer {answer!r:.200} is not in the form that is asked for.")
        if score == "too_costly":
            limits = f"{self._options.cpu_limit_s:g} s and {self._options.memory_limit_mib} MiB"
            return _malformed(f"The answer {answer!r:.200} cannot be scored within {limits}.")
        reward = min(max(score, 0.0), 1.0) if math.isfinite(score) else 0.0
        if reward == 1 and contradicts(answer, problem.reference):
            reward = 0.0
        stored = stored_answer(answer)
        if reward == 1:
            return Verification(1.0, "correct", (), answer=stored)
        said = f"The answer {answer!r:.200} scores {reward:.2f} of 1."
        if self._reveals:
            said += f" An answer that scores 1 is {problem.reference!r:.500}."
        return Verification(reward, "wrong", (FeedbackItem("tool_output", said),), answer=stored)

    def check_problem(self, problem: Problem) -> None:
        name, config, _ = _metadata(problem)
        self._require_usable(name, config)

    def close(self) -> None:
        self._process.close()

    def _answer(self, response: str) -> str | None:
        if self._options.answer == "response":
            return response.strip()
        before, opened, _ = response.rpartition("</answer>")
        start = before.rfind("<answer>")
        return before[start + len("<answer>") :].strip() if opened and start >= 0 else None


def _metadata(problem: Problem) -> tuple[str, str, dict[str, Any]]:
    """The generator's name, its settings as JSON in one form, and the problem as it was
    generated."""
    try:
        metadata: dict[str, Any] = json.loads(problem.metadata)
        name, config, entry = metadata["dataset"], metadata["config"], metadata["entry"]
        if not (isinstance(name, str) and isinstance(config, dict) and isinstance(entry, dict)):
            raise TypeError("dataset is text, config and entry are objects")
        return name, json.dumps(config, sort_keys=True), entry
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerifierError(
            f"problem {problem.problem_id} is none of the source reasoning_gym "
            f"({type(error).__name__}: {error}): choose another consult.verifier"
        ) from error


def _require_usable(name: str, config: str) -> None:
    create_dataset(name, {**json.loads(config), "seed": 0, "size": 1})


def _refused(answer: str | None) -> str | None:
    """Why an answer is not passed to the rule; None where it is."""
    if answer is None:
        return "The response has no <answer>..</answer>."
    if not answer:
        return "The answer is empty."
    if len(answer) > _MAX_ANSWER_CHARACTERS:
        return f"The answer is longer than {_MAX_ANSWER_CHARACTERS} characters."
    if is_costly(answer):
        return f"The answer {answer!r:.200} holds a number that is too large."
    return None


def _malformed(said: str) -> Verification:
    return Verification(0.0, "malformed", (FeedbackItem("tool_output", said),))


def build(options: Options, reveal: str) -> ReasoningGymVerifier:
    """The verifier, by name from the registry."""
    return ReasoningGymVerifier(options, reveal)
