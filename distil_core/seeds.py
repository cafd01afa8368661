"""Randomness derived from what it is for, never from global state or the order of work.

A seed is a hash of (run seed, iteration, stage, row ..): the same rollout draws the same numbers
whatever batch it falls in, and no two purposes share a stream.
"""

import hashlib

import numpy as np


def derive_seed(run_seed: int, *purpose: int | str) -> int:
    """A 63-bit seed for one purpose, for example `derive_seed(7, 3, "sample", "problem", 2)`."""
    text = "/".join(repr(part) for part in (run_seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(run_seed: int, *purpose: int | str) -> np.random.Generator:
    """A numpy generator of its own for one purpose (Philox: the same on every platform)."""
    return np.random.Generator(np.random.Philox(key=derive_seed(run_seed, *purpose)))
