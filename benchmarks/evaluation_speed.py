"""How long an evaluation's figures take: 10,000 problems with 64 samples each.

`python -m benchmarks.evaluation_speed [PROBLEMS SAMPLES]` makes up responses and times what
`evaluate` and `gate` do with them after sampling and verifying. The bootstrap's peer is
`scipy.stats.bootstrap`, on the same values with as many resamples.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.comparison import paired_differences
from distil_core.evaluation.judging import JudgedResponse, problem_row
from distil_core.evaluation.summary import (
    columns_of,
    evaluation_frame,
    per_problem_scores,
    summarise,
)

NUM_BOOTSTRAP = 2000
_SEED = 1

Result = TypeVar("Result")


def main() -> None:
    """Print seconds of each part, and the ratio to the peer."""
    num_problems, num_samples = map(int, sys.argv[1:3]) if sys.argv[1:] else (10_000, 64)
    responses = _responses(num_problems, num_samples)
    print(f"{num_problems} problems, {num_samples} samples each, {NUM_BOOTSTRAP} resamples")
    rows = _timed(
        "rows of the table (votes, entropy, counts)",
        lambda: [
            problem_row(f"{index:06d}", "eval", samples) for index, samples in enumerate(responses)
        ],
    )
    summary = _timed("all figures with intervals", lambda: summarise(rows, NUM_BOOTSTRAP, _SEED))
    evaluation = evaluation_frame(rows)
    new = columns_of(evaluation)
    old = columns_of(evaluation.with_columns(pl.col("num_correct") // 2))
    _timed("paired differences", lambda: paired_differences(new, old, NUM_BOOTSTRAP, _SEED))
    scores = per_problem_scores(new)
    started = time.perf_counter()
    means_bm = resampled_means(np.stack(list(scores.values()), axis=1), NUM_BOOTSTRAP, _SEED)
    ours = [interval(means_bm[:, m]) for m in range(len(scores))]
    our_seconds = time.perf_counter() - started
    started = time.perf_counter()
    theirs = [_peer_interval(values_p) for values_p in scores.values()]
    their_seconds = time.perf_counter() - started
    print(
        f"{len(scores)} intervals: {our_seconds:.2f} s; scipy.stats.bootstrap "
        f"{their_seconds:.2f} s, {their_seconds / our_seconds:.1f} times as long"
    )
    for name, own, peer in zip(scores, ours, theirs, strict=True):
        print(f"  {name} {summary[name]:.4f} {_text(own)}, scipy's {_text(peer)}")


def _peer_interval(values_p: NDArray[np.float64]) -> tuple[float, float]:
    found = stats.bootstrap(
        (values_p,),
        np.mean,
        n_resamples=NUM_BOOTSTRAP,
        method="percentile",
        batch=100,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _text(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]"


def _responses(num_problems: int, num_samples: int) -> list[list[JudgedResponse]]:
    random = np.random.default_rng(_SEED)
    chances = random.beta(0.5, 0.5, num_problems)
    answers = random.integers(0, 8, (num_problems, num_samples))
    right = random.random((num_problems, num_samples)) < chances[:, None]
    return [
        [
            JudgedResponse(
                text=f"{answer if not is_right else 9}",
                attempt=f"{answer if not is_right else 9}",
                num_tokens=6,
                logprob=-1.0,
                is_truncated=False,
                verdict="correct" if is_right else "wrong",
                answer=f"{answer if not is_right else 9}",
            )
            for answer, is_right in zip(its_answers, its_right, strict=True)
        ]
        for its_answers, its_right in zip(answers.tolist(), right.tolist(), strict=True)
    ]


def _timed(name: str, work: Callable[[], Result]) -> Result:
    started = time.perf_counter()
    result = work()
    print(f"{name}: {time.perf_counter() - started:.2f} s")
    return result


if __name__ == "__main__":
    main()
