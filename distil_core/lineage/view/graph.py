"""The graph of a campaign's artifacts: what each was made from, according to `dvc.lock`.

A policy that a gate handed over is not a separate artifact here. It has the bytes of the policy
that was handed over, so it is found by its digest, and the graph leads to the real parent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import Entry, LockedArtifact, artifacts
from distil_core.pipeline import FEEDBACK, HANDOVER, POLICY, TRAIN, Stage, stages_of
from distil_core.workspace import iteration_key


@dataclass(frozen=True)
class Node:
    """An artifact. iteration: the one whose stage made it. sources: paths of the nodes that the
    stage read, with the real parent in place of what was handed over."""

    path: str
    name: str
    md5: str
    stage: str
    iteration: int
    sources: tuple[str, ...]

    @property
    def is_policy(self) -> bool:
        """Whether it is a model, rather than a dataset."""
        return self.name.startswith("policy")


@dataclass(frozen=True)
class Graph:
    """Nodes by path. handed_over: the path of what a gate handed over, with that of the policy that
    it is. problems: where `dvc.lock` contradicts itself, each with the iteration and what to do."""

    nodes: Mapping[str, Node]
    handed_over: Mapping[str, str]
    problems: tuple[tuple[int, str], ...]

    def ancestors(self, path: str) -> list[Node]:
        """The node and everything it came from, newest first: every node precedes those it came
        from."""
        return [self.nodes[path], *self._closure(path, lambda node: node.sources)]

    def descendants(self, path: str) -> list[Node]:
        """Everything made from the node, directly or indirectly, oldest first."""
        return self._closure(path, lambda node: self._readers.get(node.path, ()))[::-1]

    def policy(self, iteration: int) -> Node | None:
        """The policy that the iteration trained; None where it never ran."""
        return self.nodes.get(policy_path(iteration))

    def parent(self, iteration: int) -> int | None:
        """The iteration whose policy this one's training started from."""
        policy = self.policy(iteration)
        parents = [self.nodes[path] for path in policy.sources] if policy else []
        return next((node.iteration for node in parents if node.is_policy), None)

    @cached_property
    def _readers(self) -> dict[str, list[str]]:
        readers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for source in node.sources:
                readers.setdefault(source, []).append(node.path)
        return readers

    @cached_property
    def _order(self) -> dict[str, int]:
        return {path: number for number, path in enumerate(self.nodes)}

    def _closure(self, path: str, step: Any) -> list[Node]:
        found: dict[str, Node] = {}
        pending = list(step(self.nodes[path]))
        while pending:
            current = pending.pop()
            if current not in found:
                found[current] = self.nodes[current]
                pending += step(found[current])
        return sorted(found.values(), key=lambda node: self._order[node.path], reverse=True)


def policy_path(iteration: int) -> str:
    """The path of a trained policy in a workspace."""
    return POLICY.path(iteration)


def build_graph(entries: Mapping[str, Entry]) -> Graph:
    """The graph of all finished stages of a `dvc.lock`. The time is linear in their number."""
    return _Builder(entries).graph()


class _Builder:
    def __init__(self, entries: Mapping[str, Entry]):
        self._entries = entries
        self._nodes: dict[str, Node] = {}
        self._written: dict[str, tuple[str, str]] = {}
        self._handed_over: dict[str, str] = {}
        self._problems: list[tuple[int, str]] = []

    def graph(self) -> Graph:
        for iteration in range(1000):
            stages = [s for s in stages_of(iteration) if s.address(iteration) in self._entries]
            if not stages:
                break
            for stage in stages:
                self._add(stage, iteration)
        return Graph(self._nodes, self._handed_over, tuple(self._problems))

    def _add(self, stage: Stage, iteration: int) -> None:
        address = stage.address(iteration)
        entry = self._entries[address]
        titles = {artifact.path(iteration): artifact.title for artifact in stage.writes}
        sources = self._sources(address, iteration, artifacts(entry, "deps").values())
        for path, written in artifacts(entry, "outs").items():
            self._written[path] = (written.md5, address)
            if path == HANDOVER.path(iteration):
                self._hand_over(written, address, iteration, sources)
                continue
            title = titles.get(path)
            if title is None:
                continue
            named = title.format(key=iteration_key(iteration))
            self._nodes[path] = Node(path, named, written.md5, address, iteration, sources)

    def _sources(
        self, address: str, iteration: int, read: Iterable[LockedArtifact]
    ) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for artifact in read:
            path = self._handed_over.get(artifact.path, artifact.path)
            if path in self._nodes:
                found[path] = None
            md5, stage = self._written.get(artifact.path, (artifact.md5, ""))
            if md5 != artifact.md5:
                problem = (
                    f"{address} read {artifact.path} with md5 {artifact.md5}, but {stage} has "
                    f"since written md5 {md5}. Bring it up to date with `dvc repro {address}`, "
                    "then `distil record`."
                )
                self._problems.append((iteration, problem))
        if address == TRAIN.address(iteration):
            found |= dict.fromkeys(self._earlier_tables(address, iteration))
        return tuple(found)

    def _earlier_tables(self, address: str, iteration: int) -> list[str]:
        """Tables of a window (DAgger aggregation), which dvc.yaml cannot name one by one."""
        settings = self._entries[address].get("params", {})
        train = settings.get(f"iterations/{iteration_key(iteration)}.yaml", {}).get("train", {})
        num_tables = train.get("num_tables", 1) if isinstance(train, dict) else 1
        first = 1 if num_tables == "all" else max(1, iteration - int(num_tables) + 1)
        paths = [FEEDBACK.path(earlier) for earlier in range(first, iteration)]
        return [path for path in paths if path in self._nodes]

    def _hand_over(
        self, written: LockedArtifact, address: str, iteration: int, candidates: tuple[str, ...]
    ) -> None:
        same = [p for p in candidates if p in self._nodes and self._nodes[p].md5 == written.md5]
        if same:
            self._handed_over[written.path] = same[0]
            return
        known = ", ".join(f"{p} (md5 {self._nodes[p].md5})" for p in candidates)
        problem = (
            f"{address} handed over md5 {written.md5}, which is none of the policies it chose "
            f"from: {known}. Run `dvc repro {address}`, then `distil record`."
        )
        self._problems.append((iteration, problem))


def find(graph: Graph, wanted: str) -> Node | None:
    """The node of a path, of a policy's name (`policy-003`), or of a digest's beginning (6 hex
    digits or more); None where there is none. Raises `LineageError` where several fit."""
    path = wanted.rstrip("/")
    if path.endswith("/handover"):
        raise LineageError(
            f"{path} is a policy that a gate handed over, with the bytes of one that was trained: "
            "ask for its digest, or for the policy itself, such as policy-003"
        )
    if path in graph.nodes:
        return graph.nodes[path]
    named = [node for node in graph.nodes.values() if node.is_policy and _called(node) == path]
    if named:
        return named[0]
    if not is_digest(path):
        return None
    prefix = path.lower()
    matches = [node for node in graph.nodes.values() if node.md5.startswith(prefix)]
    if len(matches) > 1:
        listed = "\n".join(f"  {node.md5}  {node.name}  {node.path}" for node in matches)
        raise LineageError(
            f"digest {wanted} is that of {len(matches)} artifacts; give more digits, or the path:\n"
            f"{listed}"
        )
    return matches[0] if matches else None


def is_digest(text: str) -> bool:
    """Whether the text may be the beginning of an md5."""
    digits = text.lower().removesuffix(".dir")
    return 6 <= len(digits) <= 32 and all(digit in "0123456789abcdef" for digit in digits)


def _called(node: Node) -> str:
    return f"policy-{iteration_key(node.iteration)}"
