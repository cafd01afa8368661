"""The problem source's own oracle at each turn of a rollout in its environment."""

from collections.abc import Mapping, Sequence
from functools import partial

from distil_core.errors import ConfigError
from distil_core.experts.programs._oracles import OracleOptions, written_on
from distil_core.experts.programs.base import Reply, TurnProgram
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.turns import SupervisedTurnSource, TurnSoFar


class Options(OracleOptions):
    """Which source knows what is to be done."""

    @property
    def follows_turns(self) -> bool:
        """True."""
        return True


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
        oracle = partial(self._source.oracle_action_characters, problem, turns)
        return written_on(oracle, response_so_far)


def build(options: Options) -> TurnProgram:
    """Raises `ConfigError` where the problem source has no oracle over turns."""
    source = PROBLEM_SOURCES.build(options.source.name, options.source.options)
    if not isinstance(source, SupervisedTurnSource):
        raise ConfigError(
            f"program 'turn_oracle' needs a problem source with oracle_action_characters; "
            f"{options.source.name!r} has none: choose another program"
        )
    return TurnOracle(source)
