"""What programs have in common that ask a problem source's own oracle."""

from collections.abc import Callable

from pydantic import field_validator

from distil_core.config.models import Component
from distil_core.experts.programs.base import ProgramOptions, Reply, Text
from distil_core.problems import PROBLEM_SOURCES

_MAX_CHARACTERS = 4096


class OracleOptions(ProgramOptions):
    """Which source knows what is right."""

    source: Component
    """The problem source, as in problems.source."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: Component) -> Component:
        PROBLEM_SOURCES.options(source.name, source.options)
        return source

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The problem source."""
        return (("problem source", self.source.name),)


def written_on(oracle_characters: Callable[[str], str], so_far: str) -> Reply:
    """One right character after another until the text ends, or is very long.

    oracle_characters: of a text, the right next character at each state along it, and none after
    its end where it ends there or earlier.
    """
    written = so_far
    while len(written) - len(so_far) < _MAX_CHARACTERS:
        characters = oracle_characters(written)
        if len(characters) <= len(written):
            return written[len(so_far) :]
        written += characters[len(written)]
    return Text(written[len(so_far) :], ends=False)
