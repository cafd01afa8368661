"""A user's own supervised rows: JSON Lines of prompt and response, some with feedback."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distil_core.config.models import SupervisedFile, WarmStartParams
from distil_core.errors import DataError
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.problems._pinned_files import jsonl_rows
from distil_core.problems.refused import Refused
from distil_core.validation import did_you_mean

_FIELDS_OF_FEEDBACK = ATTEMPT_FIELDS - {"prompt"}


@dataclass(frozen=True)
class SupervisedRow:
    """where: file and line. feedback: by field of context.expert_template; None where the row is a
    demonstration."""

    where: str
    prompt: str
    response: str
    feedback: Mapping[str, str] | None


def read_supervised_rows(
    file: SupervisedFile, params: WarmStartParams, kinds: Collection[str]
) -> list[SupervisedRow]:
    """The file's rows, in its order. kinds: the possible kinds of feedback (`known_kinds`).

    Raises `DataError` where the file cannot be read or is another than the pinned one, for rows
    that are none, all of them named, and where a phase asks for rows of a kind that there is none
    of.
    """
    known = _FIELDS_OF_FEEDBACK.union(kinds)
    rows, refused = list[SupervisedRow](), Refused()
    for where, row in jsonl_rows(_pinned_content(file), file.path):
        try:
            rows.append(_row(where, row, params, known))
        except ValueError as error:
            refused.add(where, str(error))
    if refused.count:
        raise DataError(
            f"{refused.count} rows of base.warm_start.file cannot be used:\n  {refused}"
        )
    num_corrections = sum(row.feedback is not None for row in rows)
    for wanted, found, kind, share in (
        (params.has_corrections, num_corrections, "corrections", "above 0"),
        (params.has_demonstrations, len(rows) - num_corrections, "demonstrations", "below 1"),
    ):
        if wanted and not found:
            raise DataError(
                f"{file.path} has {len(rows)} rows and no {kind} (rows with "
                f"{'a' if kind == 'corrections' else 'no'} field {params.feedback_field!r}), and a "
                f"phase of base.warm_start has a correction_fraction {share}: change either"
            )
    return rows


def _pinned_content(file: SupervisedFile) -> bytes:
    try:
        content = Path(file.path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"cannot read base.warm_start.file, {file.path}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{file.path} has SHA-256 {found}, base.warm_start.file says "
            f"{file.sha256 or 'nothing yet'}: if these are the rows you mean, write that there"
        )
    return content


def _row(
    where: str, row: Mapping[str, Any], params: WarmStartParams, known: Collection[str]
) -> SupervisedRow:
    prompt, response = (
        _text(row.get(name), f"field {name!r}")
        for name in (params.prompt_field, params.response_field)
    )
    feedback = row.get(params.feedback_field)
    if feedback is None:
        return SupervisedRow(where, prompt, response, None)
    if not isinstance(feedback, dict):
        raise ValueError(
            f"field {params.feedback_field!r}: expected an object with fields of "
            f"context.expert_template, found {feedback!r:.80}"
        )
    for name in sorted(feedback.keys() - known):
        raise ValueError(
            f"field {params.feedback_field!r}: no field {name!r} of context.expert_template; known "
            f"are {', '.join(sorted(known))}{did_you_mean(name, sorted(known))}"
        )
    named = {
        name: _text(value, f"field {params.feedback_field!r}, {name!r}", may_be_empty=True)
        for name, value in feedback.items()
    }
    return SupervisedRow(where, prompt, response, named)


def _text(value: object, what: str, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise ValueError(f"{what}: expected text, found {value!r:.80}")
    # JSON can hold half a surrogate pair, which is no character.
    value.encode()
    return value
