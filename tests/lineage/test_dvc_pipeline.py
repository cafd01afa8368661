"""dvc.yaml says of each stage what the design says, and DVC shows its results (8 s, one core)."""

import json
from pathlib import Path
from typing import Any

import pytest
from dvc_scratch import PROJECT, addresses, dvc, git, list_iterations, make_workspace, run_fake

from distil_core.campaign.iterations import CURVES
from distil_core.lineage.dvc.session import load_stage, open_repo
from distil_core.lineage.dvc.upstream import Definition, load_pipeline
from distil_core.workspace import Workspace

TRAIN, ROLLOUTS = "data/problems/train.parquet", "data/iterations/002/rollouts.parquet"
FOLDER = "data/iterations/002"
CONTRACT: dict[str, tuple[list[str], list[str], list[str]]] = {
    # stage: keys read besides its version, dependencies, outputs
    "problems": (
        ["seed", "problems", "consult.verifier"],
        [],
        [
            f"data/problems/{name}.parquet"
            for name in ("warm_start", "train", "eval", "generalisation")
        ],
    ),
    "base": (
        ["seed", "compute", "problems.source", "context", "consult", "base"],
        ["data/problems/warm_start.parquet"],
        ["data/policy-000"],
    ),
    "sample@002": (
        ["seed", "compute", "context", "sample"],
        [TRAIN, "data/iterations/001/handover"],
        [ROLLOUTS],
    ),
    "consult@002": (
        ["seed", "compute", "context", "sample.engine", "consult"],
        [TRAIN, ROLLOUTS, "data/iterations/001/handover"],
        [f"{FOLDER}/consultations.parquet"],
    ),
    "tabulate@002": (
        ["seed", "compute", "context", "tabulate"],
        [TRAIN, ROLLOUTS, f"{FOLDER}/consultations.parquet", "data/policy-000"],
        [f"{FOLDER}/feedback"],
    ),
    "train@002": (
        ["seed", "compute", "train"],
        [f"{FOLDER}/feedback", "data/iterations/001/handover"],
        [f"{FOLDER}/policy", f"{FOLDER}/train_curve.csv"],
    ),
    "evaluate@002": (
        [
            *("seed", "compute", "problems.generalisation", "context", "sample.engine", "consult"),
            *("tabulate.expert", "evaluate"),
        ],
        [
            "data/problems/eval.parquet",
            "data/problems/generalisation.parquet",
            f"{FOLDER}/policy",
            "data/policy-000",
        ],
        [f"{FOLDER}/{name}" for name in ("metrics.json", "pass_at_k.csv", "evaluation.parquet")],
    ),
    "gate@002": (
        ["seed", "evaluate.num_bootstrap", "gate"],
        [
            f"{FOLDER}/evaluation.parquet",
            f"{FOLDER}/policy",
            "data/iterations/001/handover",
            "data/iterations/001/handover_evaluation.parquet",
            "data/iterations/001/champion_evaluation.parquet",
        ],
        [
            f"{FOLDER}/{name}"
            for name in (
                *("decision.json", "handover", "handover_evaluation.parquet"),
                "champion_evaluation.parquet",
            )
        ],
    ),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("pipeline"), num_iterations=12)


@pytest.fixture(scope="module")
def definitions(workspace: Workspace) -> dict[str, Definition]:
    with open_repo(workspace, "problems") as repo:
        return dict(load_pipeline(load_stage(repo, "problems")).definitions)


def test_every_iteration_has_its_stages(definitions: dict[str, Definition]) -> None:
    """008 to 010 are where the YAML versions disagree what a number is."""
    assert sorted(definitions) == sorted(addresses(12))


@pytest.mark.parametrize("address", CONTRACT)
def test_stages_read_and_write_what_the_design_says(
    definitions: dict[str, Definition], address: str
) -> None:
    keys, dependencies, outputs = CONTRACT[address]
    name, _, iteration = address.partition("@")
    definition = definitions[address]
    argument = f" --iteration {iteration}" if iteration else ""
    assert definition.command == f"python -m tasks.{name}{argument}"
    assert definition.settings == {
        f"iterations/{iteration or '000'}.yaml": [*keys, f"stage_versions.{name}"]
    }
    assert definition.dependencies == frozenset(dependencies)
    assert definition.outputs == frozenset(outputs)


def test_the_first_iterations_build_on_the_base_policy(
    definitions: dict[str, Definition],
) -> None:
    assert "data/policy-000" in definitions["sample@001"].dependencies
    assert "data/policy-000" in definitions["train@001"].dependencies
    assert "data/policy-000" in definitions["evaluate@000"].dependencies


def test_metrics_and_plots_can_be_shown(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, num_iterations=2)
    list_iterations(workspace, 2, CURVES)
    for address in addresses(2):
        run_fake(workspace, address)
    metrics = json.loads(dvc(workspace.root, "metrics", "show", "--json"))
    assert set(metrics[""]["data"]) == {
        *(f"data/iterations/00{iteration}/metrics.json" for iteration in (0, 1, 2)),
        *(f"data/iterations/00{iteration}/decision.json" for iteration in (1, 2)),
    }
    shown = json.loads(dvc(workspace.root, "plots", "show", "--json"))
    assert "errors" not in shown
    overall = shown["data"]["Training loss by iteration"][0]["content"]
    assert _titles(overall) == ("Training loss by iteration", "optimizer step")
    assert {row["filename"] for row in overall["data"]["values"]} == {
        f"00{iteration}/train_curve.csv" for iteration in (1, 2)
    }
    single = shown["data"]["data/iterations/001/train_curve.csv"][0]["content"]
    assert _titles(single) == ("Training loss of iteration 001", "optimizer step")
    assert "Cross-entropy to the expert by iteration" in shown["data"]
    scores = shown["data"]["Held-out pass@k by iteration"][0]["content"]
    assert _titles(scores) == ("Held-out pass@k by iteration", "k")
    assert {row["filename"] for row in scores["data"]["values"]} == {
        f"00{iteration}/pass_at_k.csv" for iteration in (0, 1, 2)
    }


def test_telemetry_is_off_and_artifacts_are_ignored() -> None:
    config = (PROJECT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "autostage = false" in config
    for path in ("data/problems/eval.parquet", "data/iterations/001/policy/x", ".dvc/cache/x"):
        git(PROJECT, "check-ignore", "-q", path)


def _titles(chart: dict[str, Any]) -> tuple[str, str]:
    return chart["title"]["text"], chart["encoding"]["x"]["title"]
