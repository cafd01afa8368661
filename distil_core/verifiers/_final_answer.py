"""Find the final answer in a response, and quote responses in feedback."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

AnswerForm = Literal["hash", "boxed", "answer_tag", "plain"]

# A longer text is not an answer, and reading it would take longer.
MAX_ANSWER_CHARACTERS = 1000
_MAX_BOXES = 100

# A tag around the answer does not belong to it.
_HASH = re.compile(r"####[^\S\n]*((?:(?!</answer>)[^\n])*)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# Boxes joined only by such a text are one answer with several parts: \boxed{1} or \boxed{2}.
_JOINED = re.compile(
    r"[\s$*]*(?:\\[()\[\]])?\s*(,|;|(?:,\s*)?(?:or|and)|\\(?:text|quad|qquad)\s*(?:\{\s*(?:or|and)\s*\})?)"
    r"\s*(?:\\[()\[\]])?[\s$*]*"
)
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_ANNOUNCED = re.compile(r"answer(?:\s+is\b|\s*:)\s*:?", re.IGNORECASE)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

_WRITTEN_AS = {
    "hash": "a line '#### answer'",
    "boxed": "\\boxed{answer}",
    "answer_tag": "<answer>answer</answer>",
    "plain": "the answer on the last line",
}


@dataclass(frozen=True)
class FinalAnswer:
    """The text of an answer and the form it was found in."""

    text: str
    form: AnswerForm


def find_final_answer(text: str, forms: Collection[AnswerForm]) -> FinalAnswer | None:
    r"""The final answer of a response; None where it is in none of the accepted forms.

    Of the marked forms (`#### 18`, `\boxed{18}`, `<answer>18</answer>`) the one that begins last
    counts, whatever it holds; boxes joined by "or", "and" or a comma are one answer. If no accepted
    marked form is present and `plain` is accepted, the answer is what follows the last "answer is"
    or "answer:" on its line, or else the last line that is not empty.
    """
    marked: list[tuple[int, FinalAnswer]] = []
    if "hash" in forms:
        marked += [(m.start(), FinalAnswer(m[1].strip(), "hash")) for m in _HASH.finditer(text)]
    if "boxed" in forms:
        marked += _boxed(text)
    if "answer_tag" in forms:
        marked += [
            (m.start(), FinalAnswer(m[1].strip(), "answer_tag")) for m in _TAG.finditer(text)
        ]
    marked = [(start, answer) for start, answer in marked if answer.text]
    if marked:
        return max(marked, key=lambda found: found[0])[1]
    return _plain(text) if "plain" in forms else None


def reference_answer(reference: str) -> str:
    """The marked answer of a reference; the whole reference where it has no marks."""
    marked = find_final_answer(reference, ("hash", "boxed", "answer_tag"))
    return marked.text if marked else reference.strip()


def _boxed(text: str) -> list[tuple[int, FinalAnswer]]:
    """The last box with balanced braces, with the boxes joined to it; None where there is none."""
    found: tuple[int, str] | None = None
    for box in list(_BOX.finditer(text))[: -_MAX_BOXES - 1 : -1]:
        end = _end_of_box(text, box.end())
        if end is None:
            continue
        content = text[box.end() : end].strip()
        if found is None:
            found = box.start(), content
            continue
        joined = _JOINED.fullmatch(text, end + 1, found[0]) if end < found[0] else None
        if joined is None:
            break
        sign = " or " if "or" in joined[1] else ", "
        found = box.start(), f"{content}{sign}{found[1]}"
    return [(found[0], FinalAnswer(found[1], "boxed"))] if found else []


def _end_of_box(text: str, start: int) -> int | None:
    depth = 1
    for brace in _BRACE.finditer(text, start, start + 4 * MAX_ANSWER_CHARACTERS):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def _plain(text: str) -> FinalAnswer | None:
    announced = list(_ANNOUNCED.finditer(text))
    if announced:
        rest = text[announced[-1].end() :].partition("\n")[0].strip()
        if rest:
            return FinalAnswer(rest, "plain")
    lines = text.rstrip().rsplit("\n", 1)
    return FinalAnswer(lines[-1].strip(), "plain") if lines[-1].strip() else None


def described(forms: Collection[AnswerForm]) -> str:
    """The accepted forms in words, as feedback to a response that uses none of them."""
    return " or ".join(text for form, text in _WRITTEN_AS.items() if form in forms)


def quoted(text: str, max_characters: int = 80) -> str:
    """Text of a response for one line of feedback: in quotes, shortened, and valid UTF-8."""
    line = " ".join(text[: 4 * max_characters].split())
    shortened = len(line) > max_characters or len(text) > 4 * max_characters
    line = line[:max_characters] + ("..." if shortened else "")
    printable = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in line
    )
    return f"'{printable}'"
