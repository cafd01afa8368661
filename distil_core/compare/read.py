"""What a comparison needs of one campaign, read and checked against what DVC recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from distil_core.campaign.iterations import existing_iterations
from distil_core.errors import DataError
from distil_core.evaluation.decision import read_decision
from distil_core.evaluation.summary import Columns, columns_of
from distil_core.lineage.dvc.lock import (
    Entry,
    LockDigests,
    LockedArtifact,
    artifacts,
    read_entries,
)
from distil_core.lineage.evidence.inputs import (
    Artifact,
    read_metrics,
    read_stage_seconds,
    require_unchanged,
)
from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.frozen import read_frozen
from distil_core.pipeline import stage_addresses
from distil_core.tables.schemas import EVALUATION, ROLLOUTS
from distil_core.tables.store import scan_table
from distil_core.workspace import Workspace


@dataclass(frozen=True)
class IterationResult:
    """lock_digest: of all it was made from. metrics: of metrics.json. evaluation: columns of the
    held-out problems. champion: the last promoted policy after it. rollout_tokens: sampled to train
    it. seconds: by stage, empty where it did not run here."""

    number: int
    lock_digest: str
    metrics: Mapping[str, float]
    evaluation: Columns
    champion: int
    rollout_tokens: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class CampaignRun:
    """One campaign with one seed. workspace: whose it is. where: that folder, or the revision it
    was read from. settings: those its last finished iteration was frozen with. unfinished: why
    there are no more iterations; None where all are finished."""

    workspace: Workspace
    where: str
    campaign: str
    seed: int
    settings: Mapping[str, Any]
    iterations: Sequence[IterationResult]
    unfinished: str | None

    @property
    def last(self) -> IterationResult:
        return self.iterations[-1]

    @property
    def best(self) -> IterationResult:
        """The champion at the end."""
        return self.iterations[self.last.champion]

    def seconds(self, until: int) -> float | None:
        """Of all stages up to an iteration; None where some of them did not run here."""
        each = [
            iteration.seconds if iteration.seconds.keys() >= _needed(iteration.number) else None
            for iteration in self.iterations[: until + 1]
        ]
        known = [sum(seconds.values()) for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None

    def rollout_tokens(self, until: int) -> int:
        """Sampled to train the policies up to an iteration's."""
        return sum(iteration.rollout_tokens for iteration in self.iterations[: until + 1])


def read_run(workspace: Workspace, where: str) -> CampaignRun:
    """The finished iterations of the campaign in a folder. Raises `DataError` where there are none,
    `LineageError` where a file is not the recorded one."""
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        reason = history.why_no_more() or "it has no iterations: `distil run` makes them"
        raise DataError(f"{where}: there is nothing to compare yet. {reason}")
    return _read(workspace, workspace, where, last, history.why_no_more())


def read_recorded_run(workspace: Workspace, tree: Workspace, where: str, last: int) -> CampaignRun:
    """Like `read_run` of iterations 0 to `last`, for a revision of the workspace whose files were
    brought back into `tree`: what has changed since makes nothing of it stale."""
    unfinished = len(existing_iterations(tree)) - 1 > last
    reason = f"iterations after {last} were not finished there" if unfinished else None
    return _read(workspace, tree, where, last, reason)


def files_to_read(
    workspace: Workspace, entries: Mapping[str, Entry]
) -> dict[int, list[LockedArtifact]]:
    """The recorded files of each iteration, from 0 on as far as all its stages are recorded."""
    found: dict[int, list[LockedArtifact]] = {}
    for number in existing_iterations(workspace):
        if not all(address in entries for address in stage_addresses(number)):
            break
        written = _written(entries, number)
        found[number] = [written[path] for path in _paths(workspace, number)]
    return found


def _read(
    workspace: Workspace, tree: Workspace, where: str, last: int, unfinished: str | None
) -> CampaignRun:
    """tree: where the files are."""
    entries = read_entries(tree)
    digests = LockDigests(entries)
    settings = read_frozen(tree, tree.frozen_params_file(last))
    return CampaignRun(
        workspace=workspace,
        where=where,
        campaign=str(settings["campaign"]),
        seed=int(settings["seed"]),
        settings=settings,
        iterations=[_iteration(tree, entries, digests, number) for number in range(last + 1)],
        unfinished=unfinished,
    )


def _iteration(
    workspace: Workspace, entries: Mapping[str, Entry], digests: LockDigests, number: int
) -> IterationResult:
    written = _written(entries, number)
    for path in _paths(workspace, number):
        locked = written[path]
        artifact = Artifact(path, locked.md5, locked.size_bytes, _maker(entries, path))
        require_unchanged(workspace, artifact)
    evaluation, _ = scan_table(workspace.evaluation_file(number), EVALUATION)
    decision = read_decision(workspace, number) if number else None
    return IterationResult(
        number=number,
        lock_digest=digests[number],
        metrics=read_metrics(workspace, workspace.metrics_file(number)),
        evaluation=columns_of(evaluation),
        champion=decision.champion if decision else number,
        rollout_tokens=_rollout_tokens(workspace, number) if number else 0,
        seconds=read_stage_seconds(workspace, number),
    )


def _rollout_tokens(workspace: Workspace, number: int) -> int:
    rollouts, _ = scan_table(workspace.rollouts_file(number), ROLLOUTS)
    return int(rollouts.select(pl.col("behaviour_logprobs").list.len().sum()).collect().item())


def _paths(workspace: Workspace, number: int) -> list[str]:
    files = [workspace.metrics_file(number), workspace.evaluation_file(number)]
    if number:
        files += [workspace.decision_file(number), workspace.rollouts_file(number)]
    return [workspace.relative(file) for file in files]


def _written(entries: Mapping[str, Entry], number: int) -> dict[str, LockedArtifact]:
    return {
        path: locked
        for address in stage_addresses(number)
        for path, locked in artifacts(entries[address], "outs").items()
    }


def _maker(entries: Mapping[str, Entry], path: str) -> str:
    return next(address for address, entry in entries.items() if path in artifacts(entry, "outs"))


def _needed(number: int) -> set[str]:
    """The stages whose seconds make up an iteration's."""
    return {address.partition("@")[0] for address in stage_addresses(number)}
