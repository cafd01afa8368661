"""Where MLflow's record of a campaign differs from `dvc.lock`."""

from collections.abc import Iterator, Mapping

from distil_core.lineage.mlflow.history import RecordedRun
from distil_core.lineage.view.graph import Graph


def disagreements(
    graph: Graph, chain: Mapping[int, RecordedRun], versions: Mapping[int, str], last: int
) -> list[str]:
    """Where the runs of the iterations up to `last` differ from `dvc.lock`, or name a registered
    version that does not exist. versions: run by number."""
    found = []
    for iteration in range(last + 1):
        run = chain.get(iteration)
        if run is None:
            found.append(
                f"iteration {iteration}: dvc.lock has it, but MLflow has no finished run of it "
                "with what dvc.lock says. Run `distil record`."
            )
            continue
        if run.model_version not in versions:
            found.append(
                f"iteration {iteration}: by MLflow's run {run.run_id} its policy is registered as "
                f"version {run.model_version}, which is no longer there. Delete the run, then "
                "`distil record` makes both anew."
            )
        found += _differing_digests(graph, run)
        found += _differing_parent(graph, run, chain)
    return found


def _differing_digests(graph: Graph, run: RecordedRun) -> Iterator[str]:
    policy = graph.policy(run.iteration)
    recorded = dict(run.datasets)
    if policy:
        recorded[policy.path] = run.tags["distil.policy_md5"]
    for path, md5 in recorded.items():
        node = graph.nodes.get(path)
        locked = f"md5 {node.md5}" if node else "no such artifact"
        if node is None or node.md5 != md5:
            yield (
                f"iteration {run.iteration}: MLflow's run {run.run_id} has {path} with md5 {md5}, "
                f"dvc.lock has {locked}. If dvc.lock is right, `distil record` records it; if the "
                "record is, restore dvc.lock from the iteration's snapshot or with `git checkout`."
            )


def _differing_parent(
    graph: Graph, run: RecordedRun, chain: Mapping[int, RecordedRun]
) -> Iterator[str]:
    parent = graph.parent(run.iteration)
    if parent is None or parent not in chain:
        return
    expected = str(chain[parent].model_version)
    recorded = run.tags.get("distil.parent_model_version")
    if recorded != expected:
        yield (
            f"iteration {run.iteration}: by dvc.lock its policy was trained from policy "
            f"{parent:03d} (version {expected}), but MLflow's version {run.model_version} names "
            f"version {recorded or 'none'} as its parent. Delete MLflow's run {run.run_id}, then "
            "`distil record` makes it anew."
        )
