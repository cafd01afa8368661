"""Made distributions as peaked as those of language models, over 151,936 ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distil_core.seeds import generator

VOCABULARY_SIZE = 151_936
RESPONSE_TOKENS = 500
_HEAD = 1000
_AT_ONCE = 5000


@dataclass(frozen=True)
class Distributions:
    """ids_nk, logprobs_nk: the K most likely of each of N positions, float64. exponents_n: mass
    falls with the rank to this power."""

    ids_nk: NDArray[np.int64]
    logprobs_nk: NDArray[np.float64]
    exponents_n: NDArray[np.float64]

    @property
    def tails_n(self) -> NDArray[np.float64]:
        """Mass outside the K ids."""
        return np.maximum(1 - np.exp(self.logprobs_nk).sum(1), 0.0)


def make_distributions(num_positions: int, top_k: int) -> Distributions:
    """Mass r^-a at rank r, where log a varies from position to position by 0.5 around log 3.5, and
    the logits of the first thousand ranks by 0.7. The most likely id has .88 of the mass in the
    median, .45 in one position of ten. Ids are spread like ranks of words, 1 / rank."""
    random = generator(0, "benchmark", "feedback_table")
    exponents_n = np.exp(random.normal(np.log(3.5), 0.5, num_positions)).clip(1.05, 12)
    parts = [
        _top(exponents_n[start : start + _AT_ONCE], top_k, random)
        for start in range(0, num_positions, _AT_ONCE)
    ]
    uniforms_nk = random.random((num_positions, top_k))
    ids_nk = np.exp(uniforms_nk * np.log(VOCABULARY_SIZE)).astype(np.int64) - 1
    return Distributions(ids_nk, np.concatenate(parts), exponents_n)


def _top(exponents_n: NDArray[Any], top_k: int, random: np.random.Generator) -> NDArray[Any]:
    ranks = np.arange(1, _HEAD + 1)
    noise = random.normal(0, 0.7, (len(exponents_n), _HEAD))
    logits = np.sort(noise - exponents_n[:, None] * np.log(ranks), axis=1)[:, ::-1]
    power = 1 - exponents_n
    # The ranks after the first thousand, as an integral.
    rest = ((_HEAD + 0.5) ** power - (VOCABULARY_SIZE + 0.5) ** power) / -power
    total = np.log(np.exp(logits).sum(1) + rest)
    return np.asarray(logits[:, :top_k] - total[:, None])
