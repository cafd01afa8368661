"""dvc.yaml is the pipeline of distil_core/pipeline.py; DVC shows its results (8 s, one core)."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_scratch import PROJECT, addresses, dvc, git, list_iterations, make_workspace, run_fake

from distil_core.campaign.pipeline_file import pipeline_text
from distil_core.evaluation.scores import write_scores
from distil_core.lineage.dvc.session import load_stage, open_repo
from distil_core.pipeline import BASE_POLICY, CURVES, PLOTS, SCORES, Stage, stages_of
from distil_core.source_code import BUILT_IN_FILE
from distil_core.workspace import Workspace

NUM_ITERATIONS = 12
FEW = {"pass_at_1": 0.25, "pass_at_8": 0.75, "truncation_rate": 0.5, "malformed_rate": 0.125}
METRICS = FEW | {"pass_at_2": 0.5, "pass_at_1_low": 0.1, "generalisation_pass_at_1": 0.1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("pipeline"), num_iterations=NUM_ITERATIONS)


@pytest.fixture(scope="module")
def definitions(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Every stage of dvc.yaml as DVC resolves it."""
    with open_repo(workspace, "problems") as repo:
        resolver = load_stage(repo, "problems").dvcfile.resolver
        return {a: resolver.resolve_one(a)[a] for a in resolver.get_keys()}


def expected(stage: Stage, iteration: int) -> dict[str, Any]:
    """The stage as dvc.yaml should define it, by the pipeline's definition."""
    reads = [artifact.path(iteration) for artifact in stage.reads]
    found: dict[str, Any] = {
        "cmd": stage.command(iteration),
        "params": [{f"iterations/{iteration:03d}.yaml": sorted(stage.settings_read)}],
        "deps": sorted(
            [
                *reads,
                # The scratch campaign's expert is the base policy, its components are built in.
                *([BASE_POLICY.path(0)] if stage.reads_expert_policy else []),
                *([BUILT_IN_FILE] if stage.uses else []),
            ]
        ),
    }
    found["outs"] = [artifact.path(iteration) for artifact in stage.writes]
    return {key: value for key, value in found.items() if value}


def in_order(definition: dict[str, Any]) -> dict[str, Any]:
    """Without its description, lists without an order of their own sorted."""
    definition = {key: value for key, value in definition.items() if key != "desc"}
    ((settings, keys),) = definition["params"][0].items()
    definition["params"] = [{settings: sorted(keys)}, *definition["params"][1:]]
    return definition | {"deps": sorted(definition.get("deps", []))}


def test_every_iteration_has_its_stages(definitions: dict[str, Any]) -> None:
    """008 to 010 are where the YAML versions disagree what a number is."""
    assert sorted(definitions) == sorted(addresses(NUM_ITERATIONS))


@pytest.mark.parametrize("iteration", [0, 1, 2, NUM_ITERATIONS])
def test_dvc_yaml_is_the_pipeline(definitions: dict[str, Any], iteration: int) -> None:
    """Nothing of a stage differs: command, settings, paths read and written."""
    for stage in stages_of(iteration):
        found = in_order(definitions[stage.address(iteration)])
        wanted = expected(stage, iteration)
        assert sorted(found.pop("outs")) == sorted(wanted.pop("outs"))
        assert found == wanted | {"deps": wanted.get("deps", [])}
        assert definitions[stage.address(iteration)]["desc"]


def test_dvc_yaml_is_generated() -> None:
    assert (PROJECT / "dvc.yaml").read_text(encoding="utf-8") == pipeline_text()


def test_plots_over_all_iterations_are_the_pipelines() -> None:
    plots = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["plots"]
    found = [next(iter(plot.items())) for plot in plots]
    wanted = [(plot.title, asdict(plot) | {"y": f"${{curves.{plot.y}}}"}) for plot in PLOTS]
    assert found == wanted


def test_stages_run_after_what_they_read_is_written() -> None:
    for iteration in (0, 1, 2):
        for place, stage in enumerate(stages_of(iteration)):
            later = stages_of(iteration)[place:]
            written_later = {artifact.path(iteration) for s in later for artifact in s.writes}
            assert not written_later & {artifact.path(iteration) for artifact in stage.reads}


def test_metrics_and_plots_can_be_shown(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, num_iterations=2)
    list_iterations(workspace, 2, tuple(CURVES))
    for address in addresses(2):
        run_fake(workspace, address)
    workspace.metrics_file(0).write_text(json.dumps(METRICS))
    write_scores(workspace, 0)
    metrics = json.loads(dvc(workspace.root, "metrics", "show", "--json"))
    assert metrics[""]["data"] == {"scores/000.json": {"data": FEW}}
    shown = json.loads(dvc(workspace.root, "plots", "show", "--json"))
    assert "errors" not in shown
    assert list(shown["data"]) == [plot.title for plot in PLOTS]
    for plot in PLOTS:
        spec = shown["data"][plot.title][0]["content"]
        spec = json.loads(spec) if isinstance(spec, str) else spec
        assert spec["title"] == plot.title
        first, name = (0, "pass_at_k") if plot.y == SCORES.y else (1, "train_curve")
        files = {row["filename"] for row in spec["data"]["values"]}
        assert files == {f"00{iteration}/{name}.csv" for iteration in range(first, 3)}
        assert "<DVC_" not in json.dumps(spec)
        assert spec["usermeta"]["offline"]["y"] == plot.y


def test_the_page_of_plots_needs_no_network(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, num_iterations=2)
    list_iterations(workspace, 2, tuple(CURVES))
    for address in addresses(2):
        run_fake(workspace, address)
    dvc(workspace.root, "plots", "show")
    page = (workspace.root / "dvc_plots/index.html").read_text()
    loads = re.findall(r"(?:src|href) *= *.{0,60}|@import|fetch\(|import\(", page)
    assert loads == [], "nothing is fetched from anywhere"
    assert page.count("vegaEmbed(") == 1 + len(PLOTS), "it is defined there, and called for each"


def test_telemetry_is_off_and_artifacts_are_ignored() -> None:
    config = (PROJECT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "autostage = false" in config
    for path in ("data/problems/eval.parquet", "data/iterations/001/policy/x", ".dvc/cache/x"):
        git(PROJECT, "check-ignore", "-q", path)


def _titles(chart: dict[str, Any]) -> tuple[str, str]:
    return chart["title"]["text"], chart["encoding"]["x"]["title"]
