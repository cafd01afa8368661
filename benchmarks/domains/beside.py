"""A domain's campaign beside the same campaign with another objective, seed by seed.

Problems, base policy, rollouts of the first iteration, numbers of rollouts, steps and expert
queries, and the learning rate where no other is named, are the same in all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.domains.campaign import Run
from benchmarks.measure import markdown_table
from benchmarks.objectives.results import interval
from distil_core.errors import DataError

BESIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "tools": {
        "the reward alone (GRPO)": (
            "train.objective={name: grpo, options: {loss_normalisation: tokens}}",
        ),
    }
}
"""Of each domain, by what differs from its preset, the settings as `--set` takes them."""


def beside(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The preset's own runs, and those beside them with the same seeds, by name."""
    domain = runs[0].domain
    return {"the preset": list(runs)} | {
        name: [Run(domain, run.seed, settings) for run in runs]
        for name, settings in BESIDE.get(domain, {}).items()
    }


def beside_table(runs: Mapping[str, Sequence[Run]], folder: Path) -> str:
    """Held-out scores after the first and the last iteration, means over seeds with their 95%
    t-intervals; and at both each one's pass@1 minus the preset's, paired by seed.

    Raises `DataError` where a run is missing.
    """
    curves = {name: [_curve(run, folder) for run in same] for name, same in runs.items()}
    own, last = next(iter(curves.values())), len(next(iter(curves.values()))[0]) - 1
    header = [
        "at equal rollouts, steps and expert queries",
        *(f"pass@{k} after {i}" for k in (1, 8) for i in (1, last)),
        "tokens of a rollout",
        f"pass@1 after 1, after {last}, minus the preset's",
    ]
    rows = []
    for name, same in curves.items():
        scores = [
            _shown([curve[i][f"pass_at_{k}"] for curve in same]) for k in (1, 8) for i in (1, last)
        ]
        tokens = _shown([curve[last]["response_tokens_mean"] for curve in same], ".1f")
        differences = ", ".join(
            _shown(
                [
                    curve[i]["pass_at_1"] - base[i]["pass_at_1"]
                    for curve, base in zip(same, own, strict=True)
                ],
                "+.3f",
            )
            for i in (1, last)
        )
        rows.append([name, *scores, tokens, "" if same is own else differences])
    return markdown_table(header, rows)


def _curve(run: Run, folder: Path) -> list[dict[str, float]]:
    if (result := run.result(folder)) is None:
        raise DataError(
            f"no finished run of the {run.domain} preset, seed {run.seed}, with "
            f"{', '.join(run.settings_set) or 'its own settings'} in {folder}: run "
            "`python -m benchmarks.domains --beside` first"
        )
    curve: list[dict[str, Any]] = result["curve"]
    return curve


def _shown(values: Sequence[float], form: str = ".3f") -> str:
    found = interval(values)
    if found.half_width is None:
        return format(found.mean, form)
    return f"{found.mean:{form}} ± {found.half_width:{form.lstrip('+')}}"
