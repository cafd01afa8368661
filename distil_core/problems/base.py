"""The contract of a problem source."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distil_core.registry import ComponentOptions


class ProblemSourceOptions(ComponentOptions):
    """Base of a problem source's `Options`."""


@dataclass(frozen=True)
class Problem:
    """One problem. prompt: what the student sees. reference: the gold solution as text, read only
    by verifiers and never put into a context. metadata: JSON text for verifiers."""

    prompt: str
    reference: str
    metadata: str = "{}"

    @property
    def problem_id(self) -> str:
        """Sixteen hex digits of the prompt's hash: a problem has the same id everywhere."""
        return hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()

    @property
    def has_tests(self) -> bool:
        """Whether the metadata has tests, which means that the reference is one right program among
        many."""
        metadata = json.loads(self.metadata)
        return isinstance(metadata, dict) and bool(metadata.get("tests"))


@runtime_checkable
class ProblemSource(Protocol):
    """A stream of problems for one split ('warm_start', 'train' or 'eval').

    A generator may repeat itself and may be endless; a dataset ends. The order is part of the
    artifact, so it must depend only on the seed and the split's name.
    """

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The split's problems. The stage removes those that an earlier split has, so a source may
        return a problem in several splits."""
        ...

    def alphabet(self) -> str:
        """The characters of problems and responses, for a tokenizer made here."""
        ...


@runtime_checkable
class ReportingSource(ProblemSource, Protocol):
    """A source that can report what it found, for the metadata of its tables."""

    def report(self) -> dict[str, Any]:
        """JSON-able counts that depend only on the source's options."""
        ...


@runtime_checkable
class StoredSource(ProblemSource, Protocol):
    """A source of stored rows, all of which can be checked, by file and line."""

    def require_readable(self, check_problem: Callable[[Problem], None]) -> None:
        """Check each problem. check_problem raises `VerifierError` for a bad one; this raises
        `DataError` that names all of them, unless the options say to drop them."""
        ...


@runtime_checkable
class SupervisedSource(ProblemSource, Protocol):
    """A source that also makes the supervised texts on which a base policy is warm-started."""

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A demonstrator's solution, with a demonstrator's errors. Not the reference."""
        ...

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt as an unskilled student would write it: sometimes right, mostly not."""
        ...

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        """The right next character at each state along `attempt`: one for each of its characters
        and one more; fewer only where the solution ends earlier."""
        ...
