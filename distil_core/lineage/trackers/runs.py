"""A campaign's finished iterations as runs of a tracker: the same figures that MLflow gets."""

from collections.abc import Mapping
from dataclasses import dataclass

from distil_core.errors import ExportError
from distil_core.lineage.evidence.inputs import read_train_curve
from distil_core.lineage.evidence.iteration import Evidence, History
from distil_core.lineage.snapshot.recorded import snapshot_of
from distil_core.lineage.trackers.base import TrackedRun
from distil_core.workspace import Workspace, iteration_key

_DIGITS = 8
"""Of a lock digest, in ids and names: enough to tell a campaign's runs of an iteration apart."""


@dataclass(frozen=True)
class TrackedCampaign:
    """iterations: a run for each. digests: their lock digests, in the same order. scores: each
    one's figures, of which the campaign's own run is made."""

    name: str
    iterations: list[TrackedRun]
    digests: list[str]
    scores: list[Mapping[str, float]]

    def learning_run(self, run_id: str, first: int) -> TrackedRun:
        """The campaign's own run, figures over iterations, from iteration `first` on."""
        points = [(number, self.scores[number]) for number in range(first, len(self.scores))]
        name = f"learning {run_id.rpartition('-')[2]}"
        return TrackedRun(run_id, name, self.name, self.iterations[0].settings, points)


def tracked_campaign(workspace: Workspace) -> TrackedCampaign:
    """All finished iterations. Raises `ExportError` where there are none, and `LineageError` where
    a file is not the recorded one."""
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        raise ExportError(f"there is nothing to track yet: {history.why_no_more()}")
    evidence = [history[number] for number in range(last + 1)]
    digests = [history.digest(number) for number in range(last + 1)]
    return TrackedCampaign(
        evidence[0].campaign,
        [_run(workspace, this, digest) for this, digest in zip(evidence, digests, strict=True)],
        digests,
        [_scores(this) for this in evidence],
    )


def _run(workspace: Workspace, this: Evidence, digest: str) -> TrackedRun:
    key = iteration_key(this.iteration)
    points: list[tuple[int, Mapping[str, float]]] = []
    if curve := this.artifacts.get("train_curve"):
        points += [
            (step, {f"train/{name}": value for name, value in values.items()})
            for step, values in read_train_curve(workspace, curve)
        ]
    points.append((points[-1][0] if points else 0, _scores(this)))
    return TrackedRun(
        f"{this.campaign}-{key}-{digest[:_DIGITS]}",
        f"iteration {key} {digest[:_DIGITS]}",
        this.campaign,
        {**this.settings, **_origin(workspace, this, digest)},
        points,
    )


def _scores(this: Evidence) -> dict[str, float]:
    gate = this.decision.figures() if this.decision else {}
    named = {f"evaluation/{name}": value for name, value in this.metrics.items()}
    return named | {f"gate/{name}": value for name, value in gate.items()}


def _origin(workspace: Workspace, this: Evidence, digest: str) -> dict[str, str]:
    """What leads back to the policy and all that it came from."""
    snapshot = snapshot_of(workspace, this.campaign, this.iteration, digest)
    named = {f"distil.{role}_md5": artifact.md5 for role, artifact in this.artifacts.items()}
    return {
        **named,
        "distil.policy_path": this.policy.path,
        "distil.parent": "" if this.parent is None else iteration_key(this.parent),
        "distil.lock_digest": digest,
        "distil.snapshot_ref": snapshot.ref if snapshot else "",
        "distil.snapshot_commit": snapshot.commit if snapshot else "",
    }
