"""A preview as the terminal and the page show it: texts, tokens, rows of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distil_core.feedback.contexts import RenderedContext
from distil_core.feedback.transcript import attempt_text, feedback_on
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.text_segments import Segment
from distil_core.preview.attempts import Attempt, Tried
from distil_core.preview.estimate import Estimate
from distil_core.preview.figures import Figures, likeliest_ids
from distil_core.preview.findings import Finding
from distil_core.preview.first_token import count_with_bos, described_beginning
from distil_core.tables.turns import own_ids, parts, turn_lengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACE, _NEWLINE, _NOTHING, _NONE = "␣", "⏎", "∅", "\N{EN DASH}"


@dataclass(frozen=True)
class Token:
    """text: with blanks made visible. wanted: the expert's most likely token there, where it is
    another one; None where it is the same, or the expert is silent. by_environment: written between
    two turns, by no policy."""

    text: str
    wanted: str | None = None
    by_environment: bool = False


@dataclass(frozen=True)
class ContextView:
    """segments: text as it was filled in, each with whether it is the template's own. beginning:
    whether the first token is the model's own."""

    segments: Sequence[Segment]
    tokens: Sequence[Token]
    beginning: str

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True)
class AttemptView:
    """One rollout. answer: what the expert wrote; None where it was not asked."""

    verdict: str
    reward: float | None
    response: str
    tokens: Sequence[Token]
    ending: str
    feedback: Sequence[tuple[str, str]]
    error: str | None
    expert: ContextView | None
    silent: bool
    answer: str | None
    answer_verdict: str
    answer_ending: str


@dataclass(frozen=True)
class ProblemView:
    """A problem and its rollouts."""

    problem_id: str
    prompt: str
    student: ContextView
    attempts: Sequence[AttemptView]

    @property
    def telling(self) -> AttemptView:
        """The rollout that shows most: a wrong one that the expert spoke about, if there is one."""
        return min(self.attempts, key=_by_use)


@dataclass(frozen=True)
class PreviewView:
    """Everything that is shown."""

    campaign: str
    policy: str
    findings: Sequence[Finding]
    rows: Sequence[tuple[str, str, str]]
    estimate: Estimate
    problems: Sequence[ProblemView]


def _by_use(one: AttemptView) -> tuple[bool, bool, bool]:
    return (one.verdict == "correct", one.answer is None, one.silent)


def view_of(
    tried: Tried, figures: Figures, findings: Sequence[Finding], estimated: Estimate
) -> PreviewView:
    """Make it all readable."""
    problems = [
        ProblemView(
            problem.problem_id,
            problem.prompt,
            _context(tried.tokenizer, context),
            [
                _attempt(tried, one)
                for one in tried.attempts
                if one.rollout.problem_id == problem.problem_id
            ],
        )
        for problem in tried.problems
        for context in [tried.contexts[problem.problem_id]]
    ]
    # Those that show most come first.
    problems.sort(key=lambda problem: _by_use(problem.telling))
    return PreviewView(
        tried.params.campaign,
        tried.policy.described,
        findings,
        figure_rows(tried, figures, estimated),
        estimated,
        problems,
    )


def _attempt(tried: Tried, one: Attempt) -> AttemptView:
    tokenizer, rollout, answer = tried.tokenizer, one.rollout, one.answer
    wanted = [
        None if ours is None or ours == drawn else _visible(tokenizer, ours)
        for ours, drawn in zip(likeliest_ids(one), own_ids(rollout), strict=True)
    ]
    others = iter(wanted)
    tokens = [
        Token(_visible(tokenizer, token), next(others) if is_policys else None, not is_policys)
        for is_policys, ids in parts(rollout.response_ids, turn_lengths(rollout.turns))
        for token in ids
    ]
    context = one.judged.context if one.judged else None
    return AttemptView(
        verdict=one.consultation.verdict,
        reward=one.consultation.reward,
        response=attempt_text(rollout, tried.params.context),
        tokens=tokens,
        ending=_ending(tokenizer, rollout.response_ids, rollout.finish_reason == "length"),
        feedback=[(item.kind, item.text) for item in feedback_on(rollout, one.consultation)],
        error=one.consultation.error,
        expert=_context(tokenizer, context) if context else None,
        silent=one.row is not None and not one.row.has_expert,
        answer=answer.text if answer else None,
        answer_verdict=answer.stated_verdict if answer else "",
        answer_ending=_ending(tokenizer, one.answer_ids, answer.is_truncated) if answer else "",
    )


def _context(tokenizer: PreTrainedTokenizerBase, context: RenderedContext) -> ContextView:
    tokens = _tokens(tokenizer, context.token_ids)
    return ContextView(context.segments, tokens, described_beginning(tokenizer, context.token_ids))


def _ending(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], truncated: bool) -> str:
    if truncated:
        return "cut at max_new_tokens"
    ended = bool(ids) and ids[-1] in end_token_ids(tokenizer)
    return f"ends in {tokenizer.convert_ids_to_tokens(int(ids[-1]))}" if ended else "no end token"


def _tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[Token]:
    return [Token(_visible(tokenizer, token)) for token in ids]


def _visible(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    text = str(tokenizer.decode([int(token_id)], clean_up_tokenization_spaces=False))
    return text.replace("\n", _NEWLINE).replace(" ", _SPACE) or _NOTHING


def figure_rows(tried: Tried, figures: Figures, estimated: Estimate) -> list[tuple[str, str, str]]:
    """Name, value, and what it is made of."""
    answered, count = figures.num_answers, figures.num_rollouts
    judged = count - figures.num_without_verdict
    rows = [
        (
            "student, right",
            figures.student.text(),
            f"{count} rollouts of {figures.num_problems} problems, without feedback",
        )
    ]
    if figures.expert and figures.gain:
        rows += [
            (
                "expert, right",
                figures.expert.text(),
                f"{answered} answers of its own, with the feedback",
            ),
            ("difference", figures.gain.text("+.3f"), "paired by problem, with its 95% interval"),
        ]
    else:
        kind = tried.params.tabulate.expert.name
        reason = (
            "no rollout has feedback for it to read"
            if tried.writes
            else f"an expert of kind {kind} is no policy that could be sampled"
        )
        rows.append(("expert, right", "not measured", reason))
    shares = ", ".join(f"{name} {number}" for name, number in figures.verdicts.items())
    rows.append(("verdicts", shares or "none", f"of {count} rollouts"))
    for group, one in figures.agreement.items():
        where = f"of {one.num_states} states where the attempt is {group}"
        if group == "all":
            where = (
                f"of the student's {one.num_states} states: expert and student find the same token "
                f"likeliest ({one.with_drawn:.1%}: the one that was drawn)"
            )
        name = "agreement" if group == "all" else ""
        rows.append((name, f"{one.with_likeliest:.1%}", where))
    silent = f"of {judged} rollouts the expert has nothing to say about"
    rows.append(("silent", _share(figures.num_silent, judged), silent))
    cut = f"of {count} responses reach max_new_tokens"
    if answered:
        cut += f"; {_share(figures.num_answers_truncated, answered)} of the expert's"
    rows.append(("truncated", _share(figures.num_truncated, count), cut))
    ends = ", ".join(f"{token} {number}" for token, number in figures.ends.items())
    rows.append(("end tokens", ends or "none", "how often each ended a response"))
    rows.append(
        (
            "contexts",
            f"{figures.longest_student_context} and {figures.longest_expert_context}",
            "tokens at most, the student's and the expert's; context.max_context_tokens is "
            f"{tried.params.context.max_context_tokens}",
        )
    )
    with_bos, num_contexts = count_with_bos(tried)
    bos = tried.tokenizer.bos_token
    note = f"contexts begin with the tokenizer's first token ({bos})"
    rows.append(
        ("first token", f"{with_bos} of {num_contexts}", note)
        if bos is not None
        else ("first token", _NONE, "the tokenizer has none (bos_token)")
    )
    expert_rate = estimated.expert_tokens_per_second
    rows.append(
        (
            "sampling",
            f"{estimated.tokens_per_second:,.0f} tokens/s",
            f"{count} responses at once"
            + (f"; the expert {expert_rate:,.0f} tokens/s" if expert_rate else ""),
        )
    )
    return rows


def duration(seconds: float) -> str:
    """For people: 4.2 s, 3 min, 5.1 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def gigabytes(size: float) -> str:
    """For people: 0.08 GB, 12 GB."""
    return f"{size:.2g} GB" if size < 10 else f"{size:,.0f} GB"


def memory_text(estimated: Estimate) -> str:
    """One sentence."""
    activations = (
        f" and about {gigabytes(estimated.activations_gb)} of activations"
        if estimated.activations_gb
        else " and activations"
    )
    return (
        f"training {estimated.num_parameters / 1e6:,.1f} M parameters takes "
        f"{gigabytes(estimated.training_gb)} for weights, gradients and moments{activations}; this "
        f"preview held {gigabytes(estimated.peak_gb)} at most"
    )


def _share(number: int, total: int) -> str:
    return f"{number / total:.1%}" if total else _NONE
