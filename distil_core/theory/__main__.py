"""`python -m distil_core.theory`: every fact of docs/method.md#facts, from exact numbers.

Exit status 1 when a requirement fails.
"""

import sys

from distil_core.files import until_nobody_reads
from distil_core.theory import (
    monotonic_improvement,
    no_regret,
    option_cost,
    success_bound,
    tokenwise_not_enough,
    turn_rewards,
    turns,
    unbiased_gradient,
)
from distil_core.theory.table import render

_FACTS = (
    unbiased_gradient.verify,
    option_cost.measure,
    monotonic_improvement.verify,
    tokenwise_not_enough.verify,
    success_bound.verify,
    no_regret.verify,
    turns.verify,
    turn_rewards.verify,
)


@until_nobody_reads()
def main() -> int:
    """Print each table as it is done; 0 when all pass."""
    failed = []
    for fact in _FACTS:
        table = fact()
        print(render(table), end="\n\n", flush=True)
        if not table.passed:
            failed.append(table.title)
    print("FAIL: " + "; ".join(failed) if failed else "PASS: all facts hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
