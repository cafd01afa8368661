"""Means over seeds, with Student's t-interval: how far a mean would move with other seeds.

A seed draws the problems, the base policy, the rollouts and the order of training anew, so that
one seed's result is one independent value. Three or five of them are too few to resample: the
bootstrap of three values has ten distinct resamples, and its intervals are far too narrow. The
t-interval is made for few values; its width of 4.3 standard errors at three seeds is the price of
knowing the spread itself from these three alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with the ends of its 95% interval, None where one value alone gives none."""

    value: float
    low: float | None
    high: float | None

    def within(self, lowest: float, highest: float) -> "Estimate":
        """The interval cut to what the quantity can be, which loses none of its coverage."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, lowest), min(self.high, highest))


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed with its t-interval, mean ± t(n - 1) s / sqrt(n)."""
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None)
    return _interval(mean, stdev(values) / math.sqrt(len(values)), len(values) - 1)


def difference_of_means(new: Sequence[float], old: Sequence[float]) -> Estimate:
    """Mean of `new` less mean of `old`, of seeds that do not correspond, with Welch's interval,
    which lets either have a spread of its own. Without an interval where one has a single value."""
    difference = fmean(new) - fmean(old)
    if min(len(new), len(old)) < 2:
        return Estimate(difference, None, None)
    parts = [stdev(values) ** 2 / len(values) for values in (new, old)]
    if not any(parts):
        return Estimate(difference, difference, difference)
    divisors = [len(values) - 1 for values in (new, old)]
    degrees = sum(parts) ** 2 / sum(
        part**2 / divisor for part, divisor in zip(parts, divisors, strict=True)
    )
    return _interval(difference, math.sqrt(sum(parts)), degrees)


def _interval(mean: float, standard_error: float, degrees: float) -> Estimate:
    from scipy import stats

    half_width = float(stats.t.ppf((1 + _CONFIDENCE) / 2, degrees)) * standard_error
    return Estimate(mean, mean - half_width, mean + half_width)
