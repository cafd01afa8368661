"""The pages that people read in MLflow: where a policy comes from, and what the iterations
achieved.

Markdown. Links lead to MLflow's own pages, relative to the address at which it is served.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping

from distil_core.lineage.evidence.inputs import Artifact
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.pages.chain import Chain, curves_url, experiment_url, model_url
from distil_core.lineage.pages.tables import (
    ROLE_NAMES,
    first_and_last_k,
    forward_table,
    interval,
    learning_table,
    lineage_table,
    number,
    settings_table,
)
from distil_core.workspace import iteration_key


def run_page(
    chain: Chain,
    seconds: Mapping[str, float],
    prefect_run_url: str | None,
    max_chars: int | None = None,
) -> str:
    """The page of an iteration's run. seconds: by stage. With `max_chars`, iterations in the middle
    of a long campaign are left out until the page fits."""
    this = chain.last
    parts = [
        _result(chain),
        _descent(chain),
        f"### Where policy {iteration_key(this.iteration)} comes from",
        "{lineage}",
        "### Learning so far",
        "{learning}",
        settings_table(chain),
        _snapshot(chain),
        _how_it_ran(seconds, prefect_run_url),
        _fetch(chain),
    ]
    page = "\n\n".join(part for part in parts if part)
    return _fitting(
        chain,
        max_chars,
        lambda shown: page.replace("{lineage}", lineage_table(chain, shown)).replace(
            "{learning}", learning_table(chain, shown)
        ),
    )


def campaign_page(chain: Chain, max_chars: int | None = None) -> str:
    """The page of the campaign's run: the learning table, with links to the iterations."""
    page = (
        f"Campaign **{chain.model_name}**, {_result(chain)}\n\n{{learning}}\n\n"
        "### Which policies each dataset led to\n\n{forward}\n\n"
        "Each iteration samples rollouts from the policy that the gate before handed over, "
        "has an expert look at them with feedback, and trains the next policy on what the expert "
        "would have done in the same places. The curve is `learning_curve.png` under *Artifacts*; "
        "the same numbers over iterations are this run's metrics (step = iteration).\n\n"
        f"Policies are versions of the registered model "
        f"[{chain.model_name}](#/models/{chain.model_name}); alias `newest` is the last one, "
        "`champion` the last one that the improvement gate promoted."
    )
    return _fitting(
        chain,
        max_chars,
        lambda shown: page.replace("{learning}", learning_table(chain, shown)).replace(
            "{forward}", forward_table(chain, shown)
        ),
    )


def experiment_page(model_name: str, experiment_id: str) -> str:
    """The description of the experiment."""
    return (
        f"What each iteration of campaign {model_name} brought, and what each policy came from: "
        f"[scores by iteration]({experiment_url(experiment_id)}), "
        f"[curves]({curves_url(experiment_id)}), [policies](#/models/"
        f"{model_name}). In the plain list of runs, press + beside a campaign's run to see its "
        "iterations."
    )


def model_page(model_name: str, experiment_id: str) -> str:
    """The page of the registered model."""
    return (
        f"The policies of campaign [{model_name}]({experiment_url(experiment_id)}), one version "
        "per iteration. A version's tags name its iteration and its parent; its description says "
        "what it was trained on. DVC keeps the weights, by the path and digest given there; "
        f'`mlflow.transformers.load_model("models:/{model_name}@champion")` and '
        "`mlflow.artifacts.download_artifacts` bring them from there, where DistIL is installed. "
        "Alias `newest`: the last iteration recorded; `champion`: the last one that the "
        "improvement gate promoted."
    )


def version_page(chain: Chain) -> str:
    """The page of a registered version, and of the logged model behind it."""
    this = chain.last
    number = this.iteration
    lines = [_result(chain)]
    if number == 0:
        warm_start = this.artifacts["warm_start"]
        lines += [f"- base policy, from {_cite('warm-start problems', warm_start)}"]
    else:
        start = this.parent or 0
        parent = chain.evidence[start].policy
        version = chain.recorded[start].model_version
        lines += [
            f"- parent: version {version}, {_cite(chain.policy(start), parent)}",
            f"- trained on {_cite('feedback table', this.artifacts['feedback'])}",
            f"- which the expert gave on {_cite('rollouts', this.artifacts['rollouts'])} "
            "of the parent",
        ]
    lines += [
        f"- recorded by the run of {chain.run(number)}",
        f"- this policy: {_cite('weights, config and tokenizer', this.policy)}",
    ]
    recorded = chain.recorded.get(number)
    if recorded:
        link = model_url(chain.experiment_id, recorded.model_id)
        lines.append(f"- its measurements: [logged model]({link})")
    if recorded and recorded.snapshot:
        lines.append(f"- snapshot (code, settings, dvc.lock): {recorded.snapshot}")
    if recorded and recorded.prefect_run_url:
        lines.append(f"- Prefect: [{recorded.prefect_run_url}]({recorded.prefect_run_url})")
    problems = this.artifacts.get("train_problems", this.artifacts["eval_problems"])
    role = "train_problems" if "train_problems" in this.artifacts else "eval_problems"
    lines.append(f"- {_cite(ROLE_NAMES[role], problems)}")
    return "\n\n".join([lines[0], "\n".join(lines[1:]), _fetch(chain)])


def _result(chain: Chain) -> str:
    """One line: how good, on which problems, and compared with the parent."""
    this = chain.last
    metrics = this.metrics
    ks = first_and_last_k(metrics)
    scores = ", ".join(
        f"pass@{k} {number(metrics, f'pass_at_{k}')} ({interval(metrics, k)})" for k in ks
    )
    text = f"{scores or 'not evaluated'}: policy {iteration_key(this.iteration)}"
    if "num_problems" in metrics:
        text += f" on {metrics['num_problems']:.0f} held-out problems"
    if this.iteration and ks:
        start = this.parent or 0
        before = chain.evidence[start].metrics.get(f"pass_at_{ks[0]}", math.nan)
        change = metrics[f"pass_at_{ks[0]}"] - before
        text += f"; {change:+.3f} pass@{ks[0]} against its parent, {chain.run(start)}"
    return text + "." + _gate_result(this)


def _gate_result(this: Evidence) -> str:
    """The improvement gate's decision on the policy."""
    if not this.decision:
        return ""
    if this.decision.promoted:
        return " The gate promoted it to champion."
    return (
        f" **Not promoted**: {this.decision.reasons}. Champion stays policy "
        f"{iteration_key(this.champion)}; the next iteration starts from policy "
        f"{iteration_key(this.handed_over)}."
    )


def _descent(chain: Chain) -> str:
    """The lineage in one line, for the few lines that MLflow shows before the page is expanded."""
    this = chain.last
    steps = [_digest(f"policy {iteration_key(this.iteration)}", this.policy)]
    if this.iteration:
        parent = this.parent or 0
        steps += [
            _digest("feedback", this.artifacts["feedback"]),
            _digest("rollouts", this.artifacts["rollouts"]),
            _digest(chain.policy(parent), chain.evidence[parent].policy),
        ]
    if this.iteration > 2:
        steps.append("…")
    if this.iteration > 1:
        steps.append(_digest(chain.policy(0), chain.evidence[0].policy))
    steps.append(_digest(ROLE_NAMES["warm_start"], chain.evidence[0].artifacts["warm_start"]))
    return " ← ".join(steps)


def _snapshot(chain: Chain) -> str:
    recorded = chain.recorded.get(chain.last.iteration)
    if recorded is None or not recorded.snapshot:
        return ""
    return f"Snapshot of code, settings and dvc.lock: {recorded.snapshot}"


def _how_it_ran(seconds: Mapping[str, float], url: str | None) -> str:
    lines = []
    if seconds:
        stages = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        lines.append(f"Time: {stages}; {sum(seconds.values()):.1f} s in all.")
    if url:
        lines.append(f"Prefect: [{url}]({url})")
    if not lines:
        return ""
    return "### How it ran\n\n" + "  \n".join(lines)


def _fetch(chain: Chain) -> str:
    this = chain.last
    path = this.policy.path
    evaluate = f"evaluate@{iteration_key(this.iteration)}"
    recorded = chain.recorded.get(this.iteration)
    by_version = (
        f'`mlflow.transformers.load_model("models:/{chain.model_name}/{recorded.model_version}")` '
        "where DistIL is installed, which brings the weights out of DVC; or "
        if recorded
        else ""
    )
    return (
        "### Get it back\n\n"
        f"```\ndvc checkout {path}    # or: dvc pull {path}\n"
        f"dvc repro {evaluate}    # runs only what is missing\n```\n\n"
        f'In Python: {by_version}`AutoModelForCausalLM.from_pretrained("{path}")`, '
        f"md5 `{this.policy.md5}`."
    )


def _cite(name: str, artifact: Artifact) -> str:
    return f"{name} (`{artifact.path}`, md5 `{artifact.md5}`)"


def _digest(name: str, artifact: Artifact) -> str:
    return f"{name} `{artifact.short_md5}`"


def _fitting(
    chain: Chain, max_chars: int | None, render: Callable[[Callable[[int], bool]], str]
) -> str:
    """The page with as many of the last iterations (and always the base) as fit."""
    number = chain.last.iteration
    whole = render(lambda _: True)
    if max_chars is None or len(whole) <= max_chars:
        return whole

    def page(oldest: int) -> str:
        shown = {0, *range(oldest, number + 1)}
        left_out = "The rows left out (…) are in `lineage.md` under *Artifacts*."
        return f"{render(shown.__contains__)}\n\n{left_out}"

    # Bisected, as trying one by one would take time quadratic in the iterations.
    tries = range(2, number + 1)
    return page(2 + bisect_left(tries, True, key=lambda oldest: len(page(oldest)) <= max_chars))
