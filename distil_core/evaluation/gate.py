"""The improvement gate: whether a new policy takes over from the champion so far, and why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distil_core.config.models import AlarmParams, GateParams
from distil_core.evaluation.comparison import Difference, common_num_samples
from distil_core.evaluation.summary import Columns, num_samples_of


@dataclass(frozen=True)
class Verdict:
    """reasons: why the policy is not promoted, the first one first; empty where it is promoted."""

    reasons: tuple[str, ...]

    @property
    def is_promoted(self) -> bool:
        return not self.reasons


def judge_policy(
    new: Columns,
    champion: Columns,
    differences: Mapping[str, Difference],
    params: GateParams,
    obstacles: Sequence[str] = (),
) -> Verdict:
    """Promote the policy only if every interval stays above minus its margin and there is no alarm.

    new, champion: their evaluations on the same problems. differences: new minus champion. An
    interval that reaches below the margin does not prove a regression, but the data do not rule one
    out; the same holds for a score that one of the two evaluations cannot have. obstacles: why the
    two evaluations cannot be compared, if they cannot.
    """
    reasons = [
        reason
        for score, margin in params.margins.items()
        if (
            reason := _regression(score, differences[score], margin)
            if score in differences
            else _not_comparable(score, new, champion)
        )
    ]
    return Verdict((*obstacles, *reasons, *_alarms(new, champion, differences, params.alarms)))


def _not_comparable(score: str, new: Columns, champion: Columns) -> str:
    return (
        f"{score} cannot be compared: this evaluation has {num_samples_of(new)} samples of each "
        f"problem, the champion's {num_samples_of(champion)}; name scores that both have in "
        "gate.margins"
    )


def _regression(score: str, difference: Difference, margin: float) -> str | None:
    if difference.low >= -margin:
        return None
    if difference.high < -margin:
        finding = "is worse by more than the margin"
    elif difference.high < 0:
        finding = "is worse, perhaps by more than the margin"
    else:
        finding = "may be worse by more than the margin, these problems do not tell"
    return (
        f"{score} {finding}: {difference.value:+.3f} on the same problems, 95% interval "
        f"{difference.low:+.3f} to {difference.high:+.3f}, margin {margin:g}"
    )


def _alarms(
    new: Columns, champion: Columns, differences: Mapping[str, Difference], params: AlarmParams
) -> list[str]:
    found = []
    entropy, before = (float(each["entropy_per_response"].mean()) for each in (new, champion))
    ratio = params.min_entropy_ratio
    if ratio is not None and entropy < ratio * before:
        found.append(
            f"alarm: entropy fell to {entropy:.3g} nats a response from {before:.3g}, below "
            f"{ratio:g} of it"
        )
    length, before = (float(each["response_tokens_mean"].mean()) for each in (new, champion))
    ratio = params.max_length_ratio
    if ratio is not None and not before / ratio <= length <= before * ratio:
        found.append(
            f"alarm: responses have {length:.1f} tokens instead of {before:.1f}, more than "
            f"{ratio:g} times {'longer' if length > before else 'shorter'}"
        )
    score = f"pass_at_{common_num_samples(new, champion)}"
    difference = differences.get(score)
    # For different n, pass@k at the same share of right answers differs by less than one problem.
    alike = num_samples_of(new) == num_samples_of(champion)
    fell_by = 0.0 if alike else (1 - 1e-9) / len(new["problem_id"])
    if (
        params.pass_at_n_fell
        and difference
        and difference.high < 0
        and difference.value <= -fell_by
    ):
        found.append(
            f"alarm: fewer problems are solved by any sample, {score} {difference.value:+.3f} "
            f"({difference.low:+.3f} to {difference.high:+.3f})"
        )
    return found
