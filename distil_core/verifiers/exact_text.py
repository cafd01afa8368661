"""Verifier of answers that are a text: is it exactly this one?

For names, labels, codes, short phrases: whatever has one spelling, or a few that the data lists.
"""

import re
import unicodedata
from typing import Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import (
    AnswerForm,
    described,
    find_final_answer,
    quoted,
)
from distil_core.verifiers._metadata import metadata_of
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._stored_answer import stored_answer
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

_BLANKS = re.compile(r"\s+")


class Options(VerifierOptions):
    """The reference's text, character by character. Two ways to encode the same characters (é as
    one code point or as two) are the same text. What a response thinks before it answers
    (`<think>..</think>`) is set apart."""

    forms: tuple[AnswerForm, ...] | None = Field(default=None, min_length=1)
    """In which the response may give its answer: `hash` (`#### yes`), `boxed` (`\\boxed{yes}`),
    `answer_tag` (`<answer>yes</answer>`), `plain` (the last line). null: the whole response is the
    answer."""
    blanks: Literal["exact", "ends", "runs"] = "ends"
    """`ends`: blanks and line ends around the answer do not count. `runs`: nor does how many stand
    between its words. `exact`: each counts."""
    letter_case: bool = True
    """Whether `Paris` and `paris` differ."""
    also_field: str | None = None
    """A field of the problem's metadata with further answers that are right, a list of texts; a
    problem without it has the reference alone."""


class ExactTextVerifier(Verifier):
    """Malformed: an empty answer, or none in one of the forms. Reward 1 for the reference, or for
    one of the further answers."""

    def __init__(self, options: Options, reveal: str):
        # Searching for a form is quick on what models write, but no bound on any text is shown.
        self.is_bounded = options.forms is None
        self._options = options
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` where the reference or the further answers cannot be read."""
        accepted = self._accepted(problem)
        answer = self._answer(without_reasoning(response))
        verdict: Verdict
        if answer is None or not answer.strip():
            where = f" as {described(self._options.forms)}" if self._options.forms else ""
            verdict, line = "malformed", f"The response gives no answer{where}."
        elif (form := self._form(answer)) in {self._form(text) for text in accepted}:
            verdict, line = "correct", ""
        else:
            verdict, line = "wrong", f"The answer {quoted(answer)} is wrong."
            nearly = {_loosest(text) for text in accepted}
            if _loosest(answer) in nearly:
                line += " It differs from the right one only in letter case or blanks."
        if line and self._reveals:
            line += f" The right answer is {quoted(accepted[0])}."
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", line),) if line else (),
            answer=None if verdict == "malformed" else stored_answer(form),
        )

    def check_problem(self, problem: Problem) -> None:
        self._accepted(problem)

    def _answer(self, response: str) -> str | None:
        if self._options.forms is None:
            return response
        found = find_final_answer(response, self._options.forms)
        return found.text if found else None

    def _accepted(self, problem: Problem) -> list[str]:
        """The reference's answer first."""
        reference = problem.reference
        if self._options.forms is not None:
            # Worked solutions mark their answer as responses do; a bare answer is one line.
            found = find_final_answer(reference, [*{*self._options.forms} - {"plain"}])
            reference = found.text if found else reference
        accepted = [reference, *self._also(problem)]
        if not all(text.strip() for text in accepted):
            raise VerifierError(
                f"problem {problem.problem_id}: expected a text as the right answer, found blanks"
            )
        return accepted

    def _also(self, problem: Problem) -> list[str]:
        field = self._options.also_field
        if field is None:
            return []
        also = metadata_of(problem).get(field)
        found = [] if also is None else also
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise VerifierError(
                f"problem {problem.problem_id}: expected a list of texts in the metadata's "
                f"{field!r}, found {str(found)[:80]!r}"
            )
        return found

    def _form(self, text: str) -> str:
        """What texts that count as the same have in common."""
        text = unicodedata.normalize("NFC", text)
        if self._options.blanks != "exact":
            text = text.strip()
        if self._options.blanks == "runs":
            text = _BLANKS.sub(" ", text)
        return text if self._options.letter_case else _folded(text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


def _loosest(text: str) -> str:
    return _folded(_BLANKS.sub("", unicodedata.normalize("NFC", text)))


def build(options: Options, reveal: str) -> ExactTextVerifier:
    """reveal: with 'expected_outputs' the feedback on a failed answer ends with the right one."""
    return ExactTextVerifier(options, reveal)
