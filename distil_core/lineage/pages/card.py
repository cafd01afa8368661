"""The model card of a registered version: its lineage and its measurements."""

from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.pages.chain import Chain
from distil_core.lineage.pages.page import version_page
from distil_core.policy.card_opening import card_opening
from distil_core.workspace import iteration_key

_EXPERT_FIGURES = (
    ("expert_accuracy", "accuracy of its expert, with feedback"),
    ("expert_gain", "gain of the expert over this policy"),
    ("success_loglikelihood", "log-likelihood of the expert's successes, nats"),
    ("success_bound", "lower bound on log pass@1, nats"),
)


def model_card(chain: Chain) -> str:
    """Markdown with the header that model hubs read, made only from the record."""
    this = chain.last
    key = iteration_key(this.iteration)
    return "\n".join(
        [
            *card_opening(f"{chain.model_name}, policy {key}"),
            version_page(chain),
            "",
            "### Evaluation",
            "",
            "Held-out problems, no feedback in the context; 95% bootstrap intervals over problems.",
            "",
            "| figure | value | 95% interval |",
            "|---|---:|---:|",
            *score_rows(this),
            "",
            *gate_lines(this, "###"),
            "### Made with",
            "",
            *(
                f"- {name}: `{this.settings[setting]}`"
                for name, setting in (
                    ("problems", "problems.source.name"),
                    ("verifier", "consult.verifier.name"),
                    ("expert", "tabulate.expert.name"),
                    ("objective", "train.objective.name"),
                )
                if setting in this.settings
            ),
            "",
            "Nothing outside these problems was measured.",
            "",
        ]
    )


def score_rows(this: Evidence) -> list[str]:
    """Rows of a table of scores with their intervals: the policy's own and its expert's."""
    metrics = this.metrics
    ks = pass_at_ks(metrics)
    named = [(f"pass_at_{k}", f"pass@{k}") for k in ks]
    if "num_samples" in metrics:
        count = f"{metrics['num_samples']:.0f}"
        named.append((f"majority_at_{count}", f"majority@{count}"))
    named += _EXPERT_FIGURES
    named += [(f"generalisation_pass_at_{k}", f"pass@{k}, generalisation set") for k in ks[:1]]
    return [
        f"| {text} | {metrics[name]:.3f} | {_interval(this, name)} |"
        for name, text in named
        if name in metrics
    ]


def _interval(this: Evidence, name: str) -> str:
    low, high = this.metrics.get(f"{name}_low"), this.metrics.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def gate_lines(this: Evidence, heading: str) -> list[str]:
    """The paired differences that its gate decided on, below a heading of that level; empty for
    the base."""
    if not this.decision:
        return []
    rows = [
        f"| {score} | {difference.value:+.3f} | {difference.low:+.3f} to {difference.high:+.3f} |"
        for score, difference in this.decision.from_champion.items()
    ]
    before = iteration_key(this.decision.compared_with)
    return [
        f"{heading} Against policy {before}, the champion before",
        "",
        "| score | difference, paired by problem | 95% interval |",
        "|---|---:|---:|",
        *rows,
        "",
    ]
