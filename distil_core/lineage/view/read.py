"""`distil lineage`: where a model comes from and what a dataset led to, as text or DOT.

The graph is that of `dvc.lock`; MLflow adds versions, runs and where they ran. Where the two
disagree, both are reported.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from distil_core.campaign.iterations import existing_iterations
from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import Entry, LockDigests, entries_until, read_entries
from distil_core.lineage.frozen import read_frozen
from distil_core.lineage.mlflow.history import (
    RecordedCampaign,
    RecordedRun,
    read_campaign,
)
from distil_core.lineage.mlflow.store import read_store
from distil_core.lineage.snapshot.recorded import digest_in, locked_in
from distil_core.lineage.view.disagreements import disagreements
from distil_core.lineage.view.graph import Graph, Node, build_graph, find, is_digest
from distil_core.workspace import Workspace

_VERSION = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Lineage:
    """The answer to one question. nodes: to be shown in order; the first is the one asked for.
    edges: pairs of (made, made from) among them. forward: whether they are descendants. runs: by
    iteration. source: whose dvc.lock the graph is from. disagreements: each with both values and a
    remedy."""

    asked: Node
    nodes: tuple[Node, ...]
    edges: tuple[tuple[Node, Node], ...]
    forward: bool
    campaign: str
    aliases: Mapping[int, tuple[str, ...]]
    runs: Mapping[int, RecordedRun]
    source: str
    disagreements: tuple[str, ...]


def read_lineage(workspace: Workspace, wanted: str, forward: bool | None = None) -> Lineage:
    """The lineage of a registered version, a policy, a path or a digest.

    forward: to what was made from it, instead of back; None means forward for a dataset and back
    for a model. Raises `LineageError` when nothing or more than one artifact fits.
    """
    existing = existing_iterations(workspace)
    entries = entries_until(len(existing) - 1, read_entries(workspace))
    if not entries:
        raise LineageError("dvc.lock has no stages yet: run the campaign first (`distil run`)")
    campaign = str(read_frozen(workspace, workspace.frozen_params_file(0))["campaign"])
    with read_store(workspace) as client:
        recorded = read_campaign(client, campaign)
    return _Reading(workspace, entries, campaign, recorded).lineage(wanted, forward)


class _Reading:
    def __init__(
        self,
        workspace: Workspace,
        entries: dict[str, Entry],
        campaign: str,
        recorded: RecordedCampaign,
    ):
        self._workspace = workspace
        self._campaign = campaign
        self._recorded = recorded
        self._problems: list[str] = []
        self._use(entries, "dvc.lock")

    def _use(self, entries: dict[str, Entry], source: str) -> None:
        self._digests = LockDigests(entries)
        self._graph: Graph = build_graph(entries)
        self._source = source

    def lineage(self, wanted: str, forward: bool | None) -> Lineage:
        asked = self._asked(wanted)
        forward = not asked.is_policy if forward is None else forward
        graph = self._graph
        nodes = [asked, *graph.descendants(asked.path)] if forward else graph.ancestors(asked.path)
        last = max(node.iteration for node in nodes)
        runs = self._runs(last)
        shown = {node.path for node in nodes}
        edges = tuple(
            (node, graph.nodes[path]) for node in nodes for path in node.sources if path in shown
        )
        aliases: dict[int, tuple[str, ...]] = {}
        for alias, version in sorted(self._recorded.aliases.items()):
            aliases[version] = (*aliases.get(version, ()), alias)
        problems = [
            *self._problems,
            *(problem for iteration, problem in graph.problems if iteration <= last),
            *disagreements(graph, runs, self._recorded.versions, last),
        ]
        return Lineage(
            asked, tuple(nodes), edges, forward, self._campaign, aliases, runs, self._source,
            tuple(dict.fromkeys(problems)),
        )  # fmt: skip

    def _asked(self, wanted: str) -> Node:
        match = _VERSION.fullmatch(wanted)
        if match and match["name"] == self._campaign:
            return self._of_version(self._version(match))
        node = find(self._graph, wanted) or self._in_a_snapshot(wanted)
        if node is None:
            raise LineageError(
                f"{wanted!r} is no artifact of this campaign. Expected a registered version "
                f"({self._campaign}/3, models:/{self._campaign}/3, {self._campaign}@champion), a "
                "policy (policy-003), a path of dvc.lock (data/iterations/003/feedback), or the "
                "first 6 or more digits of an md5"
            )
        return node

    def _version(self, match: "re.Match[str]") -> int:
        if match["version"]:
            return int(match["version"])
        if match["alias"] not in self._recorded.aliases:
            known = ", ".join(sorted(self._recorded.aliases)) or "none"
            raise LineageError(
                f"model {self._campaign} has no alias {match['alias']!r}; it has: {known}"
            )
        return self._recorded.aliases[match["alias"]]

    def _of_version(self, version: int) -> Node:
        run = self._recorded.run_of_version(version)
        if run is None:
            known = ", ".join(map(str, sorted(self._recorded.versions))) or "none"
            raise LineageError(
                f"model {self._campaign} has no version {version} with a finished run; it has "
                f"versions {known}. `distil record` records what is missing."
            )
        if self._digest(run.iteration) != run.lock_digest and not self._go_over(
            lambda entries: digest_in(LockDigests(entries), run.iteration) == run.lock_digest
        ):
            now = self._digest(run.iteration)
            self._problems.append(
                f"version {version} was recorded of iteration {run.iteration} with lock digest "
                f"{run.lock_digest}, but dvc.lock now gives {now or 'nothing'}: a stage was run "
                "again since, or the campaign restarted, and no snapshot of it is here. What "
                "follows is the iteration as dvc.lock has it now; `distil record` records that."
            )
        policy = self._graph.policy(run.iteration)
        if policy is None:
            raise LineageError(
                f"version {version} is of iteration {run.iteration}, which dvc.lock does not have "
                "and of which there is no snapshot here. `git checkout` the dvc.lock that has it."
            )
        return policy

    def _go_over(self, fits: Callable[[dict[str, Entry]], bool]) -> bool:
        """Use the dvc.lock of an earlier snapshot that fits, if one is here: the latest
        iteration's, which has most of what an artifact led to."""
        runs = self._recorded.runs.values()
        for run in sorted(runs, key=lambda run: (run.iteration, run.model_version), reverse=True):
            entries = self._recorded_entries(run)
            if entries and fits(entries):
                self._use(entries, f"dvc.lock of snapshot {run.snapshot}")
                return True
        return False

    def _recorded_entries(self, run: RecordedRun) -> dict[str, Entry] | None:
        """The entries that the run was recorded with, from its snapshot; None where that is not
        here."""
        commit = run.tags.get("distil.snapshot_commit")
        locked = locked_in(self._workspace, commit) if commit else None
        entries = entries_until(run.iteration, locked or {})
        digest = digest_in(LockDigests(entries), run.iteration)
        return entries if digest == run.lock_digest else None

    def _in_a_snapshot(self, wanted: str) -> Node | None:
        """Find a digest from before a restart: by a run in MLflow and that run's snapshot."""
        if not is_digest(wanted):
            return None
        if self._go_over(lambda entries: find(build_graph(entries), wanted) is not None):
            return find(self._graph, wanted)
        runs = self._recorded.runs.values()
        known = [run for run in runs if any(md5.startswith(wanted.lower()) for md5 in _md5s(run))]
        if known:
            raise LineageError(
                f"{wanted} is of iteration {known[0].iteration} as MLflow's run {known[0].run_id} "
                f"recorded it, before dvc.lock was changed, and its snapshot "
                f"{known[0].snapshot or '(it has none)'} is not in this repository. Fetch it with "
                "`git fetch origin 'refs/distil/*:refs/distil/*'`, or `git checkout` the dvc.lock "
                "that has it."
            )
        return None

    def _runs(self, last: int) -> dict[int, RecordedRun]:
        """The runs of the iterations up to `last` that were recorded with what the lock has now."""
        by_iteration: dict[int, list[RecordedRun]] = {}
        for run in self._recorded.runs.values():
            by_iteration.setdefault(run.iteration, []).append(run)
        fitting: dict[int, list[RecordedRun]] = {}
        for iteration in range(last + 1):
            known = by_iteration.get(iteration, [])
            digest = self._digest(iteration) if known else None
            fitting[iteration] = [run for run in known if run.lock_digest == digest]
            if known and not fitting[iteration]:
                others = ", ".join(f"{run.run_id} ({run.lock_digest[:10]})" for run in known)
                self._problems.append(
                    f"iteration {iteration}: dvc.lock gives lock digest {(digest or 'none')[:10]}, "
                    f"MLflow has runs of it with others: {others}. A stage was run again and not "
                    "recorded. Run `distil record`."
                )
        # Chains share their first iterations, so the answer is taken from one chain.
        chains = Counter(run.chain for runs in fitting.values() for run in runs)
        return {
            iteration: max(runs, key=lambda run: (chains[run.chain], run.chain))
            for iteration, runs in fitting.items()
            if runs
        }

    def _digest(self, iteration: int) -> str | None:
        return digest_in(self._digests, iteration)


def _md5s(run: RecordedRun) -> tuple[str, ...]:
    """The digests of what the run trained and read."""
    return (run.tags["distil.policy_md5"], *run.datasets.values())
