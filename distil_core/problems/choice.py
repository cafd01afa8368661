"""Which of the training problems an iteration samples on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distil_core.errors import ConfigError
from distil_core.problems.base import Problem
from distil_core.seeds import generator


def choose_problems(
    problems: Sequence[Problem],
    num_prompts: int,
    iteration: int,
    seed: int,
    earlier: Sequence[int] | None = None,
) -> list[Problem]:
    """This iteration's problems, distinct.

    earlier: num_prompts of each iteration before, by default this one's. While it is always the
    same, iterations walk through a permutation of all problems, and through another one when too
    few are left. From its first change on they take the problems used least often so far, in the
    order of a permutation for each number of uses: none repeats while others are unused.
    """
    sizes = [*([num_prompts] * (iteration - 1) if earlier is None else earlier), num_prompts]
    if len(sizes) != iteration:
        raise ConfigError(
            f"sample.earlier_num_prompts has {len(sizes) - 1} entries, iteration {iteration} has "
            f"{iteration - 1} before it: freeze it anew with `distil restart`"
        )
    walk = _Walk(len(problems), seed)
    if len(set(sizes)) == 1:
        return [problems[i] for i in walk.steady(num_prompts, iteration)]
    uses = np.zeros(len(problems), np.int64)
    for number, size in enumerate(sizes, start=1):
        is_steady = len(set(sizes[:number])) == 1
        chosen = walk.steady(size, number) if is_steady else walk.least_used(size, uses)
        uses[chosen] += 1
    return [problems[i] for i in chosen]


class _Walk:
    """Indices of `num_problems` problems in the order of seeded permutations."""

    def __init__(self, num_problems: int, seed: int):
        self._num_problems = num_problems
        self._seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def steady(self, size: int, iteration: int) -> NDArray[np.int64]:
        """The iteration's, where all before it have taken as many."""
        epoch, position = divmod(iteration - 1, self._num_problems // size)
        return self._order(epoch)[position * size : (position + 1) * size]

    def least_used(self, size: int, uses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the fewest uses, among equals in the order of that round's permutation."""
        rank = np.empty(self._num_problems, np.int64)
        for count in np.unique(uses):
            order = self._order(int(count))
            rank[order[uses[order] == count]] = np.arange((uses == count).sum())
        return np.lexsort((rank, uses))[:size]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            random = generator(self._seed, "sample", "permutation", epoch)
            self._orders[epoch] = random.permutation(self._num_problems)
        return self._orders[epoch]
