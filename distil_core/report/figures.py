"""The report's charts, made from the gathered facts."""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from distil_core.evaluation.decision import NOT_PROMOTED
from distil_core.evaluation.hindsight import average_regrets
from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.report.charts import Chart, Series, integer_ticks, nice_ticks, unit_ticks
from distil_core.report.gather import CampaignFacts, IterationFacts


def learning_curve(campaign: CampaignFacts) -> Markup:
    """pass@k over iterations, a line for each k."""
    numbers = [float(facts.evidence.iteration) for facts in campaign.iterations]
    ks = common_ks(campaign)
    series = [
        _with_band(f"pass@{k}", numbers, campaign.iterations, f"pass_at_{k}", colour)
        for colour, k in enumerate(ks)
    ]
    return Chart(
        series,
        x_label="iteration (0 = base policy)",
        y_label="pass@k",
        description="Held-out pass@k over iterations, with 95% intervals",
        x_ticks=integer_ticks(len(numbers)),
        y_ticks=unit_ticks(),
        marks=[
            (float(facts.evidence.iteration), NOT_PROMOTED)
            for facts in campaign.iterations
            if facts.decision and not facts.decision.promoted
        ],
    ).svg()


def over_k(campaign: CampaignFacts) -> Markup:
    """pass@k over k, a line for the base, a middle iteration and the last."""
    last = len(campaign.iterations) - 1
    ks = common_ks(campaign)
    places = [math.log2(k) for k in ks]
    chosen = sorted({0, 1, (last + 1) // 2, last} & set(range(last + 1)))
    series = [
        Series(
            f"iteration {number}" if number else "base",
            places,
            [campaign.iterations[number].metrics[f"pass_at_{k}"] for k in ks],
            [campaign.iterations[number].metrics[f"pass_at_{k}_low"] for k in ks],
            [campaign.iterations[number].metrics[f"pass_at_{k}_high"] for k in ks],
            colour,
        )
        for colour, number in enumerate(chosen)
    ]
    return Chart(
        series,
        x_label="k, samples that may be tried",
        y_label="pass@k",
        description="Held-out pass@k over k for some iterations, with 95% intervals",
        x_ticks=[(place, str(k)) for place, k in zip(places, ks, strict=True)],
        y_ticks=unit_ticks(),
    ).svg()


def over_cost(
    campaign: CampaignFacts, costs: Sequence[float], x_label: str, description: str
) -> Markup:
    """pass@1 and pass@n against what was spent up to each iteration."""
    ks = common_ks(campaign)
    shown = sorted({ks[0], ks[-1]})
    series = [
        _with_band(f"pass@{k}", list(costs), campaign.iterations, f"pass_at_{k}", colour)
        for colour, k in zip((0, len(ks) - 1), shown, strict=False)
    ]
    return Chart(
        series, x_label, "pass@k", description, nice_ticks([0.0, *costs]), unit_ticks()
    ).svg()


def expert_and_student(campaign: CampaignFacts) -> Markup | None:
    """The expert's accuracy with feedback beside the student's without; None where it was never
    measured."""
    asked = [facts for facts in campaign.iterations if "expert_accuracy" in facts.metrics]
    if not asked:
        return None
    numbers = [float(facts.evidence.iteration) for facts in asked]
    series = [
        _with_band("student", numbers, asked, "pass_at_1", 0),
        _with_band("expert", numbers, asked, "expert_accuracy", 2),
    ]
    return Chart(
        series,
        x_label="iteration (0 = base policy)",
        y_label="accuracy",
        description="Accuracy of the expert with feedback and of the student without",
        x_ticks=integer_ticks(len(campaign.iterations)),
        y_ticks=unit_ticks(),
    ).svg()


def success_bound(campaign: CampaignFacts) -> Markup | None:
    """log pass@1 and its lower bound, computed from the expert's successes."""
    shown = [facts for facts in campaign.iterations if "success_bound" in facts.metrics]
    shown = [facts for facts in shown if facts.metrics["pass_at_1"] > 0]
    if not shown:
        return None
    numbers = [float(facts.evidence.iteration) for facts in shown]
    logs = [math.log(facts.metrics["pass_at_1"]) for facts in shown]
    bounds = [facts.metrics["success_bound"] for facts in shown]
    likelihoods = [facts.metrics["success_loglikelihood"] for facts in shown]
    return Chart(
        [
            Series("log pass@1", numbers, logs, colour=0),
            Series("bound", numbers, bounds, colour=2),
            Series("E log π", numbers, likelihoods, colour=4, dashed=True),
        ],
        x_label="iteration (0 = base policy)",
        y_label="nats",
        description="log pass@1, its lower bound, and the log-likelihood of success",
        x_ticks=integer_ticks(len(campaign.iterations)),
        y_ticks=nice_ticks([0.0, *logs, *bounds, *likelihoods]),
    ).svg()


def generalisation(campaign: CampaignFacts) -> Markup | None:
    """pass@1 and pass@n on the generalisation split beside the held-out pass@1."""
    name = "generalisation_pass_at_"
    shown = [facts for facts in campaign.iterations if f"{name}1" in facts.metrics]
    if not shown:
        return None
    numbers = [float(facts.evidence.iteration) for facts in shown]
    largest = common_ks(campaign)[-1]
    return Chart(
        [
            _with_band("held-out @1", numbers, shown, "pass_at_1", 0),
            _with_band("harder @1", numbers, shown, f"{name}1", 2),
            _with_band(f"harder @{largest}", numbers, shown, f"{name}{largest}", 3),
        ],
        x_label="iteration (0 = base policy)",
        y_label="pass@k",
        description="pass@k on the generalisation problems over iterations",
        x_ticks=integer_ticks(len(campaign.iterations)),
        y_ticks=unit_ticks(),
    ).svg()


def regret(campaign: CampaignFacts) -> Markup | None:
    """Average regret after each iteration; None before the first."""
    if not campaign.losses_ji.shape[1]:
        return None
    regrets = average_regrets(campaign.losses_ji, campaign.parents)
    numbers = [float(number) for number in range(1, len(regrets) + 1)]
    played = [float(campaign.losses_ji[j, i]) for i, j in enumerate(campaign.parents)]
    return Chart(
        [
            Series("regret", numbers, regrets, colour=0),
            Series("own loss", numbers, played, colour=2, dashed=True),
        ],
        x_label="iterations so far",
        y_label="nats per token",
        description="Average regret against the best checkpoint in hindsight, over iterations",
        x_ticks=integer_ticks(len(regrets) + 1)[1:] or [(1.0, "1")],
        y_ticks=nice_ticks([0.0, *regrets, *played]),
    ).svg()


def common_ks(campaign: CampaignFacts) -> list[int]:
    """The values of k that every iteration was evaluated with."""
    common = set.intersection(*(set(pass_at_ks(f.metrics)) for f in campaign.iterations))
    return sorted(common)


def cumulative(values: Sequence[float]) -> list[float]:
    """The sums up to each index."""
    return [float(value) for value in np.cumsum(np.asarray(values, dtype=np.float64))]


def _with_band(
    label: str, xs: list[float], iterations: Sequence[IterationFacts], name: str, colour: int
) -> Series:
    ys, lows, highs = (
        [facts.metrics[f"{name}{end}"] for facts in iterations] for end in ("", "_low", "_high")
    )
    return Series(label, xs, ys, lows, highs, colour)
