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
    """One problem. prompt: what the student sees. reference: the gold solution as text, read by
    verifiers only and never put into a context. metadata: JSON text for verifiers."""

    prompt: str
    reference: str
    metadata: str = "{}"

    @property
    def problem_id(self) -> str:
        """Sixteen hex digits of the prompt's hash: the same problem has the same id anywhere."""
        return hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()

    @property
    def has_tests(self) -> bool:
        """Whether the metadata hold tests, so that the reference is one right program of many."""
        metadata = json.loads(self.metadata)
        return isinstance(metadata, dict) and bool(metadata.get("tests"))


@runtime_checkable
class ProblemSource(Protocol):
    """A stream of problems of one split ('warm_start', 'train' or 'eval').

    A generator may repeat itself and may be endless; a dataset ends. Order is part of the
    artifact, so it must depend on nothing but the seed and the split's name.
    """

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The split's problems. Those that an earlier split holds are left out by the stage, so
        that a source may give one in several."""
        ...

    def alphabet(self) -> str:
        """Characters that problems and responses are written in (for a tokenizer made here)."""
        ...


@runtime_checkable
class ReportingSource(ProblemSource, Protocol):
    """A source that can say what it found, for the tables of its problems."""

    def report(self) -> dict[str, Any]:
        """JSON-able counts that depend on the source's options alone."""
        ...


@runtime_checkable
class StoredSource(ProblemSource, Protocol):
    """A source of stored rows, which can be looked through as a whole, by file and line."""

    def require_readable(self, check_problem: Callable[[Problem], None]) -> None:
        """Have each of its problems checked. check_problem raises `VerifierError`; this raises
        `DataError` that names all such problems, unless its options say to drop them."""
        ...


@runtime_checkable
class SupervisedSource(ProblemSource, Protocol):
    """A source that can also make the supervised text a base policy is warm-started on."""

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A demonstrator's solution, as flawed as demonstrators are. Not the reference."""
        ...

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt such as an unskilled student would make: sometimes right, mostly not."""
        ...

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        """What should be written at each of the states along `attempt`: one character for each
        of its characters and one more, fewer only where the solution ends before that."""
        ...
