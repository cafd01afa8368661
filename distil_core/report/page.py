"""Render the report: facts in, one self-contained HTML text out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from distil_core.evaluation.comparison import matching_order
from distil_core.evaluation.hindsight import average_regrets
from distil_core.evaluation.summary import HELD_OUT
from distil_core.html_page import NOT_THERE, inline, page_environment
from distil_core.report import figures
from distil_core.report.gather import CampaignFacts, CreditMap, IterationFacts
from distil_core.workspace import iteration_key

_NUM_PROBLEMS_SHOWN = 5
_PROBLEM_COLUMNS = ("problem_id", "num_correct", "num_samples", "first_response", "first_verdict")
_SETTINGS_SHOWN = (
    *("seed", "compute", "problems", "base", "context", "sample", "consult", "tabulate"),
    *("train", "evaluate", "gate", "checks"),
)


def render_report(campaign: CampaignFacts) -> str:
    """The whole file. It loads nothing and has no script: styles and charts are inline."""
    base, last = campaign.iterations[0], campaign.iterations[-1]
    champion = campaign.iterations[last.evidence.champion]
    ks = figures.common_ks(campaign)
    return (
        page_environment("distil_core.report", generalisation_options=_generalisation_options)
        .get_template("report.html")
        .render(
            campaign=campaign,
            style=inline("distil_core.report", "report.css"),
            base=base,
            last=last,
            champion=champion,
            ks=ks,
            last_k=ks[-1],
            tiles=_tiles(campaign, champion),
            charts=_charts(campaign),
            checks=_checks(campaign),
            rows=[_iteration_row(facts, ks[-1]) for facts in campaign.iterations],
            not_better=_not_better(campaign),
            steps=_steps(campaign),
            matrix=_matrix(campaign),
            regrets=average_regrets(campaign.losses_ji, campaign.parents),
            credit_maps=[_credit_view(credit_map) for credit_map in campaign.credit_maps],
            changes=_changed_problems(campaign, champion),
            lineage=[_lineage_row(facts) for facts in campaign.iterations],
            settings=_settings(campaign),
            key=iteration_key,
        )
    )


def _generalisation_options(settings: Mapping[str, str]) -> str:
    prefix = "problems.generalisation.options."
    return ", ".join(
        f"{name.removeprefix(prefix)}: {value}"
        for name, value in settings.items()
        if name.startswith(prefix)
    )


def _interval(metrics: Mapping[str, float], name: str) -> dict[str, Any] | None:
    if name not in metrics:
        return None
    ends = (metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
    return {"value": metrics[name], "low": ends[0], "high": ends[1]}


def _tiles(campaign: CampaignFacts, champion: IterationFacts) -> list[dict[str, str]]:
    base = campaign.iterations[0]
    largest = figures.common_ks(campaign)[-1]
    number = champion.evidence.iteration
    tiles = []
    for k in sorted({1, largest}):
        name = f"pass_at_{k}"
        low, high = champion.metrics[f"{name}_low"], champion.metrics[f"{name}_high"]
        tiles.append(
            {
                "name": f"pass@{k}",
                "value": f"{champion.metrics[name]:.3f}",
                "note": f"[{low:.3f}, {high:.3f}], from {base.metrics[name]:.3f}",
            }
        )
    tokens = sum(facts.rollout_tokens for facts in campaign.iterations[: number + 1])
    tiles.append(
        {
            "name": "rollout tokens",
            "value": f"{tokens:,}",
            "note": f"sampled to train the champion, over {number} iterations",
        }
    )
    seconds = [sum(facts.seconds.values()) for facts in campaign.iterations[: number + 1]]
    if all(seconds):
        tiles.append(
            {
                "name": "stage time",
                "value": f"{sum(seconds):,.0f} s",
                "note": f"of which {seconds[0]:,.0f} s for the base policy and its evaluation",
            }
        )
    return tiles


def _charts(campaign: CampaignFacts) -> dict[str, Markup | None]:
    tokens = figures.cumulative([facts.rollout_tokens for facts in campaign.iterations])
    seconds = [sum(facts.seconds.values()) for facts in campaign.iterations]
    several = len(campaign.iterations) > 1
    return {
        "learning": figures.learning_curve(campaign),
        "over_k": figures.over_k(campaign),
        "tokens": figures.over_cost(
            campaign,
            tokens,
            "rollout tokens sampled for training",
            "pass@k against rollout tokens",
        )
        if several
        else None,
        "seconds": figures.over_cost(
            campaign,
            figures.cumulative(seconds),
            "seconds of all stages, base policy included",
            "pass@k against seconds",
        )
        if several and all(seconds)
        else None,
        "expert": figures.expert_and_student(campaign),
        "bound": figures.success_bound(campaign),
        "generalisation": figures.generalisation(campaign),
        "regret": figures.regret(campaign),
    }


def _iteration_row(facts: IterationFacts, largest: int) -> dict[str, Any]:
    metrics, decision = facts.metrics, facts.decision
    difference = decision.from_parent["pass_at_1"] if decision else None
    return {
        "number": facts.evidence.iteration,
        "first": _interval(metrics, "pass_at_1"),
        "largest": _interval(metrics, f"pass_at_{largest}"),
        "majority": _interval(metrics, f"majority_at_{int(metrics['num_samples'])}"),
        "difference": difference,
        "parent": facts.evidence.parent,
        "verdict": _verdict(facts),
        "promoted": decision is None or decision.promoted,
        "reasons": decision.reasons if decision else "",
        "expert": _interval(metrics, "expert_accuracy"),
        "gain": _interval(metrics, "expert_gain"),
        "harder": _interval(metrics, "generalisation_pass_at_1"),
        "bound": _interval(metrics, "success_bound"),
        "log_success": math.log(metrics["pass_at_1"]) if metrics["pass_at_1"] > 0 else None,
        "likelihood": metrics.get("success_loglikelihood"),
        "entropy": metrics["entropy_per_token"],
        "tokens": metrics["response_tokens_mean"],
        "malformed": metrics["malformed_rate"],
        "truncated": metrics["truncation_rate"],
        "answers": metrics["distinct_answers_mean"],
    }


def _verdict(facts: IterationFacts) -> str:
    return "base" if facts.decision is None else facts.decision.verdict


def _not_better(campaign: CampaignFacts) -> list[int]:
    """Iterations whose expert, with feedback, is not shown to be better than the student."""
    return [
        facts.evidence.iteration
        for facts in campaign.iterations
        if "expert_gain" in facts.metrics and facts.metrics.get("expert_gain_low", -1.0) <= 0
    ]


def _checks(campaign: CampaignFacts) -> list[dict[str, Any]]:
    """A row for each check of each table, with the finding of each iteration that has it."""
    found = [
        {(finding.table, finding.check): finding for finding in facts.findings}
        for facts in campaign.iterations
    ]
    names = dict.fromkeys(name for each in reversed(found) for name in each)
    return [
        {"table": table, "check": check, "cells": [each.get((table, check)) for each in found]}
        for table, check in names
    ]


def _steps(campaign: CampaignFacts) -> dict[str, int]:
    """How many steps from parent to policy have an interval of the pass@1 change above, or below,
    0."""
    differences = [f.decision.from_parent["pass_at_1"] for f in campaign.iterations if f.decision]
    return {
        "all": len(differences),
        "rose": sum(difference.low > 0 for difference in differences),
        "fell": sum(difference.high < 0 for difference in differences),
    }


def _matrix(campaign: CampaignFacts) -> list[list[dict[str, Any]]]:
    """Rows of the matrix of losses, with a logarithmic shade from 0 to 1 for each cell."""
    losses = campaign.losses_ji
    if not losses.size:
        return []
    logs = np.log(np.maximum(losses, 1e-9))
    span = float(logs.max() - logs.min()) or 1.0
    best_i = losses.argmin(axis=0)
    return [
        [
            {
                "value": float(losses[j, i]),
                "shade": float((logs[j, i] - logs.min()) / span),
                "made_it": j == campaign.parents[i],
                "best": int(best_i[i]) == j,
            }
            for i in range(losses.shape[1])
        ]
        for j in range(losses.shape[0])
    ]


def _credit_view(credit_map: CreditMap) -> dict[str, Any]:
    costs = credit_map.costs
    return {
        "map": credit_map,
        "disagreement": float(costs.disagreement_t.sum()),
        "rows": [
            {"name": "local disagreement", "kind": "local", "cells": _cells(credit_map, "local")},
            {"name": "future credit", "kind": "future", "cells": _cells(credit_map, "future")},
        ],
    }


def _cells(credit_map: CreditMap, kind: str) -> list[dict[str, Any]]:
    costs = credit_map.costs
    values = costs.disagreement_t if kind == "local" else costs.future_credit_t
    largest = max(float(values.max()), 1e-9)
    return [
        {
            "text": _visible(token),
            "wanted": _visible(wanted),
            "value": float(value),
            "shade": float(value) / largest,
            "answer": _visible(credit_map.answers[place]) if place in credit_map.answers else "",
        }
        for place, (token, wanted, value) in enumerate(
            zip(credit_map.tokens, credit_map.wanted, values, strict=True)
        )
    ]


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def _changed_problems(
    campaign: CampaignFacts, champion: IterationFacts
) -> dict[str, list[dict[str, Any]]]:
    """The problems with the largest losses and gains, from the base to the champion, and from the
    last policy's parent to the last policy."""
    last = campaign.iterations[-1]
    pairs: dict[str, tuple[IterationFacts, IterationFacts]] = {}
    if champion.evidence.iteration:
        pairs["gains"] = (campaign.iterations[0], champion)
        pairs["regressions"] = (campaign.iterations[0], champion)
    if last.evidence.parent:
        parent = campaign.iterations[last.evidence.parent]
        pairs["last_gains"] = (parent, last)
        pairs["last_regressions"] = (parent, last)
    return {
        name: _most_changed(campaign, before, after, -1 if "gains" in name else 1)
        for name, (before, after) in pairs.items()
    }


def _most_changed(
    campaign: CampaignFacts, before: IterationFacts, after: IterationFacts, direction: int
) -> list[dict[str, Any]]:
    old, new = (
        facts.evaluation.filter(pl.col("split") == HELD_OUT).select(_PROBLEM_COLUMNS).collect()
        for facts in (before, after)
    )
    order = matching_order(*({"problem_id": each["problem_id"].to_numpy()} for each in (new, old)))
    pairs = pl.concat([new, old[order].select(pl.all().name.suffix("_before"))], how="horizontal")
    change = direction * (pl.col("num_correct") - pl.col("num_correct_before"))
    most = pairs.filter(change < 0).sort(change, maintain_order=True).head(_NUM_PROBLEMS_SHOWN)
    return [
        {
            "prompt": campaign.prompts[pair["problem_id"]],
            "old_number": before.evidence.iteration,
            "new_number": after.evidence.iteration,
            **pair,
        }
        for pair in most.iter_rows(named=True)
    ]


def _lineage_row(facts: IterationFacts) -> dict[str, Any]:
    artifacts = facts.evidence.artifacts
    return {
        "number": facts.evidence.iteration,
        "policy": artifacts["policy"],
        "parent": facts.evidence.parent,
        "feedback": artifacts.get("feedback"),
        "rollouts": artifacts.get("rollouts"),
        "expert": facts.evidence.expert,
        "tokens": facts.rollout_tokens,
        "seconds": sum(facts.seconds.values()) or None,
        "handed_over": facts.evidence.handed_over,
    }


def _settings(campaign: CampaignFacts) -> list[dict[str, Any]]:
    """The last iteration's settings by section, with the values that earlier iterations had."""
    last = campaign.iterations[-1]
    sections: list[dict[str, Any]] = []
    for section in _SETTINGS_SHOWN:
        prefix = f"{section}."
        rows = [
            {
                "name": name.removeprefix(prefix),
                "value": value,
                "others": _other_values(campaign.iterations[1:-1], name, value),
            }
            for name, value in last.evidence.settings.items()
            if name == section or name.startswith(prefix)
        ]
        sections.append({"name": section, "rows": rows})
    return sections


def _other_values(iterations: Sequence[IterationFacts], name: str, value: str) -> str:
    others = [
        f"{facts.evidence.settings.get(name, NOT_THERE)} (iteration {facts.evidence.iteration})"
        for facts in iterations
        if facts.evidence.settings.get(name) != value
    ]
    return ", ".join(others)
