"""What a comparison says, in sentences."""

from distil_core.compare.compared import Comparison, Pair, best, score_of
from distil_core.compare.sides import Side
from distil_core.evaluation.over_seeds import Estimate


def conclusion(comparison: Comparison) -> list[str]:
    """A sentence for each side that is compared with the first one; for one side alone, what its
    seeds came to."""
    if len(comparison.sides) == 1:
        return [_alone(comparison.sides[0], k) for k in comparison.shown_ks]
    return [_sentence(pair, comparison.sides[0].label) for pair in comparison.pairs]


def _alone(side: Side, k: int) -> str:
    score = score_of(side, f"pass_at_{k}", best)
    shown = with_interval(score)
    if len(side.runs) == 1:
        return f"pass@{k} of the champion: {shown}, over problems"
    return f"pass@{k} of the champions of {len(side.runs)} seeds: mean {shown}"


def _sentence(pair: Pair, first: str) -> str:
    score = pair.best.scores["pass_at_1"]
    figure = f"pass@1 {signed(score)}"
    if score.low is None or score.high is None:
        finding = "one run on a side cannot tell whether other seeds would agree"
    elif score.low > 0:
        finding = "better, beyond the 95% interval"
    elif score.high < 0:
        finding = "worse, beyond the 95% interval"
    else:
        finding = "these runs do not tell which is better"
    return f"{pair.label} against {first}, best policies: {figure}; {finding}"


def with_interval(score: Estimate | None) -> str:
    """`0.912 [0.900, 0.924]`; a dash for what is not there."""
    if score is None:
        return "\N{EN DASH}"
    ends = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}{ends}"


def signed(score: Estimate | None) -> str:
    """Likewise of a difference, with its sign."""
    if score is None:
        return "\N{EN DASH}"
    ends = "" if score.low is None else f" [{score.low:+.3f}, {score.high:+.3f}]"
    return f"{score.value:+.3f}{ends}"
