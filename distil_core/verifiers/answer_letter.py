"""Verifier of multiple choice answered by a letter, in a format that the problem prescribes.

The default rule is SciKnowEval's: `<reasoning>` and `<answer>` blocks, with only the letter in the
answer. Feedback says exactly which part of the rule is broken, as the student can fix that.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._final_answer import quoted
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

FormatRule = Literal["reasoning_and_answer", "answer", "boxed", "bare"]

_MAX_OPTION_CHARACTERS = 200
_MAX_MARKED_CHARACTERS = 100
_BOX_OPENING = re.compile(r"\\(?:boxed|fbox)\s*\{")
# Braces inside nest at most twice, as in \boxed{\textbf{(\text{B})}}.
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_MARKS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathsf|boldsymbol|mbox|boxed|fbox)\s*\{(.*)\}",
        r"\{(.*)\}",
        r"\((.*)\)",
        r"\[(.*)\]",
        r"\\\((.*)\\\)",
        r"\*\*(.*)\*\*",
        r"__(.*)__",
        r"`(.*)`",
        r"\$(.*)\$",
        r"(.*)[.)]",
    )
)


class Options(VerifierOptions):
    """The letter of an option. Blanks and marks around it are allowed, as in `(B)`, `**B**`, `B.`
    and `\\text{B}`. What a response thinks before it answers (`<think>..</think>`) is set apart.
    """

    letters: str = Field(default="ABCD", pattern=r"^[A-Za-z]{2,26}$")
    """Of the options, in order; the answer must be as it is written here, without the option's
    text."""
    format_rule: FormatRule = "reasoning_and_answer"
    """How the response must be written. `reasoning_and_answer`: one `<reasoning>..</reasoning>`,
    then one `<answer>..</answer>`, and nothing but blanks outside them. `answer`: any text, then
    one `<answer>..</answer>` at the end. `boxed`: one `\\boxed{..}`, or several with one letter.
    `bare`: the letter alone."""


class _FormatError(Exception):
    """The message says which part of the rule is broken."""


class AnswerLetterVerifier(Verifier):
    """Malformed: any break of the format rule, such as a missing, repeated, unclosed or misplaced
    block, text outside the blocks, boxes that differ, or an answer that is not one of the letters
    ("B: 5 m", "b", "" and "A, B" are malformed, even where they name the right option). Reward 1
    for the reference's letter."""

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference is not one of the letters."""
        expected = self._expected(problem)
        verdict: Verdict
        letter: str | None = None
        try:
            letter = self._letter(without_reasoning(response))
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

    def check_problem(self, problem: Problem) -> None:
        self._expected(problem)

    def _expected(self, problem: Problem) -> str:
        expected = _without_marks(problem.reference)
        if len(expected) != 1 or expected not in self._options.letters:
            raise VerifierError(
                f"the reference of problem {problem.problem_id} must be one of the letters "
                f"{self._options.letters}, found {problem.reference[:80]!r}"
            )
        return expected

    def _letter(self, response: str) -> str:
        contents = _CONTENTS_BY_RULE[self._options.format_rule](response)
        letters = {_without_marks(content) for content in contents}
        if len(letters) > 1:
            raise _FormatError(f"The response holds {len(contents)} boxes that differ.")
        content, letter = contents[-1].strip(), letters.pop()
        if not content:
            raise _FormatError("The answer is empty: it must be the letter of an option.")
        if len(letter) == 1 and letter in self._options.letters:
            return letter
        raise _FormatError(
            f"The answer is {quoted(content)}: it must be the letter of an option and nothing else."
        )


def _without_marks(content: str) -> str:
    r"""The content without marks that only set it off: `(B)`, `**B**`, `$\text{B}$`, `B.`"""
    if len(content) > _MAX_MARKED_CHARACTERS:
        return content.strip()
    content = unicodedata.normalize("NFKC", content).strip()
    while (inner := _mark_removed(content)) != content:
        content = inner
    return content


def _mark_removed(content: str) -> str:
    for mark in _MARKS:
        if match := mark.fullmatch(content):
            return match[1].strip()
    return content


def _reasoning_and_answer(response: str) -> list[str]:
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
    return [response[answer_start:answer_end]]


def _answer(response: str) -> list[str]:
    start, end = _block(response, "answer")
    _require_blank(response[end + len("</answer>") :], "after </answer>")
    return [response[start:end]]


def _boxed(response: str) -> list[str]:
    contents = [box[1] for box in _BOX.finditer(response)]
    if not contents or len(_BOX_OPENING.findall(response)) != len(contents):
        raise _FormatError("The response must hold \\boxed{..} with the letter of an option.")
    return contents


def _bare(response: str) -> list[str]:
    return [response]


_CONTENTS_BY_RULE: dict[FormatRule, Callable[[str], list[str]]] = {
    "reasoning_and_answer": _reasoning_and_answer,
    "answer": _answer,
    "boxed": _boxed,
    "bare": _bare,
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
    """The letter, with the option's text where the prompt has it on a line such as `B: 5 m`."""
    option = re.search(rf"^[ \t]*\(?{letter}[:.)][ \t]+(\S.*)$", prompt, re.MULTILINE)
    return f"{letter} ({option[1].strip()[:_MAX_OPTION_CHARACTERS]})" if option else letter


def build(options: Options, reveal: str) -> AnswerLetterVerifier:
    """reveal: with 'expected_outputs' the feedback names the right letter and its option."""
    return AnswerLetterVerifier(options, reveal)
