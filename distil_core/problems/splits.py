"""Disjoint splits of a problem source: no prompt appears twice, within a split or across splits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from distil_core.config.models import Params
from distil_core.errors import DataError
from distil_core.problems import build_generalisation_source, build_source
from distil_core.problems.base import Problem, ProblemSource, StoredSource

SPLITS = ("eval", "train", "warm_start")
"""Filled in this order: the held-out problems are fixed first and excluded from what follows."""

_MAX_DRAWS_PER_PROBLEM = 50


SplitSize = int | Literal["all"]


@dataclass(frozen=True)
class CampaignProblems:
    """source: as the settings name it. splits: by name, in the order in which they are made."""

    source: ProblemSource
    splits: dict[str, list[Problem]]


def campaign_problems(params: Params, check_problem: Callable[[Problem], None]) -> CampaignProblems:
    """All of a campaign's problems; the `generalisation` split has none where the settings ask for
    none.

    check_problem: the verifier's, with which a source of stored rows drops or refuses those that
    cannot be read. Raises `DataError` like `make_splits` and `StoredSource`, and where there are
    fewer than an iteration samples.
    """
    settings, seed = params.problems, params.seed
    source, harder = build_source(settings), build_generalisation_source(settings)
    for each in (source, harder):
        if isinstance(each, StoredSource):
            each.require_readable(check_problem)
    sizes: dict[str, SplitSize] = {
        "eval": settings.num_eval,
        "train": settings.num_train,
        "warm_start": settings.num_warm_start,
    }
    splits = make_splits(source, sizes, seed)
    splits["generalisation"] = (
        generalisation_split(harder, settings.generalisation.num_problems, splits, seed)
        if harder and settings.generalisation
        else []
    )
    if len(splits["train"]) < params.sample.num_prompts:
        raise DataError(
            f"the source has {len(splits['train'])} training problems, and each iteration samples "
            f"{params.sample.num_prompts} (sample.num_prompts): lower that, or add problems"
        )
    return CampaignProblems(source, splits)


def make_splits(
    source: ProblemSource, sizes: Mapping[str, SplitSize], seed: int
) -> dict[str, list[Problem]]:
    """`sizes[split]` distinct problems for each split, pairwise disjoint by prompt; `all` that a
    source of stored rows has.

    Raises `DataError` when the source ends, or repeats itself, before a split is full, and for
    `all` of a source that has no end.
    """
    seen: set[str] = set()
    return {split: _fill(source, split, split, sizes[split], seen, seed) for split in SPLITS}


def generalisation_split(
    source: ProblemSource, wanted: int, splits: dict[str, list[Problem]], seed: int
) -> list[Problem]:
    """`wanted` held-out problems of a harder source, none of which is in `splits`. Raises like
    `make_splits`."""
    seen = {problem.prompt for problems in splits.values() for problem in problems}
    return _fill(source, "eval", "generalisation", wanted, seen, seed)


def _fill(
    source: ProblemSource, split: str, name: str, wanted: SplitSize, seen: set[str], seed: int
) -> list[Problem]:
    if wanted == "all":
        return _all(source, split, seen, seed)
    fresh = _unseen(source.problems(split, seed), seen, _MAX_DRAWS_PER_PROBLEM * (wanted + 1))
    problems = list(islice(fresh, wanted))
    if len(problems) < wanted:
        raise DataError(
            f"problem source gave {len(problems)} problems for split {name!r} that are "
            f"in no other split, expected {wanted}: lower the split's size in "
            "params.yaml (problems), or widen the source's options"
        )
    return problems


def _all(source: ProblemSource, split: str, seen: set[str], seed: int) -> list[Problem]:
    if not isinstance(source, StoredSource):
        raise DataError(
            f"problems.num_{split} is `all`, and the problem source makes problems without end: "
            "say how many"
        )
    problems = list(_unseen(source.problems(split, seed), seen, None))
    if not problems:
        raise DataError(f"problem source has no problem for split {split!r}")
    return problems


def _unseen(
    problems: Iterator[Problem], seen: set[str], max_draws: int | None
) -> Iterator[Problem]:
    for problem in islice(problems, max_draws):
        if problem.prompt not in seen:
            seen.add(problem.prompt)
            yield problem
