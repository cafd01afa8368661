"""Verifier of multiple choice answered by a letter, in a format that the problem prescribes.

The default rule is SciKnowEval's: `<reasoning>` and `<answer>` blocks, with only the letter in
the answer. What exactly breaks the rule is said, for that is what the student can mend.
"""

import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools._final_answer import quoted
from distil_core.tools.base import FeedbackItem, Verdict, Verification, Verifier

FormatRule = Literal["reasoning_and_answer", "answer", "boxed", "bare"]

_MAX_OPTION_CHARACTERS = 200
_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


class Options(ComponentOptions):
    """letters: of the options, in order. format_rule: how the response must be written.

    `reasoning_and_answer`: one `<reasoning>..</reasoning>`, then one `<answer>..</answer>`, and
    nothing but blanks outside them. `answer`: any text, then one `<answer>..</answer>` at the end.
    `boxed`: exactly one `\\boxed{..}`. `bare`: the letter alone. Blanks around the letter are
    allowed; it must be as `letters` writes it, without the option's text.
    """

    letters: str = Field(default="ABCD", pattern=r"^[A-Za-z]{2,26}$")
    format_rule: FormatRule = "reasoning_and_answer"


class _FormatError(Exception):
    """The message says which part of the rule is broken."""


class AnswerLetterVerifier(Verifier):
    """Malformed: any break of the format rule, such as a missing, repeated, unclosed or misplaced
    block, text outside the blocks, or anything but one of the letters as answer ("B: 5 m", "b", ""
    and "A, B" are all malformed, also where they name the right option). Reward 1 for the
    reference's letter."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference is not one of the letters."""
        expected = problem.reference.strip()
        if len(expected) != 1 or expected not in self._options.letters:
            raise VerifierError(
                f"the reference of problem {problem.problem_id} must be one of the letters "
                f"{self._options.letters}, found {problem.reference[:80]!r}"
            )
        verdict: Verdict
        letter: str | None = None
        try:
            letter = self._letter(response)
        except _FormatError as error:
            verdict, line = "malformed", str(error)
        else:
            verdict = "correct" if letter == expected else "wrong"
            line = f"Option {_described(letter, problem.prompt)} is wrong."
        if self._reveals:
            line += f" The right option is {_described(expected, problem.prompt)}."
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=() if verdict == "correct" else (FeedbackItem("tool_output", line),),
            answer=letter,
        )

    def _letter(self, response: str) -> str:
        content = _CONTENT_BY_RULE[self._options.format_rule](response)
        letter = content.strip()
        if not letter:
            raise _FormatError("The answer is empty: it must be the letter of an option.")
        if len(letter) == 1 and letter in self._options.letters:
            return letter
        raise _FormatError(
            f"The answer is {quoted(letter)}: it must be the letter of an option and nothing else."
        )


def _reasoning_and_answer(response: str) -> str:
    reasoning_start, reasoning_end = _block(response, "reasoning")
    answer_start, answer_end = _block(response, "answer")
    if answer_start < reasoning_end:
        raise _FormatError("The <answer> block must come after the <reasoning> block.")
    for place, text in (
        ("before <reasoning>", response[: reasoning_start - len("<reasoning>")]),
        (
            "between the two blocks",
            response[reasoning_end + len("</reasoning>") : answer_start - len("<answer>")],
        ),
        ("after </answer>", response[answer_end + len("</answer>") :]),
    ):
        _require_blank(text, place)
    return response[answer_start:answer_end]


def _answer(response: str) -> str:
    start, end = _block(response, "answer")
    _require_blank(response[end + len("</answer>") :], "after </answer>")
    return response[start:end]


def _boxed(response: str) -> str:
    boxes = _BOX.findall(response)
    if len(boxes) != 1:
        raise _FormatError(
            f"The response must hold \\boxed{{..}} once, and has it {len(boxes)} times."
        )
    return str(boxes[0])


_CONTENT_BY_RULE: dict[FormatRule, Callable[[str], str]] = {
    "reasoning_and_answer": _reasoning_and_answer,
    "answer": _answer,
    "boxed": _boxed,
    "bare": str,
}


def _block(response: str, tag: str) -> tuple[int, int]:
    """Start and end of a block's content; each of its two tags must be there exactly once."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    for mark in (opening, closing):
        if (count := response.count(mark)) != 1:
            problem = f"has no {mark}" if count == 0 else f"has {mark} {count} times"
            raise _FormatError(
                f"The response {problem}: it must hold {opening}..{closing} exactly once."
            )
    start, end = response.index(opening) + len(opening), response.index(closing)
    if end < start:
        raise _FormatError(f"{closing} stands before {opening}.")
    return start, end


def _require_blank(text: str, place: str) -> None:
    if text.strip():
        raise _FormatError(f"There must be nothing {place}, found {quoted(text.strip())}.")


def _described(letter: str, prompt: str) -> str:
    """The letter, and the option's text where the prompt has it on a line such as `B: 5 m`."""
    option = re.search(rf"^[ \t]*\(?{letter}[:.)][ \t]+(\S.*)$", prompt, re.MULTILINE)
    return f"{letter} ({option[1].strip()[:_MAX_OPTION_CHARACTERS]})" if option else letter


def build(options: Options, reveal: str) -> AnswerLetterVerifier:
    """reveal: with 'expected_outputs' the feedback names the right letter and its option."""
    return AnswerLetterVerifier(options, reveal)
