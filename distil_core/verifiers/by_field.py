"""Verifier that leaves each problem to another verifier, by a field of the problem's metadata.

For data of several kinds in one file: numbers to one verifier, short texts to another.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

from pydantic import Field, model_validator

from distil_core.config.models import Component
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.sandbox.limits import Isolation
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._metadata import metadata_of
from distil_core.verifiers.base import Verification, Verifier, VerifierOptions

_WEAKEST_FIRST: tuple[Isolation, ...] = ("rlimits_only", "bubblewrap_cold", "bubblewrap_zygote")


class Options(VerifierOptions):
    """Other verifiers, each with its own options; a wrong one is a `ConfigError` at once."""

    field: str = Field(min_length=1)
    """The field of the problem's metadata that decides (`metadata_fields` of a problem source keeps
    it)."""
    verifiers: dict[str, Component] = Field(min_length=1)
    """By the field's value, written as text: `text: {name: exact_text}`. A number or a truth value
    is named as JSON writes it, as in `"3"` or `"true"`."""
    otherwise: Component | None = None
    """Of problems with another value, or without the field; null: such a problem is refused."""

    @model_validator(mode="after")
    def _are_verifiers(self) -> Self:
        for component in self.used:
            VERIFIERS.options(component.name, component.options)
        return self

    @property
    def used(self) -> tuple[Component, ...]:
        """The verifiers, in order."""
        last = () if self.otherwise is None else (self.otherwise,)
        return (*self.verifiers.values(), *last)

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """Those that it leaves problems to, and what they use."""
        own = [("verifier", component.name) for component in self.used]
        theirs = [
            used
            for component in self.used
            for used in VERIFIERS.options(component.name, component.options).components_used
        ]
        return tuple(dict.fromkeys([*own, *theirs]))

    @property
    def runs_code_under(self) -> Isolation | None:
        """The weakest of theirs."""
        kinds = {VERIFIERS.options(each.name, each.options).runs_code_under for each in self.used}
        return next((kind for kind in _WEAKEST_FIRST if kind in kinds), None)


class ByFieldVerifier(Verifier):
    """All that a problem's own verifier says."""

    def __init__(self, options: Options, reveal: str):
        self.isolation = options.runs_code_under
        self._field = options.field
        with ExitStack() as built:
            self._by_value: Mapping[str, Verifier] = {
                value: _built(component, reveal, built)
                for value, component in options.verifiers.items()
            }
            otherwise = options.otherwise
            self._otherwise = None if otherwise is None else _built(otherwise, reveal, built)
            self._all = built.pop_all()
        verifiers = [*self._by_value.values(), *([self._otherwise] if self._otherwise else [])]
        self.is_bounded = all(verifier.is_bounded for verifier in verifiers)

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` where no verifier is named for the problem."""
        return self._of(problem).verify(problem, response)

    def check_problem(self, problem: Problem) -> None:
        self._of(problem).check_problem(problem)

    def close(self) -> None:
        """Close the verifiers."""
        self._all.close()

    def _of(self, problem: Problem) -> Verifier:
        metadata = metadata_of(problem)
        found = metadata.get(self._field)
        verifier = self._by_value.get(_as_text(found)) or self._otherwise
        if verifier is None:
            what = f"has {found!r:.80}" if self._field in metadata else "is missing"
            raise VerifierError(
                f"problem {problem.problem_id}: the field {self._field!r} of its metadata {what}; "
                f"expected one of {', '.join(self._by_value)} (consult.verifier.options.otherwise "
                "names the verifier of all others)"
            )
        return verifier


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _built(component: Component, reveal: str, built: ExitStack) -> Verifier:
    verifier = VERIFIERS.build(component.name, component.options, reveal=reveal)
    built.callback(verifier.close)
    return verifier


def build(options: Options, reveal: str) -> ByFieldVerifier:
    """reveal: given to each verifier."""
    return ByFieldVerifier(options, reveal)
