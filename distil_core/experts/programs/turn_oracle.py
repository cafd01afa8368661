"""The problem source's own oracle at each turn of a rollout in its environment."""

from collections.abc import Mapping, Sequence

from pydantic import field_validator

from distil_core.config.models import Component
from distil_core.errors import ConfigError
from distil_core.experts.programs.base import ProgramOptions, Reply, Text, TurnProgram
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.turns import SupervisedTurnSource, TurnSoFar

_MAX_CHARACTERS = 4096


class Options(ProgramOptions):
    """Which source knows what is to be done."""

    source: Component
    """The problem source, as in problems.source."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: Component) -> Component:
        PROBLEM_SOURCES.options(source.name, source.options)
        return source

    @property
    def follows_turns(self) -> bool:
        """True."""
        return True

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The problem source."""
        return (("problem source", self.source.name),)


class TurnOracle:
    """Asks for one character after another, as the oracle has them, until the action ends."""

    def __init__(self, source: SupervisedTurnSource):
        self._source = source

    def __call__(
        self,
        problem: Problem,
        response_so_far: str,
        feedback: Mapping[str, str],
        /,
        *,
        turns: Sequence[TurnSoFar] = (),
    ) -> Reply:
        """What the oracle would do from here on, after these turns."""
        written = response_so_far
        while len(written) - len(response_so_far) < _MAX_CHARACTERS:
            characters = self._source.oracle_action_characters(problem, turns, written)
            if len(characters) <= len(written):
                return written[len(response_so_far) :]
            written += characters[len(written)]
        return Text(written[len(response_so_far) :], ends=False)


def build(options: Options) -> TurnProgram:
    """Raises `ConfigError` where the problem source has no oracle over turns."""
    source = PROBLEM_SOURCES.build(options.source.name, options.source.options)
    if not isinstance(source, SupervisedTurnSource):
        raise ConfigError(
            f"program 'turn_oracle' needs a problem source with oracle_action_characters; "
            f"{options.source.name!r} has none: choose another program"
        )
    return TurnOracle(source)
