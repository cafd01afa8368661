"""Problems from a generator of the reasoning-gym library (an extra of this project).

The verifier of the same name scores answers to them with the generator's own rule.
"""

import importlib.metadata
import json
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from pydantic import Field

from distil_core.errors import ConfigError, DataError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.seeds import derive_seed

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

_CHUNK = 500


class Options(ComponentOptions):
    """dataset: the generator's name, such as chain_sum. config: its settings, without seed and
    size. version: of the library; another version may generate other problems."""

    dataset: str
    version: str
    config: dict[str, Any] = Field(default_factory=dict)


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
        """Raises `ConfigError` where the library or the generator is not there, and `DataError`
        for a problem whose own answer its generator does not accept."""
        require_version(self._options.version)
        for chunk in count():
            chunk_seed = derive_seed(seed, "problems", split, chunk) % 2**31
            config = {**self._options.config, "seed": chunk_seed, "size": _CHUNK}
            dataset = create_dataset(self._options.dataset, config)
            for index in range(_CHUNK):
                yield _problem(self._options, dataset, dataset[index])

    def alphabet(self) -> str:
        """Nothing of its own: these problems are for models with a tokenizer."""
        return ""


def create_dataset(name: str, config: dict[str, Any]) -> "ProceduralDataset":
    """The library's generator; `ConfigError` where it has none of that name or settings."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ConfigError(
            f"the library reasoning-gym cannot be imported ({error}): install it with "
            "`pip install 'distil[reasoning-gym]'`"
        ) from error
    if name not in DATASETS:
        known = ", ".join(sorted(DATASETS))
        raise ConfigError(f"reasoning-gym has no generator {name!r}; known: {known}")
    try:
        return reasoning_gym.create_dataset(name, **config)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"the reasoning-gym generator {name!r} does not take the settings {config}: "
            f"{type(error).__name__}: {error}"
        ) from error


def require_version(expected: str) -> None:
    """Raise `ConfigError` unless this version of the library is installed."""
    try:
        found = importlib.metadata.version("reasoning-gym")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            "the library reasoning-gym is not installed: `pip install 'distil[reasoning-gym]'`"
        ) from error
    if found != expected:
        raise ConfigError(
            f"reasoning-gym {found} is installed, the settings say {expected}, and versions differ "
            "in what they generate: install that one, or change problems.source.options.version"
        )


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
    # The verifier scores what comes back from JSON, where tuples are lists and keys are text.
    score = dataset.score_answer(answer, json.loads(text)["entry"])
    if score < 1:
        raise DataError(
            f"the reasoning-gym generator {options.dataset!r} gives {score} to its own answer "
            f"{answer!r:.80} once the problem is kept as JSON: it cannot be used here"
        )
    return Problem(entry["question"], answer, text)


def build(options: Options) -> ReasoningGymSource:
    """The source, by name from the registry."""
    return ReasoningGymSource(options)
