"""Whether an expert is better than the student, beyond noise, on the same held-out problems.

Both answer for themselves: the student without feedback, the expert after it has read the feedback
on the student's own attempts. Training toward an expert that is not better makes the student worse.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distil_core.evaluation.comparison import Difference
from distil_core.evaluation.summary import Columns, complete, with_intervals


@dataclass(frozen=True)
class ExpertGain:
    """Means over the problems where the expert was asked, with 95% intervals: how often the expert
    is right, the student, and the expert less the student, paired by problem."""

    num_problems: int
    expert: Difference
    student: Difference
    gain: Difference

    @property
    def is_better(self) -> bool:
        """Whether the whole interval of the difference is above zero."""
        return self.gain.low > 0

    @property
    def words(self) -> str:
        """One sentence for people."""
        return self.words_on("held-out problems")

    def words_on(self, problems: str) -> str:
        """The same, on other problems."""
        if self.is_better:
            finding = "better than the student"
        elif self.gain.value > 0:
            finding = "not better than the student beyond noise"
        else:
            finding = "not better than the student"
        return (
            f"the expert is {finding}: it is right {_text(self.expert)} of the time after it has "
            f"read the feedback, the student {_text(self.student)} without; the difference on the "
            f"same {self.num_problems} {problems} is {_text(self.gain, '+.3f')}"
        )

    def stored(self) -> dict[str, Any]:
        """As JSON values; `stored_gain` reads them."""
        return asdict(self) | {"is_better": int(self.is_better)}


def stored_gain(values: Mapping[str, Any]) -> ExpertGain:
    """What `ExpertGain.stored` wrote."""
    figures = {name: Difference(**values[name]) for name in ("expert", "student", "gain")}
    return ExpertGain(num_problems=values["num_problems"], **figures)


def expert_gain(columns: Columns, num_bootstrap: int, seed: int) -> ExpertGain | None:
    """From the columns of an evaluation; None where the expert was not asked. Its `gain` is the
    figure `expert_gain` of metrics.json."""
    if not columns:
        return None
    verified = complete(columns)
    asked_p = verified["expert_num_samples"]
    is_asked_p = (asked_p > 0).astype(np.float64)
    if not is_asked_p.any():
        return None
    expert_p = verified["expert_num_correct"] / np.maximum(asked_p, 1)
    student_p = verified["num_correct"] / verified["num_samples"] * is_asked_p
    found = with_intervals(
        {
            "asked": is_asked_p,
            "expert": expert_p,
            "student": student_p,
            "gain": expert_p - student_p,
        },
        {
            "expert": lambda means: means["expert"] / means["asked"],
            "student": lambda means: means["student"] / means["asked"],
            "gain": lambda means: means["gain"] / means["asked"],
        },
        num_bootstrap,
        seed,
    )
    # Where some resample has none of the problems, nothing is ruled out.
    figures = {
        name: Difference(
            found[name],
            found.get(f"{name}_low", least),
            found.get(f"{name}_high", 1.0),
        )
        for name, least in (("expert", 0.0), ("student", 0.0), ("gain", -1.0))
    }
    return ExpertGain(int(is_asked_p.sum()), **figures)


def _text(figure: Difference, form: str = ".3f") -> str:
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"
