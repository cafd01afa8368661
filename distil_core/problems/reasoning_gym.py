"""Problems from a generator of the reasoning-gym library (an extra of this project).

The verifier of the same name scores answers to them with the generator's own rule.
"""

import json
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from pydantic import Field

from distil_core.errors import ConfigError, DataError
from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.problems.reasoning_gym_library import (
    UNREADABLE,
    create_dataset,
    require_version,
)
from distil_core.seeds import derive_seed

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

_CHUNK = 500


class Options(ProblemSourceOptions):
    """Problems of the library reasoning-gym."""

    dataset: str
    """The generator's name, such as chain_sum."""
    version: str
    """Of the library; another version may generate other problems."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The generator's settings, without seed and size."""


class ReasoningGymSource:
    """An endless stream: the generator with one derived seed after another."""

    def __init__(self, options: Options):
        if fixed := {"seed", "size"} & options.config.keys():
            raise ConfigError(
                f"problems.source.options.config: {', '.join(sorted(fixed))} of the generator come "
                "from the campaign's seed and the splits' sizes: leave them out"
            )
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The split's problems. Raises `ConfigError` where the library or the generator is missing,
        and `DataError` for a problem whose own answer its generator does not accept."""
        require_version(self._options.version)
        for chunk in count():
            chunk_seed = derive_seed(seed, "problems", split, chunk) % 2**31
            config = {**self._options.config, "seed": chunk_seed, "size": _CHUNK}
            dataset = create_dataset(self._options.dataset, config)
            for index in range(_CHUNK):
                yield _problem(self._options, dataset, dataset[index])

    def alphabet(self) -> str:
        """Empty: these problems are for models that have a tokenizer."""
        return ""


def _problem(options: Options, dataset: "ProceduralDataset", entry: dict[str, Any]) -> Problem:
    answer = entry["answer"]
    if not isinstance(answer, str):
        raise DataError(
            f"the reasoning-gym generator {options.dataset!r} gives no answer as text but "
            f"{answer!r}: it cannot be used here"
        )
    metadata = {"dataset": options.dataset, "config": options.config, "entry": entry}
    try:
        text = json.dumps(metadata, sort_keys=True)
    except TypeError as error:
        raise DataError(
            f"a problem of the reasoning-gym generator {options.dataset!r} cannot be kept as JSON "
            f"({error}): it cannot be used here"
        ) from error
    # The verifier scores what it reads from JSON, where tuples are lists and keys are text.
    if not _accepts(dataset, answer, json.loads(text)["entry"]):
        raise DataError(
            f"the reasoning-gym generator {options.dataset!r} does not accept its own answer "
            f"{answer!r:.80} once the problem is kept as JSON: it cannot be used here"
        )
    if _accepts(dataset, "\u2205 no answer", entry):
        raise DataError(
            f"the rule of the reasoning-gym generator {options.dataset!r} accepts any answer: it "
            "cannot be used here"
        )
    return Problem(entry["question"], answer, text)


def _accepts(dataset: "ProceduralDataset", answer: str, entry: dict[str, Any]) -> bool:
    try:
        return bool(dataset.score_answer(answer, entry) >= 1)
    except UNREADABLE:
        return False


def build(options: Options) -> ReasoningGymSource:
    """The source, by name from the registry."""
    return ReasoningGymSource(options)
