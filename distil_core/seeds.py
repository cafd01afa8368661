"""Randomness derived from its purpose, never from global state or the order of work.

A seed is a hash of (run seed, iteration, stage, row ..): the same rollout draws the same numbers
whatever its batch, and no two purposes share a stream.
"""

import hashlib

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray


def derive_seed(run_seed: int, *purpose: int | str) -> int:
    """A 63-bit seed for one purpose, for example `derive_seed(7, 3, "sample", "problem", 2)`."""
    text = "/".join(repr(part) for part in (run_seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(run_seed: int, *purpose: int | str) -> np.random.Generator:
    """A numpy generator for one purpose only (Philox: the same on every platform)."""
    return seeded_generator(derive_seed(run_seed, *purpose))


def seeded_generator(seed: int) -> np.random.Generator:
    """The generator for a seed from `derive_seed`: numpy's `Philox(key=seed)`."""
    # numpy takes any ISeedSequence, which its types leave out.
    return np.random.Generator(np.random.Philox(_Key(seed)))  # type: ignore[arg-type]


class _Key(ISeedSequence):
    """Philox's key as a seed. Given as `key`, numpy asks the operating system for entropy that it
    then does not use, which takes most of the time of a generator for few numbers."""

    def __init__(self, key: int):
        self._key = key

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[np.uint64]:
        return np.array([self._key, 0], dtype=np.uint64)
