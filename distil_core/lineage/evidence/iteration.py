"""The facts to record about an iteration, read from the workspace and checked against `dvc.lock`.

This module does not depend on MLflow. What it reads must be what DVC recorded: a record that mixes
two runs of a stage would be worse than none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distil_core.campaign.differences import changes, described
from distil_core.campaign.iterations import existing_iterations
from distil_core.errors import LineageError
from distil_core.evaluation.decision import GateDecision, read_decision
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import (
    Entry,
    LockDigests,
    artifacts,
    read_entries,
)
from distil_core.lineage.evidence.inputs import (
    Artifact,
    read_metrics,
    require_unchanged,
)
from distil_core.lineage.evidence.run_times import finished_at_ms
from distil_core.lineage.frozen import flatten, lookup, read_frozen
from distil_core.pipeline import TABULATE, last_address, stage_addresses
from distil_core.source_code import linked_modules
from distil_core.workspace import Workspace

_POLICY_PATH = re.compile(r"data/(?:policy-(\d{3})|iterations/(\d{3})/(policy|handover))")


@dataclass(frozen=True)
class Evidence:
    """One finished iteration. artifacts: by role, those that it read from the problems and those
    that it wrote. settings: dotted key to JSON or text. expert: the iteration whose policy served
    as expert; None where the expert is not one of the campaign's policies. decision: its gate's;
    the base has none. finished_at_ms: since the epoch."""

    campaign: str
    iteration: int
    artifacts: Mapping[str, Artifact]
    settings: Mapping[str, str]
    expert: int | None
    metrics: Mapping[str, float]
    decision: GateDecision | None
    finished_at_ms: int

    @property
    def policy(self) -> Artifact:
        """The policy that this iteration trained."""
        return self.artifacts["policy"]

    @property
    def parent(self) -> int | None:
        """The iteration whose policy this one started from; the base has none."""
        return self.decision.parent if self.decision else None

    @property
    def handed_over(self) -> int:
        """The iteration whose policy the next one starts from."""
        return self.decision.handed_over if self.decision else self.iteration

    @property
    def champion(self) -> int:
        """The iteration with the best accepted policy, after this one's gate."""
        return self.decision.champion if self.decision else self.iteration


class History:
    """The recorded iterations of a workspace, each read once."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._evidence: dict[int, Evidence] = {}
        self._digests: dict[int, str] = {}

    def __getitem__(self, iteration: int) -> Evidence:
        """The iteration's evidence. Raises `LineageError`, naming the stage to run or the file to
        fetch."""
        if iteration not in self._evidence:
            self._evidence[iteration] = self._read(iteration)
        return self._evidence[iteration]

    def digest(self, iteration: int) -> str:
        """The iteration's lock digest, which covers everything that it was made from."""
        if iteration not in self._digests:
            self._digests[iteration] = self._lock_digests[iteration]
        return self._digests[iteration]

    def settings(self, iteration: int) -> Mapping[str, str]:
        """The iteration's frozen settings, dotted key to JSON or text."""
        workspace = self.workspace
        return flatten(read_frozen(workspace, workspace.frozen_params_file(iteration)))

    @cached_property
    def iterations(self) -> list[int]:
        """All iterations of the campaign, finished or not."""
        return existing_iterations(self.workspace)

    def require_finished(self, iteration: int) -> None:
        """Raise `LineageError`, naming the stage to run, unless `dvc.lock` has this iteration and
        those before it with their present settings and inputs."""
        for before in range(iteration + 1):
            reason = self._why_not_finished(before, iteration)
            if reason:
                raise LineageError(reason)

    def last_finished(self) -> int | None:
        """The last iteration of the campaign for which that holds. Later entries of `dvc.lock` may
        belong to the campaign before a restart."""
        return self._finished_and_why_no_more[0]

    def why_no_more(self) -> str | None:
        """Why the iteration after the last finished one is not finished; None where there is
        none."""
        return self._finished_and_why_no_more[1]

    def is_here(self, iteration: int) -> bool:
        """Whether the files of its evidence are on disk as recorded. For an interrupted iteration
        they may not be, as an interrupted stage leaves no outputs."""
        by_role = dict(_roles(self.workspace, iteration))
        read = [by_role[role] for role in ("metrics", "decision") if role in by_role]
        return all(content_md5(path) == self._artifact(path).md5 for path in read)

    @cached_property
    def _finished_and_why_no_more(self) -> tuple[int | None, str | None]:
        finished = None
        for iteration in self.iterations:
            reason = self._why_not_finished(iteration, self.iterations[-1])
            if reason:
                return finished, reason
            finished = iteration
        return finished, None

    def _why_not_finished(self, iteration: int, wanted: int) -> str | None:
        """Why an iteration is not finished, by its own stages only. wanted: the iteration that was
        asked for."""
        addresses = stage_addresses(iteration)
        for address in addresses:
            if address not in self._entries:
                return (
                    f"iteration {iteration} is not finished: dvc.lock has no {address}. Run it "
                    f"with `dvc repro {last_address(wanted)}`, then record again."
                )
        reasons = (self._why_stale(address, iteration) for address in addresses)
        return next((reason for reason in reasons if reason), None)

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return read_entries(self.workspace)

    @cached_property
    def _lock_digests(self) -> LockDigests:
        return LockDigests(self._entries)

    @cached_property
    def _written(self) -> dict[str, Artifact]:
        return {
            path: Artifact(path, locked.md5, locked.size_bytes, address)
            for address, entry in self._entries.items()
            for path, locked in artifacts(entry, "outs").items()
        }

    def _read(self, iteration: int) -> Evidence:
        workspace = self.workspace
        frozen = read_frozen(workspace, workspace.frozen_params_file(iteration))
        reason = self._why_not_finished(iteration, iteration)
        if reason:
            raise LineageError(reason)
        by_role = {role: self._artifact(path) for role, path in _roles(workspace, iteration)}
        metrics_file = workspace.metrics_file(iteration)
        require_unchanged(workspace, by_role["metrics"])
        return Evidence(
            campaign=str(frozen["campaign"]),
            iteration=iteration,
            artifacts=by_role,
            settings=flatten(frozen),
            expert=self._expert(iteration),
            metrics=read_metrics(workspace, metrics_file),
            decision=self._decision(iteration, by_role),
            finished_at_ms=finished_at_ms(
                workspace, str(frozen["campaign"]), iteration, self._lock_digests
            ),
        )

    def _artifact(self, path: Path) -> Artifact:
        relative = self.workspace.relative(path)
        if relative not in self._written:
            raise LineageError(
                f"dvc.lock names no {relative} among the outputs of any stage; does dvc.yaml "
                "list it? Correct dvc.yaml, then `dvc repro`."
            )
        return self._written[relative]

    def _expert(self, iteration: int) -> int | None:
        if iteration == 0:
            return None
        address = TABULATE.address(iteration)
        for path in artifacts(self._entries[address], "deps"):
            match = _POLICY_PATH.fullmatch(path)
            if match and match[3] == "handover":
                return self._of_handover(iteration)
            if match:
                return int(match[1] or match[2])
        return None

    def _of_handover(self, iteration: int) -> int:
        """Which policy the expert read in the folder that was handed to the iteration."""
        before = self[iteration - 1]
        # As written, since an older iteration's component may have other options by now.
        frozen = read_frozen(self.workspace, self.workspace.frozen_params_file(iteration))
        weights = lookup(frozen, "tabulate.expert.options").get("weights")
        return before.champion if weights == "champion" else before.handed_over

    def _decision(self, iteration: int, by_role: Mapping[str, Artifact]) -> GateDecision | None:
        if iteration == 0:
            return None
        require_unchanged(self.workspace, by_role["decision"])
        return read_decision(self.workspace, iteration)

    def _why_stale(self, address: str, iteration: int) -> str | None:
        """How the stage's recorded settings or inputs differ from the frozen settings, or from its
        sources' last outputs; None where they do not."""
        entry = self._entries[address]
        frozen_file = self.workspace.frozen_params_file(iteration)
        name, frozen = (
            self.workspace.relative(frozen_file),
            read_frozen(self.workspace, frozen_file),
        )
        remedy = f"Bring it up to date with `dvc repro {address}`"
        ran_with = entry.get("params", {}).get(name, {})
        differing = [
            change
            for key, recorded in ran_with.items()
            for change in changes(recorded, lookup(frozen, key), key)
        ]
        if differing:
            return (
                f"{address} ran with other settings than {name} has now "
                f"({described(differing)}). {remedy}, or restore the file with "
                f"`git checkout {name}`."
            )
        for path, read in artifacts(entry, "deps").items():
            modules = linked_modules(path)
            if modules and content_md5(self.workspace.root / path) != read.md5:
                return f"{address} ran with other code of {', '.join(modules)}. {remedy}."
            written = self._written.get(path)
            if written and written.md5 != read.md5:
                return (
                    f"{address} read another {path} (md5 {read.md5}) than {written.stage} "
                    f"wrote last (md5 {written.md5}). {remedy}."
                )
        return None


def _roles(workspace: Workspace, iteration: int) -> list[tuple[str, Path]]:
    problems = workspace.problems_dir
    written = [
        ("policy", workspace.policy_dir(iteration)),
        ("metrics", workspace.metrics_file(iteration)),
        ("evaluation", workspace.evaluation_file(iteration)),
    ]
    if iteration == 0:
        read = [("warm_start", problems / "warm_start.parquet")]
    else:
        read = [("train_problems", problems / "train.parquet")]
        written = [
            ("rollouts", workspace.rollouts_file(iteration)),
            ("consultations", workspace.consultations_file(iteration)),
            ("feedback", workspace.feedback_dir(iteration)),
            ("train_curve", workspace.train_curve_file(iteration)),
            *written,
            ("decision", workspace.decision_file(iteration)),
        ]
    return [*read, ("eval_problems", problems / "eval.parquet"), *written]
