"""Tasks of a taskset of the verifiers library (an extra of this project).

The environment of the same name plays them and gives their rewards.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.problems.verifiers_library import TasksetOptions, load_environment, problem_of
from distil_core.seeds import derive_seed

_STREAMS = ("eval", "train", "warm_start")


class Options(TasksetOptions, ProblemSourceOptions):
    """Tasks of the library verifiers."""

    eval_arguments: dict[str, Any] | None = None
    """The taskset's settings for the evaluation split, in place of `arguments`, such as another
    `split`. Null to take all splits from the same tasks, none of them twice."""
    answer_field: str | None = "answer"
    """Of a task's data, what is the reference; null where there is none."""


class VerifiersSource:
    """All tasks of a taskset that ends, in an order drawn for each split; of an endless one, each
    split has every third."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The split's problems. Raises `ConfigError` where the library or the taskset is missing,
        and `DataError` for a task that cannot be used (docs/environments.md)."""
        options = self._options
        if split == "eval" and options.eval_arguments is not None:
            options = options.model_copy(update={"arguments": options.eval_arguments})
        taskset = load_environment(options).taskset
        if taskset.INFINITE:
            tasks: Iterator[Any] = islice(taskset, _STREAMS.index(split), None, len(_STREAMS))
        else:
            shuffled = list(taskset)
            random.Random(derive_seed(seed, "problems", split)).shuffle(shuffled)
            tasks = iter(shuffled)
        for task in tasks:
            yield problem_of(task, options.answer_field)

    def alphabet(self) -> str:
        """Empty: these problems are for models that have a tokenizer."""
        return ""


def build(options: Options) -> VerifiersSource:
    """The source, by name from the registry."""
    return VerifiersSource(options)
