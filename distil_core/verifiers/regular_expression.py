"""Verifier of responses that match a regular expression: one for all problems, or each its own."""

import re
from functools import reduce
from operator import or_
from typing import Annotated, Literal

from pydantic import Field, model_validator

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import quoted
from distil_core.verifiers._pattern_process import Anchoring, Match, PatternError, PatternProcess
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._stored_answer import stored_answer
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

Flag = Literal["ignore_case", "multi_line", "dot_all", "verbose", "ascii"]

_FLAGS: dict[Flag, re.RegexFlag] = {
    "ignore_case": re.IGNORECASE,
    "multi_line": re.MULTILINE,
    "dot_all": re.DOTALL,
    "verbose": re.VERBOSE,
    "ascii": re.ASCII,
}
_MAX_CHARACTERS = 100_000


class Options(VerifierOptions):
    """Python's regular expressions (`re`). Blanks around a response are set apart before it is
    matched, and so is what it thinks before it answers (`<think>..</think>`)."""

    pattern: str | None = None
    """Of all problems; null: each problem's reference is its pattern. With a group named `answer`,
    as in `Answer: (?P<answer>.+)`, what the group holds must be the problem's reference, blanks
    around both aside; without one, matching is all that is asked for."""
    anchoring: Anchoring = "whole"
    """`whole`: the pattern must match all of the response. `start`: its beginning. `anywhere`: any
    part of it; then `18` is found in `180` too, unless the pattern has `\\b` around it."""
    flags: tuple[Flag, ...] = ()
    """`ignore_case`, `multi_line` (^ and $ also at line ends), `dot_all` (. matches line ends too),
    `verbose` (blanks and comments in the pattern do not count), `ascii` (\\w, \\d and \\b of ASCII
    only)."""
    cpu_limit_s: Annotated[float, Field(ge=0.05, le=600, allow_inf_nan=False)] = 1.0
    """CPU seconds of one match. Patterns such as `(a+)+b` take for ever on some texts."""

    @property
    def flags_value(self) -> int:
        """The flags as `re` takes them."""
        return int(reduce(or_, (_FLAGS[flag] for flag in self.flags), re.NOFLAG))

    @model_validator(mode="after")
    def _is_readable(self) -> "Options":
        if self.pattern is None:
            return self
        try:
            compiled = re.compile(self.pattern, self.flags_value)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"pattern {self.pattern!r} is no regular expression: {error}"
            ) from error
        if "answer" not in compiled.groupindex and compiled.fullmatch(""):
            raise ValueError(
                f"pattern {self.pattern!r} matches the empty text, so that no answer would be "
                "right: let it match at least one character"
            )
        return self


class RegularExpressionVerifier(Verifier):
    """Malformed: a response that does not match a pattern that has a group `answer`, one that
    cannot be matched within the limit, and an empty one. Wrong: another answer in that group, or
    no match of a pattern without one. Reward 1 for all else."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"
        pattern = options.pattern
        # Whether a group of the common pattern is compared with the reference.
        self._compares = pattern is not None and "answer" in re.compile(pattern).groupindex
        self._process = PatternProcess(options.cpu_limit_s)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` where the reference is no pattern, or the process cannot run."""
        verdict, line, answer = self._judge(problem, without_reasoning(response).strip())
        if line and self._reveals:
            what = "answer" if self._options.pattern else "pattern"
            line += f" The right {what} is {quoted(problem.reference)}."
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", line),) if line else (),
            answer=None if answer is None else stored_answer(answer),
        )

    def check_problem(self, problem: Problem) -> None:
        """Raises `VerifierError` where the reference cannot be the right answer, or is no pattern
        that asks for anything."""
        if not problem.reference.strip():
            raise VerifierError(f"problem {problem.problem_id}: the reference is empty")
        if self._options.pattern is None and self._match(problem, "") is not None:
            raise VerifierError(
                f"problem {problem.problem_id}: the pattern {problem.reference[:80]!r} matches the "
                "empty text, so that no answer would be right"
            )

    def close(self) -> None:
        """End the process that matches."""
        self._process.close()

    def _judge(self, problem: Problem, text: str) -> tuple[Verdict, str, str | None]:
        """Verdict, feedback, and the answer where there is one."""
        if not text:
            return "malformed", "The response is empty.", None
        if len(text) > _MAX_CHARACTERS:
            return "malformed", f"The response has more than {_MAX_CHARACTERS} characters.", None
        found = self._match(problem, text)
        if found == "too_costly":
            limit = f"{self._options.cpu_limit_s:g} s"
            return "malformed", f"The response cannot be matched within {limit}.", None
        if found is None:
            verdict: Verdict = "malformed" if self._compares else "wrong"
            return verdict, "The response is not of the right form.", None
        if not self._compares:
            return "correct", "", found.text
        answer = (found.answer or "").strip()
        is_right = answer == problem.reference.strip()
        line = "" if is_right else f"The answer {quoted(answer)} is wrong."
        return "correct" if is_right else "wrong", line, answer

    def _match(self, problem: Problem, text: str) -> Match | Literal["too_costly"] | None:
        options = self._options
        pattern = problem.reference if options.pattern is None else options.pattern
        try:
            return self._process.match(pattern, options.flags_value, options.anchoring, text)
        except PatternError as error:
            raise VerifierError(
                f"problem {problem.problem_id}: {pattern[:80]!r} is no regular expression that can "
                f"be used: {error}"
            ) from error


def build(options: Options, reveal: str) -> RegularExpressionVerifier:
    """reveal: with 'expected_outputs' the feedback on a failed response ends with the reference."""
    return RegularExpressionVerifier(options, reveal)
