"""What a preview found, as figures: student and expert on the same problems, and how they differ at
the student's states."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distil_core.evaluation.summary import with_intervals
from distil_core.policy.conventions import end_token_ids
from distil_core.preview.attempts import Attempt, Tried
from distil_core.seeds import derive_seed
from distil_core.tables.turns import own_ids

_NUM_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Figure:
    """A mean over problems with its 95% interval; without where resamples do not define it."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, form: str = ".3f") -> str:
        """The value, and the interval in brackets."""
        ends = "" if self.low is None else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.value:{form}}{ends}"


@dataclass(frozen=True)
class Agreement:
    """At `num_states` states where the expert had something to say: share of them at which its most
    likely token is the student's most likely one, and at which it is the one that was drawn."""

    num_states: int
    with_likeliest: float
    with_drawn: float


@dataclass(frozen=True)
class Figures:
    """num_silent: judged rollouts about which the expert has nothing to say. student, expert, gain:
    on the problems where the expert was asked; None where it was not, student then of all.

    agreement: by 'all', and by the student's verdict. ends: how often each end token ended a
    response, by its text. inner_specials: special tokens within responses.
    """

    num_problems: int
    num_rollouts: int
    num_asked: int
    num_answers: int
    num_silent: int
    num_without_verdict: int
    first_error: str | None
    verdicts: Mapping[str, int]
    student: Figure
    expert: Figure | None
    gain: Figure | None
    num_truncated: int
    num_answers_truncated: int
    num_answers_repeating: int
    agreement: Mapping[str, Agreement]
    ends: Mapping[str, int]
    inner_specials: Mapping[str, int]
    num_response_tokens: int
    num_answer_tokens: int
    longest_student_context: int
    longest_expert_context: int
    longest_response: int
    num_shortened: int


def figures_of(tried: Tried) -> Figures:
    """Count it all."""
    attempts = tried.attempts
    judged = [one for one in attempts if one.judged is not None]
    answered = [one for one in attempts if one.answer is not None and one.answer.error is None]
    student, expert, gain = _accuracies(tried)
    verdicts = Counter(one.consultation.verdict for one in judged)
    errors = [one.consultation.error for one in attempts if one.consultation.error is not None]
    specials, ends = _special_tokens(tried)
    contexts = [len(context.token_ids) for context in tried.contexts.values()]
    expert_contexts = [len(one.judged.context.token_ids) for one in judged if one.judged]
    return Figures(
        num_problems=len(tried.problems),
        num_rollouts=len(attempts),
        num_asked=sum(one.answer is not None for one in attempts),
        num_answers=len(answered),
        num_silent=sum(one.row is not None and not one.row.has_expert for one in judged),
        num_without_verdict=len(attempts) - len(judged),
        first_error=errors[0] if errors else None,
        verdicts=dict(verdicts.most_common()),
        student=student,
        expert=expert,
        gain=gain,
        num_truncated=sum(one.rollout.finish_reason == "length" for one in attempts),
        num_answers_truncated=sum(bool(one.answer and one.answer.is_truncated) for one in answered),
        num_answers_repeating=sum(
            bool(one.answer and one.answer.text.strip() == one.rollout.response.strip())
            for one in answered
            if one.consultation.verdict != "correct"
        ),
        agreement=_agreements(judged),
        ends=ends,
        inner_specials=specials,
        num_response_tokens=sum(len(own_ids(one.rollout)) for one in attempts),
        num_answer_tokens=sum(len(one.answer_ids) for one in attempts),
        longest_student_context=max(contexts),
        longest_expert_context=max(expert_contexts, default=0),
        longest_response=max(len(one.rollout.response_ids) for one in attempts),
        num_shortened=sum(bool(one.shortened_fields) for one in tried.contexts.values())
        + sum(bool(one.judged and one.judged.context.shortened_fields) for one in judged),
    )


def _accuracies(tried: Tried) -> tuple[Figure, Figure | None, Figure | None]:
    """As `expert_gain` of an evaluation: per problem, the share of the student's rollouts that are
    right, and of the expert's answers to them."""
    groups: dict[str, list[Attempt]] = {}
    for one in tried.attempts:
        if one.judged is not None:
            groups.setdefault(one.rollout.problem_id, []).append(one)
    student_p = np.array([_share_right(group) for group in groups.values()])
    answers = [
        [one.answer for one in group if one.answer is not None and one.answer.error is None]
        for group in groups.values()
    ]
    asked_p = np.array([float(bool(each)) for each in answers])
    expert_p = np.array(
        [float(np.mean([one.is_correct for one in each])) if each else 0.0 for each in answers]
    )
    seed = derive_seed(tried.params.seed, "preview")
    if not asked_p.any():
        found = with_intervals(
            {"student": student_p},
            {"student": _student},
            _NUM_BOOTSTRAP,
            seed,
        )
        return _figure(found, "student"), None, None
    values = {
        "asked": asked_p,
        "student": student_p * asked_p,
        "expert": expert_p,
        "gain": (expert_p - student_p) * asked_p,
    }
    found = with_intervals(
        values,
        {
            "student": lambda means: means["student"] / means["asked"],
            "expert": lambda means: means["expert"] / means["asked"],
            "gain": lambda means: means["gain"] / means["asked"],
        },
        _NUM_BOOTSTRAP,
        seed,
    )
    return _figure(found, "student"), _figure(found, "expert"), _figure(found, "gain")


def _student(means: Mapping[str, Any]) -> Any:
    return means["student"]


def _share_right(group: Sequence[Attempt]) -> float:
    return sum(one.consultation.verdict == "correct" for one in group) / len(group)


def _figure(found: Mapping[str, float | int], name: str) -> Figure:
    return Figure(found[name], found.get(f"{name}_low"), found.get(f"{name}_high"))


def likeliest_ids(attempt: Attempt) -> list[int | None]:
    """The expert's most likely token at each of the policy's tokens; None where it was silent."""
    row = attempt.row
    if row is None or not row.has_expert:
        return [None] * len(own_ids(attempt.rollout))
    starts = np.cumsum([0, *row.expert_counts[:-1]])
    return [
        int(row.expert_ids[start]) if count else None
        for start, count in zip(starts, row.expert_counts, strict=True)
    ]


def _agreements(judged: Sequence[Attempt]) -> dict[str, Agreement]:
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for one in judged:
        places = zip(likeliest_ids(one), one.student_ids, own_ids(one.rollout), strict=True)
        for expert, student, drawn in places:
            if expert is not None:
                pair = (expert == student, expert == drawn)
                for group in ("all", one.consultation.verdict):
                    pairs.setdefault(group, []).append(pair)
    return {
        group: Agreement(
            len(each),
            float(np.mean([pair[0] for pair in each])),
            float(np.mean([pair[1] for pair in each])),
        )
        for group, each in pairs.items()
    }


def _special_tokens(tried: Tried) -> tuple[dict[str, int], dict[str, int]]:
    """Special tokens within responses, and the end tokens that ended one."""
    tokenizer = tried.tokenizer
    ends = end_token_ids(tokenizer)
    added = tokenizer.added_tokens_decoder
    special = {token_id for token_id, token in added.items() if token.special}
    inner: Counter[int] = Counter()
    last: Counter[int] = Counter()
    for one in tried.attempts:
        for ids, stopped in (
            (own_ids(one.rollout), one.rollout.finish_reason == "stop"),
            (list(one.answer_ids), bool(one.answer and not one.answer.is_truncated)),
        ):
            if ids and stopped:
                last[ids.pop()] += 1
            inner.update(token for token in ids if token in special and token not in ends)

    def named(counts: Counter[int]) -> dict[str, int]:
        return {str(tokenizer.convert_ids_to_tokens(token)): n for token, n in counts.most_common()}

    return named(inner), {
        **{str(tokenizer.convert_ids_to_tokens(token)): 0 for token in ends},
        **named(last),
    }
