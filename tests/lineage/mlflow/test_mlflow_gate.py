"""What the improvement gate decided, in MLflow: champion, real parents, model card (6 s)."""

from pathlib import Path

import pytest
from mlflow_scratch import make_campaign, reject

from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.mlflow.record import record_all, record_report
from distil_core.lineage.mlflow.store import open_store
from distil_core.lineage.pages.card import model_card
from distil_core.lineage.pages.chain import Chain, Recorded
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Policy 1 is promoted; 2 and 3, which both start from it, are not. Recorded."""
    workspace = make_campaign(tmp_path_factory.mktemp("gate") / "campaign")
    kept = {"champion": 1, "handed_over": 1, "compared_with": 1}
    reject(workspace, 2, parent=1, **kept)
    reject(workspace, 3, parent=1, **kept)
    assert [recorded.created for recorded in record_all(workspace)] == [True] * 4
    return workspace


def test_the_champion_is_the_last_one_promoted(rejected: Workspace) -> None:
    with open_store(rejected) as client:
        name = "chain-arithmetic"
        assert int(client.get_model_version_by_alias(name, "champion").version) == 2
        assert int(client.get_model_version_by_alias(name, "newest").version) == 4
        version = client.get_model_version(name, "4")
    assert "**Not promoted**: pass_at_1 is worse" in version.description
    assert "parent: version 2" in version.description
    assert version.tags["distil.parent_version"] == "2"


def test_a_run_names_its_real_parent_and_why_it_was_not_promoted(rejected: Workspace) -> None:
    with open_store(rejected) as client:
        experiment = client.get_experiment_by_name("chain-arithmetic")
        runs = {
            run.data.tags["distil.iteration"]: run
            for run in client.search_runs(
                [experiment.experiment_id], "tags.`distil.role` = 'iteration'"
            )
        }
        inputs = client.get_run(runs["3"].info.run_id).inputs.model_inputs
        model = client.get_logged_model(inputs[0].model_id)
    tags = runs["3"].data.tags
    assert tags["distil.parent_run_id"] == runs["1"].info.run_id
    assert tags["distil.previous_run_id"] == runs["2"].info.run_id
    assert (tags["distil.promoted"], tags["distil.not_promoted_because"]) == (
        "false",
        "pass_at_1 is worse",
    )
    assert model.name == "policy-001"
    assert runs["3"].data.metrics["gate/promoted"] == 0
    assert runs["1"].data.metrics["gate/from_champion/pass_at_1_low"] == 0.08


def test_recording_again_changes_nothing(rejected: Workspace) -> None:
    assert not any(recorded.created for recorded in record_all(rejected))


def test_a_report_replaces_the_one_before(rejected: Workspace, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    for text in ("first", "second"):
        report.write_text(text)
        record_report(rejected, report)
    logged = list((rejected.root / "mlruns").rglob("report.html"))
    assert [path.read_text() for path in logged] == ["second"]


def test_the_model_card_tells_what_was_measured(rejected: Workspace) -> None:
    history = History(rejected)
    evidence = {number: history[number] for number in range(4)}
    recorded = {number: Recorded(f"run{number}", f"m{number}", number + 1) for number in range(4)}
    card = model_card(Chain("chain-arithmetic", "1", evidence, recorded))
    header, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "pipeline_tag: text-generation" in header
    assert "| pass@1 | 0.762 | 0.749 to 0.775 |" in body
    assert "### Against policy 001, the champion before" in body
    assert "| pass_at_1 | +0.100 | +0.080 to +0.120 |" in body
    assert "- objective: `forward_cross_entropy`" in body
    base = model_card(Chain("chain-arithmetic", "1", {0: evidence[0]}, recorded))
    assert "base policy" in base
    assert "### Against" not in base
