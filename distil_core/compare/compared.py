"""Sides with their differences: what the terminal, the page and MLflow show alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distil_core.campaign.differences import ABSENT, Change, changes
from distil_core.compare.read import CampaignRun, IterationResult
from distil_core.compare.sides import Side
from distil_core.evaluation.comparison import other_sampler
from distil_core.evaluation.contrast import Contrast, contrast
from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.evaluation.over_seeds import Estimate, mean_over_seeds
from distil_core.lineage.frozen import lookup

_LABELS = ("campaign", "seed", "iteration", "stage_versions", "schema_version", "num_iterations")
"""Settings that differ between sides without making a difference, or that are shown elsewhere."""

_UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Pair:
    """A later side less the first one. by_iteration: of the iterations that both have."""

    label: str
    best: Contrast
    last: Contrast
    by_iteration: Mapping[int, Contrast]
    settings: Sequence[Change]
    warnings: Sequence[str]


class Comparison:
    """One side or several; the first one is what the others are compared with."""

    def __init__(self, sides: Sequence[Side]):
        self.sides = sides

    @cached_property
    def ks(self) -> list[int]:
        """The values of k that every evaluation has."""
        every = [
            set(pass_at_ks(iteration.metrics))
            for side in self.sides
            for run in side.runs
            for iteration in run.iterations
        ]
        return sorted(set.intersection(*every))

    @property
    def shown_ks(self) -> list[int]:
        """The smallest and the largest."""
        return sorted({self.ks[0], self.ks[-1]})

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each later side with the first one."""
        first, *others = self.sides
        return [_pair(side, first) for side in others]

    @property
    def has_seeds(self) -> bool:
        """Whether any side has several."""
        return any(len(side.runs) > 1 for side in self.sides)


def num_common_iterations(side: Side) -> int:
    """Iterations, the base among them, that all runs of a side have."""
    return min(len(run.iterations) for run in side.runs)


def score_of(
    side: Side, name: str, chosen: Callable[[CampaignRun], IterationResult]
) -> Estimate | None:
    """A figure of metrics.json of one policy a run: over seeds, or of a single run with the
    interval over its problems. None where some run does not have it."""
    metrics = [chosen(run).metrics for run in side.runs]
    if not all(name in each for each in metrics):
        return None
    if len(metrics) == 1:
        [only] = metrics
        return Estimate(only[name], only.get(f"{name}_low"), only.get(f"{name}_high"))
    estimate = mean_over_seeds([each[name] for each in metrics])
    return estimate.within(*_UNIT) if _is_share(name) else estimate


def at(number: int) -> Callable[[CampaignRun], IterationResult]:
    """The policy of an iteration."""
    return lambda run: run.iterations[number]


def best(run: CampaignRun) -> IterationResult:
    """The champion at the end."""
    return run.best


def last(run: CampaignRun) -> IterationResult:
    """The last policy, promoted or not."""
    return run.last


def cost(side: Side, chosen: Callable[[CampaignRun], float | None]) -> Estimate | None:
    """A cost a run: the mean over seeds. None where it is not known of all of them."""
    values = [chosen(run) for run in side.runs]
    known = [value for value in values if value is not None]
    return mean_over_seeds(known) if known and len(known) == len(values) else None


def _is_share(name: str) -> bool:
    return name.startswith(("pass_at", "majority", "mean_at", "generalisation_pass")) or (
        name in ("malformed_rate", "truncation_rate", "expert_accuracy")
    )


def _pair(new: Side, old: Side) -> Pair:
    settings = old.runs[0].settings
    num_bootstrap, seed = int(settings["evaluate"]["num_bootstrap"]), int(settings["seed"])

    def compared(chosen: Callable[[CampaignRun], IterationResult]) -> Contrast:
        ours, theirs = (
            {run.seed: chosen(run).evaluation for run in side.runs} for side in (new, old)
        )
        return contrast(ours, theirs, num_bootstrap, seed)

    common = min(num_common_iterations(side) for side in (new, old))
    differing = changes(_compared_settings(old.runs[0]), _compared_settings(new.runs[0]))
    return Pair(
        new.label,
        compared(best),
        compared(last),
        {number: compared(at(number)) for number in range(common)},
        differing,
        _warnings(new, old),
    )


def _compared_settings(run: CampaignRun) -> dict[str, Any]:
    return {key: value for key, value in run.settings.items() if key not in _LABELS}


def _warnings(new: Side, old: Side) -> list[str]:
    """What keeps the figures from being of the same thing."""
    found = []
    ours, theirs = new.runs[0].settings, old.runs[0].settings
    if sampler := other_sampler(ours["evaluate"], theirs["evaluate"]):
        found.append(f"its responses are drawn otherwise: {sampler}")
    judges = [_readable(each, "consult.verifier") for each in (ours, theirs)]
    if judges[0] != judges[1]:
        found.append(f"they are judged by another verifier: {judges[0]} instead of {judges[1]}")
    for side in (new, old):
        found += _within_side(side)
    return found


def _within_side(side: Side) -> list[str]:
    """Runs of one side that are not seeds of one campaign."""
    first, *others = side.runs
    found = []
    for run in others:
        if differing := changes(_compared_settings(first), _compared_settings(run)):
            found.append(
                f"{side.label}: seeds {first.seed} and {run.seed} differ in more than the seed: "
                f"{', '.join(map(str, differing[:3]))}"
            )
    if len({len(run.iterations) for run in side.runs}) > 1:
        counts = ", ".join(f"{len(run.iterations) - 1} of seed {run.seed}" for run in side.runs)
        found.append(f"{side.label}: its seeds have unequally many iterations ({counts})")
    found += [
        f"{side.label}: {run.where} is not finished: {run.unfinished}"
        for run in side.runs
        if run.unfinished
    ]
    return found


def _readable(settings: Mapping[str, Any], key: str) -> str:
    value = lookup(dict(settings), key)
    return "nothing" if value is None or value is ABSENT else str(value)


def warnings_within(side: Side) -> list[str]:
    """Why the runs of a side may not be taken together as they are."""
    return _within_side(side)
