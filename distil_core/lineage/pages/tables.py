"""The tables on MLflow's pages: learning, lineage, changed settings."""

from collections.abc import Callable, Mapping

from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.lineage.evidence.inputs import Artifact
from distil_core.lineage.pages.chain import Chain
from distil_core.workspace import iteration_key

ROLE_NAMES = {
    "warm_start": "warm-start problems",
    "train_problems": "training problems",
    "eval_problems": "evaluation problems",
}

_MAX_SETTINGS = 12


def learning_table(chain: Chain, shown: Callable[[int], bool] = lambda _: True) -> str:
    """Iterations with pass@1, pass@(largest k), their 95% intervals and response length."""
    ks = first_and_last_k(chain.last.metrics)
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
                *[f"{number(metrics, f'pass_at_{k}')} ({interval(metrics, k)})" for k in ks],
                number(metrics, "response_tokens_mean", 1),
            ]
        )
    return _table(rows)


def lineage_table(chain: Chain, shown: Callable[[int], bool]) -> str:
    """From the policy back to the problems: each row's artifact was made from those named in the
    row."""
    rows = [["artifact", "from", "made by", "DVC path", "md5", "snapshot"]]
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
    rows += [_row(ROLE_NAMES[role], "the generator", artifact) for role, artifact in problems]
    return _table(rows)


def _lineage_rows(chain: Chain, iteration: int) -> list[list[str]]:
    this = chain.evidence[iteration]
    key = iteration_key(iteration)
    policy = chain.policy(iteration)
    if iteration == 0:
        row = _row(f"**{policy}** (base)", "warm-start problems", this.policy)
        return [_where_it_ran(chain, iteration, row)]
    parent = f"policy {iteration_key(this.parent or 0)}"
    expert = "" if this.expert is None else f", expert: policy {iteration_key(this.expert)}"
    parts = this.artifacts
    return [
        _where_it_ran(
            chain, iteration, _row(f"**{policy}**", f"feedback {key}, {parent}", this.policy)
        ),
        _row(f"feedback {key}", f"consultations {key}, rollouts {key}{expert}", parts["feedback"]),
        _row(f"consultations {key}", f"rollouts {key}", parts["consultations"]),
        _row(f"rollouts {key}", f"{parent}, training problems", parts["rollouts"]),
    ]


def _row(name: str, source: str, artifact: Artifact) -> list[str]:
    return [name, source, artifact.stage, f"`{artifact.path}`", f"`{artifact.short_md5}`", ""]


def _where_it_ran(chain: Chain, iteration: int, row: list[str]) -> list[str]:
    """The policy's row with its snapshot and, behind its stage, its Prefect run."""
    recorded = chain.recorded.get(iteration)
    if recorded is None:
        return row
    url = recorded.prefect_run_url
    commit = f"`{recorded.snapshot_commit[:10]}`" if recorded.snapshot_commit else ""
    return [*row[:2], f"[{row[2]}]({url})" if url else row[2], *row[3:-1], commit]


def forward_table(chain: Chain, shown: Callable[[int], bool]) -> str:
    """From each dataset to the policies trained on it, directly and through other policies."""
    later: dict[int, list[int]] = {iteration: [] for iteration in chain.evidence}
    for iteration in sorted(chain.evidence):
        ancestor = chain.evidence[iteration].parent
        while ancestor is not None:
            later[ancestor].append(iteration)
            ancestor = chain.evidence[ancestor].parent
    rows = [["dataset", "md5", "trained on it", "through those"]]
    base = chain.evidence[0].artifacts["warm_start"]
    rows.append(
        [ROLE_NAMES["warm_start"], f"`{base.short_md5}`", chain.policy(0), _numbers(later[0])]
    )
    for iteration in sorted(chain.evidence):
        if iteration == 0:
            continue
        if not shown(iteration):
            rows.append(_gap(rows))
            continue
        key = iteration_key(iteration)
        for role in ("rollouts", "feedback"):
            artifact = chain.evidence[iteration].artifacts[role]
            rows.append(
                [
                    f"{role} {key}",
                    f"`{artifact.short_md5}`",
                    chain.policy(iteration),
                    _numbers(later[iteration]),
                ]
            )
    return _table(rows)


def _numbers(iterations: list[int]) -> str:
    """'policies 002 to 006', with gaps as a list of such ranges."""
    ranges: list[list[int]] = []
    for number in iterations:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [
        iteration_key(first) + (f" to {iteration_key(last)}" if last > first else "")
        for first, last in ranges
    ]
    return f"policies {', '.join(texts)}" if texts else "-"


def settings_table(chain: Chain) -> str:
    """The settings that differ from the parent iteration's."""
    number = chain.last.iteration
    if number == 0:
        return ""
    after = chain.last.settings
    before = chain.evidence[number - 1].settings
    changed = [
        [f"`{name}`", _cell(before.get(name, "-")), _cell(after.get(name, "-"))]
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name != "iteration"
    ]
    if not changed:
        return f"Settings: as in iteration {number - 1}."
    header = ["setting", f"iteration {number - 1}", f"iteration {number}"]
    more = len(changed) - _MAX_SETTINGS
    rest = f"\n\nand {more} more, see *Parameters*" if more > 0 else ""
    return "### Settings that changed\n\n" + _table([header, *changed[:_MAX_SETTINGS]]) + rest


def _cell(setting: str) -> str:
    """A setting's value as code that cannot break its table."""
    value = f"{setting:.60}".replace("|", "\\|").replace("\n", " ").replace("`", "'")
    return f"`{value}`"


def number(metrics: Mapping[str, float], name: str, decimals: int = 3) -> str:
    """A metric as text, '-' where there is none."""
    return f"{metrics[name]:.{decimals}f}" if name in metrics else "-"


def interval(metrics: Mapping[str, float], k: int) -> str:
    """The 95% interval of pass@k as text."""
    low, high = (number(metrics, f"pass_at_{k}_{end}") for end in ("low", "high"))
    return f"{low} to {high}"


def _gap(rows: list[list[str]]) -> list[str]:
    return ["…"] + [""] * (len(rows[0]) - 1)


def first_and_last_k(metrics: Mapping[str, float]) -> list[int]:
    """The smallest and the largest k of pass@k, for a summary."""
    ks = pass_at_ks(metrics)
    return sorted({ks[0], ks[-1]}) if ks else []


def _table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, with the header first; repeated gaps become one."""
    # MLflow's notes draw tables without any space between columns.
    lines = ["| " + " | ".join(cell + "&emsp;" for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(
        line for index, line in enumerate(lines) if index == 0 or line != lines[index - 1]
    )
