"""Problems from JSON Lines files: one object a line, such as GSM8K's `{"question", "answer"}`.

The files are outside the campaign, so the settings pin their content: each has its SHA-256, and
an iteration frozen with other bytes is refused instead of silently becoming another one.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from distil_core.errors import DataError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.seeds import generator


class JsonlFile(ComponentOptions):
    """path: from the workspace's root, or absolute. sha256: of the file's bytes."""

    path: str
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")


class Options(ComponentOptions):
    """train, eval: the two files; problems of one never come from the other. prompt_field,
    reference_field: names in each object; all other fields are kept as metadata."""

    train: JsonlFile
    eval: JsonlFile
    prompt_field: str
    reference_field: str


class JsonlSource:
    """Each split's file in a seeded order."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """Raises `DataError` naming file and line of what cannot be read."""
        file = self._options.eval if split == "eval" else self._options.train
        lines = _checked_text(file).split("\n")
        for index in generator(seed, "problems", split).permutation(len(lines)):
            if lines[index].strip():
                yield self._problem(lines[index], f"{file.path}, line {index + 1}")

    def alphabet(self) -> str:
        """Nothing of its own: these problems are for models with a tokenizer."""
        return ""

    def _problem(self, line: str, where: str) -> Problem:
        try:
            values: dict[str, Any] = json.loads(line)
            prompt = values.pop(self._options.prompt_field)
            reference = values.pop(self._options.reference_field)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{where}: expected a JSON object with {self._options.prompt_field!r} and "
                f"{self._options.reference_field!r}, found {line[:80]!r} "
                f"({type(error).__name__}: {error})"
            ) from error
        if not isinstance(prompt, str) or not prompt:
            raise DataError(
                f"{where}: {self._options.prompt_field!r} must be text, found {prompt!r}"
            )
        text = reference if isinstance(reference, str) else json.dumps(reference)
        return Problem(prompt, text, json.dumps(values, sort_keys=True))


def _checked_text(file: JsonlFile) -> str:
    try:
        content = Path(file.path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the problems in {file.path}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{file.path} has SHA-256 {found}, the settings say "
            f"{file.sha256 or 'nothing yet'}: if these are the problems you mean, write that "
            "into problems.source.options"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file.path} is not UTF-8 text: {error}") from error


def build(options: Options) -> JsonlSource:
    """The source, by name from the registry."""
    return JsonlSource(options)
