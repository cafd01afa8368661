"""`distil lineage` as a user types it, in a process of its own. About 50 s, 5 of them each."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mlflow_scratch import make_campaign, rerun

from distil_core.lineage.dvc.lock import locked_outputs
from distil_core.lineage.mlflow.record import record_all
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two iterations. Read only."""
    workspace = make_campaign(tmp_path_factory.mktemp("command") / "campaign", 2)
    record_all(workspace)
    return workspace


@pytest.fixture(scope="module")
def disagreeing(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same, then evaluated again and not recorded. Read only."""
    workspace = make_campaign(tmp_path_factory.mktemp("disagreeing") / "campaign", 2)
    record_all(workspace)
    text = workspace.metrics_file(2).read_text().replace("0.01", "0.02")
    rerun(workspace, "evaluate@002", workspace.metrics_file(2), text)
    return workspace


def distil(workspace: Workspace, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-c", "from distil_flows.cli import main; main()", "lineage", *arguments],
        cwd=workspace.root,
        env={"PATH": "/usr/bin:/bin", "HOME": str(workspace.root), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def drawn(dot: str) -> tuple[set[str], set[str]]:
    """Titles of the nodes and edges that Graphviz draws of it."""
    if not shutil.which("dot"):
        pytest.skip("no Graphviz here: `dot` is not on the PATH")
    svg = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=True)
    assert svg.stderr == ""
    groups = ElementTree.fromstring(svg.stdout).iter(f"{SVG}g")
    titles = [(group.get("class"), group.findtext(f"{SVG}title")) for group in groups]
    nodes, edges = (
        {str(title) for kind, title in titles if kind == wanted} for wanted in ("node", "edge")
    )
    return nodes, edges


def test_backward(recorded: Workspace) -> None:
    done = distil(recorded, "chain-arithmetic@champion")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, _, policy, *_ = done.stdout.splitlines()
    locked = locked_outputs(recorded, "train@002")["data/iterations/002/policy"]
    assert first == f"policy 002  data/iterations/002/policy  md5 {locked.md5}"
    assert second == "What it was made from, by dvc.lock and MLflow:"
    assert policy.startswith("policy 002 [chain-arithmetic/3 @champion @newest] <- ")
    assert "disagree" not in done.stdout


def test_forward(recorded: Workspace) -> None:
    done = distil(recorded, "policy-001", "--forward")
    assert (done.returncode, done.stderr) == (0, "")
    assert "What was made from it" in done.stdout
    assert re.search(r"directly: policy 002 \[chain-arithmetic/3 @champ", done.stdout)
    assert "policy 000" not in done.stdout


def test_a_dataset_is_shown_forward_unless_one_asks(recorded: Workspace) -> None:
    table = "data/iterations/001/feedback"
    assert "What was made from it" in distil(recorded, table).stdout
    back = distil(recorded, table, "--backward").stdout
    assert "What it was made from" in back
    assert "\npolicy 000 (base) [chain-arithmetic/1]" in back


def test_dot_is_drawn(recorded: Workspace) -> None:
    done = distil(recorded, "policy-002", "--dot")
    assert (done.returncode, done.stderr) == (0, "")
    nodes, edges = drawn(done.stdout)
    assert {"data/iterations/002/policy", "data/policy-000", "data/problems/train.parquet"} <= nodes
    assert "data/iterations/001/policy->data/iterations/002/policy" in edges
    assert "data/iterations/002/feedback->data/iterations/002/policy" in edges
    assert {end for edge in edges for end in edge.split("->")} == nodes


def test_disagreement_is_told_and_an_error(disagreeing: Workspace) -> None:
    done = distil(disagreeing, "policy-002")
    assert (done.returncode, done.stderr) == (1, "")
    graph, problems = done.stdout.split("DVC and MLflow disagree:")
    assert "policy 002" in graph
    assert "  - iteration 2: dvc.lock gives lock digest" in problems
    assert distil(disagreeing, "policy-001").returncode == 0


def test_disagreement_beside_dot(disagreeing: Workspace) -> None:
    done = distil(disagreeing, "policy-002", "--dot")
    assert done.returncode == 1
    assert done.stderr.startswith("distil: DVC and MLflow disagree: iteration 2: dvc.lock gives")
    assert "// disagreement: iteration 2" in done.stdout
    nodes, _ = drawn(done.stdout)
    assert "data/iterations/002/policy" in nodes


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["policy-017"], 1, "distil: 'policy-017' is no artifact of this campaign. Expected a"),
        (["chain-arithmetic/9"], 1, "distil: model chain-arithmetic has no version 9"),
        ([], 2, "the following arguments are required: artifact"),
    ],
)
def test_what_cannot_be_answered(
    recorded: Workspace, arguments: list[str], status: int, message: str
) -> None:
    done = distil(recorded, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr


def test_before_anything_was_recorded(tmp_path: Path) -> None:
    workspace = make_campaign(tmp_path / "campaign", 1)
    done = distil(workspace, "policy-001")
    assert (done.returncode, done.stdout) == (1, "")
    assert "MLflow has no experiment 'chain-arithmetic'" in done.stderr
    assert "Run `distil record`" in done.stderr
