"""The problem source's own oracle, for any tokenizer: right from any state on."""

from collections.abc import Mapping
from functools import partial

from distil_core.errors import ConfigError
from distil_core.experts.programs._oracles import OracleOptions, written_on
from distil_core.experts.programs.base import Program, Reply
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource


class Options(OracleOptions):
    """Which source knows the answers."""


class SourceOracle:
    """Asks for one character after another, as the oracle has them, until the solution ends."""

    def __init__(self, source: SupervisedSource):
        self._source = source

    def __call__(
        self, problem: Problem, response_so_far: str, feedback: Mapping[str, str]
    ) -> Reply:
        """What the oracle would write from here on."""
        return written_on(partial(self._source.oracle_characters, problem), response_so_far)


def build(options: Options) -> Program:
    """Raises `ConfigError` where the problem source has no oracle."""
    source = PROBLEM_SOURCES.build(options.source.name, options.source.options)
    if not isinstance(source, SupervisedSource):
        raise ConfigError(
            f"program 'source_oracle' needs a problem source with oracle_characters; "
            f"{options.source.name!r} has none: choose another program"
        )
    return SourceOracle(source)
