"""What a person reads in MLflow: where a policy comes from and what the iterations brought.

Markdown. Links are those of MLflow's own pages, relative to the address it is served at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.lineage.mlflow_evidence import Artifact, Evidence
from distil_core.workspace import iteration_key

LEARNING_VIEW = "learning"
"""Name of the shared view of the runs' table that `mlflow_record` saves with the experiment."""

# MLflow's pages open for GenAI traces unless told that there are runs to see.
_TRAINING_UI = "workflowType=machine_learning"
_ROLE_NAMES = {
    "warm_start": "warm-start problems",
    "train_problems": "training problems",
    "eval_problems": "evaluation problems",
}

_MAX_SETTINGS = 12


@dataclass(frozen=True)
class Recorded:
    """What an iteration is in MLflow."""

    run_id: str
    model_id: str
    model_version: int


@dataclass(frozen=True)
class Chain:
    """The iterations up to the one a page is about, and where those recorded so far lie."""

    model_name: str
    experiment_id: str
    evidence: Mapping[int, Evidence]
    recorded: Mapping[int, Recorded]

    @property
    def last(self) -> Evidence:
        """The iteration the page is about."""
        return self.evidence[max(self.evidence)]

    def with_recorded(self, recorded: Recorded) -> "Chain":
        """This chain, knowing where its last iteration lies."""
        return replace(self, recorded={**self.recorded, self.last.iteration: recorded})

    def policy(self, iteration: int) -> str:
        """'policy 002', as a link to its registered version where there is one."""
        name = f"policy {iteration_key(iteration)}"
        if iteration not in self.recorded:
            return name
        version = self.recorded[iteration].model_version
        return f"[{name}]({version_url(self.model_name, version)})"

    def run(self, iteration: int) -> str:
        """'iteration 2', as a link to its run where there is one."""
        name = f"iteration {iteration}" + (" (base)" if iteration == 0 else "")
        if iteration not in self.recorded:
            return name
        return f"[{name}]({run_url(self.experiment_id, self.recorded[iteration].run_id)})"


def experiment_url(experiment_id: str) -> str:
    """MLflow's page of a campaign: its iterations and their scores as one table."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={LEARNING_VIEW}&{_TRAINING_UI}"


def run_url(experiment_id: str, run_id: str) -> str:
    """MLflow's page of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING_UI}"


def version_url(model_name: str, version: int) -> str:
    """MLflow's page of a registered version."""
    return f"#/models/{model_name}/versions/{version}"


def run_page(
    chain: Chain,
    seconds: Mapping[str, float],
    prefect_run_url: str | None,
    max_chars: int | None = None,
) -> str:
    """The page of an iteration's run. seconds: by stage. With `max_chars`, iterations in the
    middle of a long campaign are left out until the page fits."""
    this = chain.last
    parts = [
        _result(chain),
        _descent(chain),
        f"### Where policy {iteration_key(this.iteration)} comes from",
        "{lineage}",
        "### Learning so far",
        "{learning}",
        _settings(chain),
        _how_it_ran(seconds, prefect_run_url),
        _fetch(this),
    ]
    page = "\n\n".join(part for part in parts if part)
    return _fitting(
        chain,
        max_chars,
        lambda shown: page.replace("{lineage}", _lineage_table(chain, shown)).replace(
            "{learning}", learning_table(chain, shown)
        ),
    )


def campaign_page(chain: Chain, max_chars: int | None = None) -> str:
    """The page of the campaign's run: the learning table, with links to the iterations."""
    page = (
        f"Campaign **{chain.model_name}**, {_result(chain)}\n\n{{learning}}\n\n"
        "Each iteration samples rollouts from the newest policy, "
        "has an expert look at them with feedback, and trains the next policy on what the expert "
        "would have done in the same places. The curve is `learning_curve.png` under *Artifacts*; "
        "the same numbers over iterations are this run's metrics (step = iteration).\n\n"
        f"Policies are versions of the registered model "
        f"[{chain.model_name}](#/models/{chain.model_name}); alias `newest` is the last one."
    )
    return _fitting(
        chain, max_chars, lambda shown: page.replace("{learning}", learning_table(chain, shown))
    )


def experiment_page(model_name: str, experiment_id: str) -> str:
    """The description of the experiment."""
    return (
        f"Campaign {model_name}: [iterations with their scores]({experiment_url(experiment_id)}) "
        f"and [policies](#/models/{model_name}). In the plain list of runs, press + beside the "
        "campaign's run to see its iterations."
    )


def model_page(model_name: str, experiment_id: str) -> str:
    """The page of the registered model."""
    return (
        f"The policies of campaign [{model_name}]({experiment_url(experiment_id)}), one version "
        "per iteration. A version's tags name its iteration and its parent; its description says what "
        "it was trained on. The weights are not in MLflow: DVC keeps them, by the path and digest "
        "given there. Alias `newest`: the last iteration recorded."
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
        parent = chain.evidence[number - 1].policy
        version = chain.recorded[number - 1].model_version
        lines += [
            f"- parent: version {version}, {_cite(chain.policy(number - 1), parent)}",
            f"- trained on {_cite('feedback table', this.artifacts['feedback'])}",
            f"- which the expert gave on {_cite('rollouts', this.artifacts['rollouts'])} "
            "of the parent",
        ]
    lines += [
        f"- recorded by the run of {chain.run(number)}",
        f"- this policy: {_cite('weights, config and tokenizer', this.policy)}",
    ]
    return "\n\n".join([lines[0], "\n".join(lines[1:]), _fetch(this)])


def learning_table(chain: Chain, shown: Callable[[int], bool] = lambda _: True) -> str:
    """Iterations with pass@1, pass@(largest k), their 95% intervals and response length."""
    ks = _first_and_last_k(chain.last.metrics)
    scores = [f"pass@{k} (95% interval)" for k in ks]
    rows = [["iteration", "policy", *scores, "response tokens"]]
    for iteration in sorted(chain.evidence):
        if not shown(iteration):
            rows.append(_gap(rows))
            continue
        metrics = chain.evidence[iteration].metrics
        rows.append(
            [
                chain.run(iteration),
                chain.policy(iteration),
                *[f"{_number(metrics, f'pass_at_{k}')} ({_interval(metrics, k)})" for k in ks],
                _number(metrics, "response_tokens_mean", 1),
            ]
        )
    return _table(rows)


def _result(chain: Chain) -> str:
    """One line: how good, on what, and against the parent."""
    this = chain.last
    metrics = this.metrics
    ks = _first_and_last_k(metrics)
    scores = ", ".join(
        f"pass@{k} **{_number(metrics, f'pass_at_{k}')}** ({_interval(metrics, k)})" for k in ks
    )
    text = f"{scores or 'not evaluated'}: policy {iteration_key(this.iteration)}"
    if "num_problems" in metrics:
        text += f" on {metrics['num_problems']:.0f} held-out problems"
    if this.iteration and ks:
        before = chain.evidence[this.iteration - 1].metrics
        change = metrics[f"pass_at_{ks[0]}"] - before[f"pass_at_{ks[0]}"]
        text += f"; {change:+.3f} pass@{ks[0]} against its parent, {chain.run(this.iteration - 1)}"
    return text + "."


def _descent(chain: Chain) -> str:
    """The lineage in one line, for the few lines MLflow shows before one asks for more."""
    this = chain.last
    steps = [_digest(f"policy {iteration_key(this.iteration)}", this.policy)]
    if this.iteration:
        parent = this.iteration - 1
        steps += [
            _digest("feedback", this.artifacts["feedback"]),
            _digest("rollouts", this.artifacts["rollouts"]),
            _digest(chain.policy(parent), chain.evidence[parent].policy),
        ]
    if this.iteration > 2:
        steps.append("…")
    if this.iteration > 1:
        steps.append(_digest(chain.policy(0), chain.evidence[0].policy))
    steps.append(_digest(_ROLE_NAMES["warm_start"], chain.evidence[0].artifacts["warm_start"]))
    return " ← ".join(steps)


def _lineage_table(chain: Chain, shown: Callable[[int], bool]) -> str:
    """From the policy down to the problems: each row's artifact came from those named in it."""
    rows = [["artifact", "from", "made by", "DVC path", "md5"]]
    for iteration in sorted(chain.evidence, reverse=True):
        if shown(iteration):
            rows += _lineage_rows(chain, iteration)
        else:
            rows.append(_gap(rows))
    last = chain.last
    base = chain.evidence[0].artifacts["warm_start"]
    problems = [("warm_start", base)] + [
        (role, last.artifacts[role])
        for role in ("train_problems", "eval_problems")
        if role in last.artifacts
    ]
    rows += [_row(_ROLE_NAMES[role], "the generator", artifact) for role, artifact in problems]
    return _table(rows)


def _lineage_rows(chain: Chain, iteration: int) -> list[list[str]]:
    this = chain.evidence[iteration]
    key = iteration_key(iteration)
    policy = chain.policy(iteration)
    if iteration == 0:
        return [_row(f"**{policy}** (base)", "warm-start problems", this.policy)]
    parent = f"policy {iteration_key(iteration - 1)}"
    expert = "" if this.expert is None else f", expert: policy {iteration_key(this.expert)}"
    parts = this.artifacts
    return [
        _row(f"**{policy}**", f"feedback {key}, {parent}", this.policy),
        _row(f"feedback {key}", f"consultations {key}, rollouts {key}{expert}", parts["feedback"]),
        _row(f"consultations {key}", f"rollouts {key}", parts["consultations"]),
        _row(f"rollouts {key}", f"{parent}, training problems", parts["rollouts"]),
    ]


def _row(name: str, source: str, artifact: Artifact) -> list[str]:
    return [name, source, artifact.stage, f"`{artifact.path}`", f"`{artifact.short_md5}`"]


def _settings(chain: Chain) -> str:
    """Which settings differ from the parent iteration's."""
    number = chain.last.iteration
    if number == 0:
        return ""
    after = chain.last.settings
    before = chain.evidence[number - 1].settings
    changed = [
        [f"`{name}`", f"`{before.get(name, '-'):.60}`", f"`{after.get(name, '-'):.60}`"]
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name != "iteration"
    ]
    if not changed:
        return f"Settings: as in iteration {number - 1}."
    header = ["setting", f"iteration {number - 1}", f"iteration {number}"]
    more = len(changed) - _MAX_SETTINGS
    rest = f"\n\nand {more} more, see *Parameters*" if more > 0 else ""
    return "### Settings that changed\n\n" + _table([header, *changed[:_MAX_SETTINGS]]) + rest


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


def _fetch(this: Evidence) -> str:
    path = this.policy.path
    evaluate = f"evaluate@{iteration_key(this.iteration)}"
    return (
        "### Get it back\n\n"
        f"```\ndvc checkout {path}    # or: dvc pull {path}\n"
        f"dvc repro {evaluate}    # runs only what is missing\n```\n\n"
        f'In Python: `AutoModelForCausalLM.from_pretrained("{path}")`, md5 `{this.policy.md5}`.'
    )


def _cite(name: str, artifact: Artifact) -> str:
    return f"{name} (`{artifact.path}`, md5 `{artifact.md5}`)"


def _number(metrics: Mapping[str, float], name: str, decimals: int = 3) -> str:
    return f"{metrics[name]:.{decimals}f}" if name in metrics else "-"


def _interval(metrics: Mapping[str, float], k: int) -> str:
    low, high = (_number(metrics, f"pass_at_{k}_{end}") for end in ("low", "high"))
    return f"{low} to {high}"


def _gap(rows: list[list[str]]) -> list[str]:
    return ["…"] + [""] * (len(rows[0]) - 1)


def _first_and_last_k(metrics: Mapping[str, float]) -> list[int]:
    ks = pass_at_ks(metrics)
    return sorted({ks[0], ks[-1]}) if ks else []


def _digest(name: str, artifact: Artifact) -> str:
    return f"{name} `{artifact.short_md5}`"


def _table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first one its header; repeated gaps become one."""
    # MLflow's notes draw tables without any space between columns.
    lines = ["| " + " | ".join(cell + "&emsp;" for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(
        line for index, line in enumerate(lines) if index == 0 or line != lines[index - 1]
    )


def _fitting(
    chain: Chain, max_chars: int | None, render: Callable[[Callable[[int], bool]], str]
) -> str:
    """The page with as many of the last iterations (and always the base) as fit."""
    number = chain.last.iteration
    page = render(lambda _: True)
    oldest = 1
    while max_chars is not None and len(page) > max_chars and oldest <= number:
        oldest += 1
        shown = {0, *range(oldest, number + 1)}
        page = render(shown.__contains__)
        page += "\n\nThe rows left out (…) are in `lineage.md` under *Artifacts*."
    return page
