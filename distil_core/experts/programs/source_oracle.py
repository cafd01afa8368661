"""The problem source's own oracle, for any tokenizer: right from any state on."""

from collections.abc import Mapping

from pydantic import field_validator

from distil_core.config.models import Component
from distil_core.errors import ConfigError
from distil_core.experts.programs.base import Program, ProgramOptions, Reply, Text
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource

_MAX_CHARACTERS = 4096


class Options(ProgramOptions):
    """Which source knows the answers."""

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


class SourceOracle:
    """Asks for one character after another, as the oracle has them, until the solution ends."""

    def __init__(self, source: SupervisedSource):
        self._source = source

    def __call__(
        self, problem: Problem, response_so_far: str, feedback: Mapping[str, str]
    ) -> Reply:
        """What the oracle would write from here on."""
        written = response_so_far
        while len(written) - len(response_so_far) < _MAX_CHARACTERS:
            characters = self._source.oracle_characters(problem, written)
            if len(characters) <= len(written):
                return written[len(response_so_far) :]
            written += characters[len(written)]
        return Text(written[len(response_so_far) :], ends=False)


def build(options: Options) -> Program:
    """Raises `ConfigError` where the problem source has no oracle."""
    source = PROBLEM_SOURCES.build(options.source.name, options.source.options)
    if not isinstance(source, SupervisedSource):
        raise ConfigError(
            f"program 'source_oracle' needs a problem source with oracle_characters; "
            f"{options.source.name!r} has none: choose another program"
        )
    return SourceOracle(source)
