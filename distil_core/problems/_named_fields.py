"""Problems from rows whose fields the settings name: prompt, reference and metadata."""

from string import Formatter
from typing import Any

from distil_core.problems._row_fields import (
    METADATA,
    MissingField,
    as_json,
    find,
    is_blank,
    read_text,
    read_turns,
    reference_text,
    require_finite,
    require_no_messages,
    written,
)
from distil_core.problems._row_options import RowOptions
from distil_core.problems.base import Problem
from distil_core.problems.messages import Message, transcript, with_messages
from distil_core.problems.row_formats import Row


class NamedFields:
    """A `RowFormat` that makes a problem from the fields named by the options. A template's fields
    may be null, blank or missing in a row; `never_found` lists those that no row had."""

    def __init__(self, options: RowOptions):
        self._options = options
        self._literals, self._fields = _parsed(options.prompt_template or "")
        self._unseen = set(self._fields)

    def __call__(self, row: Row) -> Problem:
        options = self._options
        assert options.reference_field is not None, "checked when the options were read"
        reference = reference_text(find(row, options.reference_field), options.reference_field)
        if options.prompt_messages == "turns" and (messages := self._turns(row)):
            kept = with_messages(self._kept(row), messages)
            return Problem(transcript(messages), reference, as_json(kept, METADATA))
        prompt = self._prompt(row)
        if is_blank(prompt):
            raise ValueError("the prompt is blank: expected text that the student can read")
        return Problem(prompt, reference, as_json(self._kept(row), METADATA))

    def never_found(self) -> list[str]:
        """The template's fields that none of the rows so far had."""
        return sorted(self._unseen)

    def _prompt(self, row: Row) -> str:
        name = self._options.prompt_field
        if name is None:
            return self._filled(row)
        value = find(row, name)
        text = read_text(value, name)
        if text is None or is_blank(text):
            raise ValueError(f"{name!r} must be text that is not blank, found {value!r:.80}")
        return text

    def _turns(self, row: Row) -> tuple[Message, ...] | None:
        name = self._options.prompt_field
        assert name is not None, "checked when the options were read"
        return read_turns(find(row, name), name)

    def _filled(self, row: Row) -> str:
        texts = []
        missing: MissingField | None = None
        for field in self._fields:
            try:
                texts.append(_field_text(find(row, field), field))
                self._unseen.discard(field)
            except MissingField as error:
                missing = missing or error
                texts.append("")
        if not any(texts):
            raise missing or ValueError(
                f"all fields of prompt_template are empty: expected text in {self._fields}"
            )
        return _joined(self._literals, texts)

    def _kept(self, row: Row) -> dict[str, Any]:
        """What verifiers may read."""
        options = self._options
        if options.metadata_fields is None:
            used = {options.prompt_field, options.reference_field}
            kept = {name: row[name] for name in row if name not in used}
        else:
            # A verifier looks for `tests`, wherever they are in the row.
            kept = {
                name if name in row else name.rpartition(".")[2]: find(row, name)
                for name in options.metadata_fields
            }
        for name, value in kept.items():
            require_finite(value, repr(name))
        return kept


def _parsed(template: str) -> tuple[list[str], list[str]]:
    """The template's fields, and the texts before, between and after them."""
    literals, fields = [""], list[str]()
    for literal, field, _, _ in Formatter().parse(template):
        literals[-1] += literal
        if field is not None:
            fields.append(field)
            literals.append("")
    return literals, fields


def _field_text(value: Any, name: str) -> str:
    """The value as text; '' where it says nothing."""
    if value is None or (isinstance(value, list | dict) and not value):
        return ""
    text = read_text(value, name)
    if text is None:
        if isinstance(value, dict | list):
            require_no_messages(value, name)
        text = written(value, name)
    return "" if is_blank(text) else text


def _joined(literals: list[str], texts: list[str]) -> str:
    """The filled template. An empty field also removes the blanks after it, and at the end of the
    prompt those before it, so that no gap shows where it would be."""
    found = literals[0]
    for text, literal in zip(texts, literals[1:], strict=True):
        found += text + (literal if text or literal.strip() else "")
    is_open_end = not texts[-1] and not literals[-1].strip()
    return found.rstrip() if is_open_end else found
