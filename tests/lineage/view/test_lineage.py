"""`distil lineage` on a real MLflow store. About 20 s, 6 of them importing MLflow."""

import re
import shutil
import subprocess
from pathlib import Path

import pydot
import pytest
from mlflow_scratch import edit_lock, make_campaign, reject, rerun

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import read_entries
from distil_core.lineage.mlflow.record import record_all
from distil_core.lineage.mlflow.store import open_store
from distil_core.lineage.view.graph import build_graph
from distil_core.lineage.view.read import read_lineage
from distil_core.lineage.view.text import as_dot, as_text
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Policy 2 is not promoted: 3 starts from policy 1. Recorded. Read only."""
    workspace = make_campaign(tmp_path_factory.mktemp("lineage") / "campaign")
    hand_over_parent(workspace, 2)
    record_all(workspace)
    return workspace


@pytest.fixture
def campaign(tmp_path: Path) -> Workspace:
    workspace = make_campaign(tmp_path / "campaign", 2)
    record_all(workspace)
    return workspace


def hand_over_parent(workspace: Workspace, iteration: int) -> None:
    """The gate keeps the policy it started from: decision, files and digests."""
    kept = {"champion": 1, "handed_over": 1, "compared_with": 1}
    reject(workspace, iteration, parent=1, **kept)
    reject(workspace, iteration + 1, parent=1, champion=3, handed_over=3, promoted=1, reasons="")
    entries = read_entries(workspace)
    policy = next(o for o in entries["train@001"]["outs"] if o["path"].endswith("/policy"))
    path = f"data/iterations/{iteration:03d}/handover"
    for address, entry in entries.items():
        for kind in ("deps", "outs"):
            items = entry.get(kind, [])
            if any(item["path"] == path for item in items):
                changed = [policy | {"path": path} if i["path"] == path else i for i in items]
                edit_lock(workspace, address, **{kind: changed})


def test_back_through_the_real_parent(recorded: Workspace) -> None:
    lineage = read_lineage(recorded, "chain-arithmetic@champion")
    names = [node.name for node in lineage.nodes]
    assert names[:9] == [
        "policy 003", "feedback 003", "consultations 003", "rollouts 003",
        "policy 001", "feedback 001", "consultations 001", "rollouts 001",
        "policy 000 (base)",
    ]  # fmt: skip
    assert set(names[9:]) == {"training problems", "warm-start problems"}
    assert lineage.disagreements == ()
    text = as_text(lineage)
    assert "policy 003 [chain-arithmetic/4 @champion @newest] <- " in text
    for run in lineage.runs.values():
        assert (run.run_id in text) == (run.iteration != 2)


@pytest.mark.parametrize(
    "wanted", ["chain-arithmetic/4", "models:/chain-arithmetic/4", "policy-003",
               "data/iterations/003/policy", "chain-arithmetic@newest"],
)  # fmt: skip
def test_ways_to_name_a_model(recorded: Workspace, wanted: str) -> None:
    assert read_lineage(recorded, wanted).asked.name == "policy 003"


def test_forward_from_a_dataset(recorded: Workspace) -> None:
    graph = build_graph(read_entries(recorded))
    feedback = graph.nodes["data/iterations/001/feedback"]
    lineage = read_lineage(recorded, feedback.md5[:8])
    text = as_text(lineage)
    assert "trained on it directly: policy 001 [chain-arithmetic/2]" in text
    later = re.search(r"models through .*", text)
    assert later
    assert "policy 002 [chain-arithmetic/3], policy 003" in later[0]
    dead_end = as_text(read_lineage(recorded, "data/iterations/002/feedback"))
    assert "artifacts: none" in dead_end


def test_dot_is_valid(recorded: Workspace) -> None:
    lineage = read_lineage(recorded, "policy-003")
    (graph,) = pydot.graph_from_dot_data(as_dot(lineage))
    edges = {(e.get_source().strip('"'), e.get_destination().strip('"')) for e in graph.get_edges()}
    assert edges == {(source.path, made.path) for made, source in lineage.edges}
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=as_dot(lineage), text=True, check=True,
                       capture_output=True)  # fmt: skip


def test_what_is_no_artifact(recorded: Workspace) -> None:
    with pytest.raises(LineageError, match="Expected a registered version"):
        read_lineage(recorded, "policy-017")
    with pytest.raises(LineageError, match="has no version 9"):
        read_lineage(recorded, "chain-arithmetic/9")
    with pytest.raises(LineageError, match="it has: champion, newest"):
        read_lineage(recorded, "chain-arithmetic@best")
    with pytest.raises(LineageError, match="Expected a registered version"):
        read_lineage(recorded, "abc12")


def test_an_ambiguous_digest(campaign: Workspace) -> None:
    entries = read_entries(campaign)
    for number in (1, 2):
        address = f"sample@{number:03d}"
        out = entries[address]["outs"][0] | {"md5": f"abcdef{number}" + "0" * 25}
        edit_lock(campaign, address, outs=[out])
    with pytest.raises(LineageError, match="that of 2 artifacts"):
        read_lineage(campaign, "abcdef")


def test_a_stage_run_again_and_not_recorded(campaign: Workspace) -> None:
    text = campaign.metrics_file(2).read_text().replace("0.01", "0.02")
    rerun(campaign, "evaluate@002", campaign.metrics_file(2), text)
    (problem, missing) = read_lineage(campaign, "policy-002").disagreements
    assert "MLflow has runs of it with others" in problem
    assert "Run `distil record`" in missing
    record_all(campaign)
    assert read_lineage(campaign, "policy-002").disagreements == ()
    (old,) = read_lineage(campaign, "chain-arithmetic/3").disagreements
    assert "dvc.lock now gives" in old


def test_a_missing_run(campaign: Workspace) -> None:
    lineage = read_lineage(campaign, "policy-002")
    with open_store(campaign) as client:
        client.delete_run(lineage.runs[1].run_id)
    problems = read_lineage(campaign, "policy-002").disagreements
    assert any(problem.startswith("iteration 1:") for problem in problems)


def test_a_parent_and_a_digest_that_differ(campaign: Workspace) -> None:
    run = read_lineage(campaign, "policy-002").runs[2]
    with open_store(campaign) as client:
        client.set_tag(run.run_id, "distil.parent_model_version", "1")
        client.set_tag(run.run_id, "distil.policy_md5", "0" * 32)
    digest, parent = read_lineage(campaign, "policy-002").disagreements
    assert "0" * 32 in digest
    assert build_graph(read_entries(campaign)).nodes["data/iterations/002/policy"].md5 in digest
    assert "version 2" in parent
    assert "names version 1" in parent


def test_a_missing_version(campaign: Workspace) -> None:
    with open_store(campaign) as client:
        client.delete_model_version("chain-arithmetic", "2")
    (problem,) = read_lineage(campaign, "policy-002").disagreements
    assert "iteration 1: by MLflow's run" in problem
    assert "as version 2, which is no longer there" in problem


def test_a_recorder_is_not_waited_for(campaign: Workspace) -> None:
    import fcntl

    with (campaign.scratch_dir / "mlflow.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert read_lineage(campaign, "policy-001").asked.path == "data/iterations/001/policy"


def test_reading_makes_no_database(tmp_path: Path) -> None:
    workspace = make_campaign(tmp_path / "unrecorded", 1)
    with pytest.raises(LineageError, match="nothing of this campaign was recorded"):
        read_lineage(workspace, "policy-001")
    assert not workspace.mlflow_database.exists()
    assert not (workspace.scratch_dir / "mlflow.lock").exists()
