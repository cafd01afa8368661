"""What a preview's figures mean, in plain words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from distil_core.preview.attempts import Tried
from distil_core.preview.figures import Figures
from distil_core.preview.first_token import missing_bos

NOT_BETTER = (
    "the expert is not better than the student with this template: training toward it will hurt"
)
_FEW = 0.1
_MOST = 0.5


@dataclass(frozen=True)
class Finding:
    """level: 'problem' for what makes a run useless, 'warning' for what may."""

    level: Literal["problem", "warning", "good"]
    text: str


def findings_of(tried: Tried, figures: Figures) -> list[Finding]:
    """The most important first."""
    found = [
        *_expert(tried, figures),
        *_feedback(tried, figures),
        *_responses(tried, figures),
        *(Finding("warning", note) for note in tried.policy.notes),
    ]
    order = ("problem", "warning", "good")
    return sorted(found, key=lambda finding: order.index(finding.level))


def _expert(tried: Tried, figures: Figures) -> Iterator[Finding]:
    gain = figures.gain
    if gain is None or figures.expert is None:
        return
    beside = (
        f"it is right {figures.expert.text()} of the time after it has read the feedback, the "
        f"student {figures.student.text()} without; the difference on the same "
        f"{figures.num_problems} problems is {gain.text('+.3f')}"
    )
    if figures.student.value == 1.0:
        yield Finding(
            "warning", "the student solves all of these problems: there is nothing to learn"
        )
    elif gain.value <= 0:
        yield Finding("problem", f"{NOT_BETTER} ({beside})")
    elif gain.low is None or gain.low <= 0:
        yield Finding(
            "warning",
            f"the expert is not shown to be better than the student on so few problems: {beside}. "
            "--problems 64 tells more",
        )
    else:
        yield Finding("good", f"the expert is better than the student: {beside}")
    if figures.num_answers_truncated > _MOST * figures.num_answers:
        yield Finding(
            "warning",
            f"{figures.num_answers_truncated} of {figures.num_answers} of the expert's answers "
            "reach sample.max_new_tokens, and a truncated one is never right",
        )
    wrong = figures.num_answers - figures.verdicts.get("correct", 0)
    if wrong > 0 and figures.num_answers_repeating > _MOST * wrong:
        yield Finding(
            "warning",
            f"to {figures.num_answers_repeating} wrong attempts the expert answers with the same "
            "attempt again: it copies, and does not read the feedback",
        )


def _feedback(tried: Tried, figures: Figures) -> Iterator[Finding]:
    num_judged = figures.num_rollouts - figures.num_without_verdict
    if tried.complaint is not None:
        yield Finding("problem", tried.complaint)
    elif figures.num_silent == num_judged:
        yield Finding(
            "problem",
            "the expert has nothing to say on any rollout: no feedback that "
            "context.expert_template names was given, or no answer could be used; training would "
            "change nothing",
        )
    elif figures.num_silent > _MOST * num_judged:
        yield Finding(
            "warning",
            f"the expert has nothing to say on {figures.num_silent} of {num_judged} rollouts",
        )
    if figures.num_without_verdict:
        yield Finding(
            "warning",
            f"{figures.num_without_verdict} of {figures.num_rollouts} rollouts have no verdict: "
            f"{figures.first_error}",
        )
    if figures.num_shortened:
        yield Finding(
            "warning",
            f"{figures.num_shortened} contexts were shortened to context.max_context_tokens",
        )


def _responses(tried: Tried, figures: Figures) -> Iterator[Finding]:
    count, truncated = figures.num_rollouts, figures.num_truncated
    limit = tried.params.sample.max_new_tokens
    if truncated == count:
        yield Finding(
            "problem",
            f"no response ends before sample.max_new_tokens {limit}: the end token is never drawn ("
            f"{', '.join(figures.ends)} would end one), so that none can be right. Raise the "
            "limit, or mend the template's last turn",
        )
    elif truncated > _FEW * count:
        yield Finding(
            "warning",
            f"{truncated} of {count} responses reach sample.max_new_tokens {limit}, and a "
            "truncated one is never right",
        )
    if (missing := missing_bos(tried)) is not None:
        yield Finding("warning", missing)
    for token, number in figures.inner_specials.items():
        yield Finding(
            "warning",
            f"the special token {token} stands {number} times within responses: if it ends a turn "
            "of this model, its generation_config.json must name it in eos_token_id",
        )
    if (malformed := figures.verdicts.get("malformed", 0)) > _MOST * count:
        yield Finding(
            "warning",
            f"{malformed} of {count} responses are malformed: say in context.student_template in "
            "which form an answer is read, best with an example",
        )
    if len(figures.verdicts) == 1 and "correct" not in figures.verdicts:
        yield Finding(
            "warning",
            f"all responses are {next(iter(figures.verdicts))}: a reward without a right answer "
            "teaches nothing, and only an expert that knows better can help",
        )
