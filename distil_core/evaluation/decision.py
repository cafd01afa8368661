"""The decision of a gate, as stored in decision.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from distil_core.errors import DataError
from distil_core.evaluation.better_expert import ExpertGain, stored_gain
from distil_core.evaluation.comparison import Difference
from distil_core.files import write_text
from distil_core.workspace import Workspace

NOT_PROMOTED = "not promoted"


@dataclass(frozen=True)
class GateDecision:
    """Iterations: champion, the last one promoted; handed_over, whose policy the next one starts
    from; parent, whose policy this one started from; compared_with, the champion before this one.

    stopped: whether the campaign ends here. reasons: why the policy was not promoted; '' where it
    was. from_champion, from_parent: paired differences of each score. expert: beside the policy
    handed over, where it was asked and the settings say whether it has to be better.
    """

    iteration: int
    promoted: bool
    stopped: bool
    champion: int
    handed_over: int
    parent: int
    compared_with: int
    reasons: str
    from_champion: Mapping[str, Difference]
    from_parent: Mapping[str, Difference]
    expert: ExpertGain | None = None

    @property
    def verdict(self) -> str:
        """The same words wherever people read it."""
        if self.promoted:
            return "promoted"
        return "stopped" if self.stopped else NOT_PROMOTED

    def figures(self) -> dict[str, float]:
        """Its numbers by flat names."""
        named: dict[str, float] = {
            "promoted": float(self.promoted),
            "champion": float(self.champion),
            "handed_over": float(self.handed_over),
        }
        for base, differences in (
            ("from_champion", self.from_champion),
            ("from_parent", self.from_parent),
        ):
            for score, difference in differences.items():
                for end, value in asdict(difference).items():
                    suffix = "" if end == "value" else f"_{end}"
                    named[f"{base}/{score}{suffix}"] = value
        if self.expert is not None:
            named["expert_is_better"] = float(self.expert.is_better)
        return named


def write_decision(workspace: Workspace, decision: GateDecision) -> None:
    """Write decision.json, with truth values as 0 and 1 so that `dvc metrics` can compare them."""
    values = asdict(decision)
    values |= {name: int(values[name]) for name in ("promoted", "stopped")}
    del values["expert"]
    if decision.expert is not None:
        values["expert"] = decision.expert.stored()
    write_text(workspace.decision_file(decision.iteration), json.dumps(values, indent=2) + "\n")


def read_decision(workspace: Workspace, iteration: int) -> GateDecision:
    """The decision of an iteration's gate. Raises `DataError` where the file is missing or
    invalid."""
    path = workspace.decision_file(iteration)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for base in ("from_champion", "from_parent"):
            values[base] = {name: Difference(**ends) for name, ends in values[base].items()}
        values |= {name: bool(values[name]) for name in ("promoted", "stopped")}
        if "expert" in values:
            values["expert"] = stored_gain(values["expert"])
        return GateDecision(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{workspace.relative(path)}: expected a gate's decision ({error}): bring it back with "
            f"`dvc checkout`, or make it anew with `dvc repro gate@{iteration:03d}`"
        ) from error
