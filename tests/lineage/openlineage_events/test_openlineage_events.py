"""OpenLineage run events of a campaign, and a receiver that reads lineage out of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_scratch import edit_lock, lock_all, make_campaign, reject
from openlineage_receiver import receiver

from distil_core.errors import ExportError
from distil_core.lineage.dvc.lock import read_entries
from distil_core.lineage.openlineage.events import campaign_events
from distil_core.lineage.openlineage.send import send_events, write_events
from distil_core.workspace import Workspace

pytest.importorskip("openlineage.client", reason="openlineage-python is not installed")

Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Read only."""
    return make_campaign(tmp_path_factory.mktemp("openlineage") / "campaign", 3)


@pytest.fixture
def campaign(finished: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(finished.root, tmp_path / "campaign")
    return Workspace(tmp_path / "campaign")


def told(workspace: Workspace, folder: Path, **options: Any) -> list[dict[str, Any]]:
    write_events(campaign_events(workspace, **options), folder / "events.jsonl")
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def completed(events: list[dict[str, Any]]) -> Told:
    return {e["job"]["name"]: e for e in events if e["eventType"] == "COMPLETE"}


def names(datasets: list[dict[str, Any]]) -> set[str]:
    return {dataset["name"] for dataset in datasets}


def made_from(jobs: Told, wanted: str) -> set[str]:
    """All that a data set came from, by what the events say alone, as a catalogue would find it."""
    found: set[str] = set()
    pending = [wanted]
    while pending:
        current = pending.pop()
        for job in jobs.values():
            if current in names(job["outputs"]):
                new = names(job["inputs"]) - found
                found |= new
                pending += new
    return found


def test_every_stage_of_dvc_lock_with_its_digests(finished: Workspace, tmp_path: Path) -> None:
    jobs = completed(told(finished, tmp_path))
    entries = read_entries(finished)
    assert set(jobs) == set(entries)
    for address, entry in entries.items():
        versions = {
            dataset["name"]: dataset["facets"]["version"]["datasetVersion"]
            for dataset in jobs[address]["outputs"]
        }
        assert versions == {out["path"]: out["md5"] for out in entry["outs"]}
        sizes = {
            dataset["name"]: dataset["outputFacets"]["outputStatistics"]["size"]
            for dataset in jobs[address]["outputs"]
        }
        assert sizes == {out["path"]: out["size"] for out in entry["outs"]}
    kinds = {
        dataset["name"]: dataset["facets"]["datasetType"]["datasetType"]
        for job in jobs.values()
        for dataset in job["outputs"]
    }
    models = {path for path, kind in kinds.items() if kind == "MODEL"}
    assert models == {"data/policy-000"} | {
        f"data/iterations/{number:03d}/{name}"
        for number in (1, 2, 3)
        for name in ("policy", "handover")
    }
    assert kinds["data/iterations/001/feedback"] == "TABLE"
    assert kinds["data/iterations/001/metrics.json"] == "FILE"


def test_a_policy_leads_to_the_rollouts_it_sampled_and_no_other_does(
    campaign: Workspace, tmp_path: Path
) -> None:
    jobs = completed(told(campaign, tmp_path))
    for iteration, policy in ((1, "data/policy-000"), (3, "data/iterations/002/policy")):
        sampled = jobs[f"sample@{iteration:03d}"]
        assert names(sampled["inputs"]) == {"data/problems/train.parquet", policy}
        assert names(sampled["outputs"]) == {f"data/iterations/{iteration:03d}/rollouts.parquet"}
    # The gate of iteration 2 keeps policy 1, with the bytes of which iteration 3 samples.
    reject(campaign, 2, champion=1, handed_over=1)
    shutil.rmtree(campaign.handover_dir(2))
    shutil.copytree(campaign.policy_dir(1), campaign.handover_dir(2))
    lock_all(campaign, [2, 3])
    jobs = completed(told(campaign, tmp_path))
    sampled = jobs["sample@003"]
    assert names(sampled["inputs"]) == {
        "data/problems/train.parquet",
        "data/iterations/001/policy",
    }
    assert "data/iterations/002/policy" not in made_from(
        jobs, "data/iterations/003/rollouts.parquet"
    )


def test_lineage_leads_from_the_last_policy_to_the_problems(
    finished: Workspace, tmp_path: Path
) -> None:
    sources = made_from(completed(told(finished, tmp_path)), "data/iterations/003/policy")
    for iteration in (1, 2, 3):
        assert f"data/iterations/{iteration:03d}/feedback" in sources
        assert f"data/iterations/{iteration:03d}/rollouts.parquet" in sources
    assert {"data/policy-000", "data/problems/warm_start.parquet"} <= sources
    assert not any(path.startswith("code/") for path in sources)


def test_tables_of_a_window_are_read_too(campaign: Workspace, tmp_path: Path) -> None:
    entry = read_entries(campaign)["train@003"]
    settings = {**entry["params"]["iterations/003.yaml"]["train"], "num_tables": 2}
    path = campaign.frozen_params_file(3)
    import yaml

    frozen = yaml.safe_load(path.read_text())
    frozen["train"] = settings
    path.write_text(yaml.safe_dump(frozen))
    seed = entry["params"]["iterations/003.yaml"]["seed"]
    edit_lock(
        campaign, "train@003", params={"iterations/003.yaml": {"seed": seed, "train": settings}}
    )
    read = names(completed(told(campaign, tmp_path))["train@003"]["inputs"])
    tables = {f"data/iterations/{number:03d}/feedback" for number in (2, 3)}
    assert {path for path in read if path.endswith("feedback")} == tables


def test_ids_are_those_of_the_same_runs_again_and_elsewhere(
    campaign: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    first = {job: e["run"]["runId"] for job, e in completed(told(finished, tmp_path)).items()}
    assert len(set(first.values())) == len(first)
    again = {job: e["run"]["runId"] for job, e in completed(told(campaign, tmp_path)).items()}
    assert again == first
    from mlflow_scratch import rerun

    rerun(campaign, "evaluate@003", campaign.evaluation_file(3), "other bytes")
    lock_all(campaign, [3])
    other = {job: e["run"]["runId"] for job, e in completed(told(campaign, tmp_path)).items()}
    assert {job for job in first if other[job] != first[job]} == {"evaluate@003", "gate@003"}
    named = completed(told(finished, tmp_path, namespace="lab"))
    assert named["sample@001"]["job"]["namespace"] == "lab"
    assert named["sample@001"]["run"]["runId"] != first["sample@001"]


def test_the_file_has_the_same_bytes_again(finished: Workspace, tmp_path: Path) -> None:
    told(finished, tmp_path)
    before = (tmp_path / "events.jsonl").read_bytes()
    told(finished, tmp_path)
    assert (tmp_path / "events.jsonl").read_bytes() == before


def test_settings_iteration_and_times(finished: Workspace, tmp_path: Path) -> None:
    events = told(finished, tmp_path)
    train = completed(events)["train@002"]
    values = {
        parameter["key"]: parameter["value"]
        for parameter in train["run"]["facets"]["executionParameters"]["parameters"]
    }
    assert values["train.learning_rate"] == "0.0005"
    assert train["run"]["facets"]["parent"]["job"]["name"] == "chain-arithmetic/002"
    siblings = {
        e["run"]["facets"]["parent"]["run"]["runId"]
        for e in events
        if e["job"]["name"].endswith("@002")
    }
    assert len(siblings) == 1
    start = next(
        e for e in events if e["job"]["name"] == "evaluate@002" and e["eventType"] == "START"
    )
    assert (start["eventTime"], completed(events)["evaluate@002"]["eventTime"]) == (
        "2026-05-28T20:28:39.000Z",
        "2026-05-28T20:28:40.000Z",
    )
    assert [e["eventType"] for e in events[:2]] == ["START", "COMPLETE"]


def test_a_receiver_gets_all_of_it_in_order(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = campaign_events(finished)
    in_file = told(finished, tmp_path)
    monkeypatch.delenv("OPENLINEAGE_API_KEY", raising=False)
    with receiver() as server:
        send_events(events, server.address)
        assert [body for _, _, _, body in server.taken] == in_file
        assert {(path, key) for _, path, key, _ in server.taken} == {("/api/v1/lineage", None)}
        server.taken.clear()
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "k3y")
        send_events(events[:1], f"{server.address}/lab/events")
        assert [(path, key) for _, path, key, _ in server.taken] == [("/lab/events", "Bearer k3y")]


def test_a_server_that_refuses_or_is_gone_is_said(finished: Workspace) -> None:
    events = campaign_events(finished)
    with receiver() as server:
        server.refuse_from = 3
        with pytest.raises(ExportError, match=rf"took 3 of {len(events)} events.*422"):
            send_events(events, server.address)
        gone = server.address
    with pytest.raises(ExportError, match="took 0 of 1 events"):
        send_events(events[:1], gone)


def test_the_command_writes_where_it_was_given_and_sends_to_servers(
    campaign: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    distil_command: Callable[..., tuple[int, str]],
) -> None:
    (campaign.root / "params.yaml").touch()
    below = campaign.root / "iterations"

    def distil(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(below)
        return distil_command("openlineage", *arguments)

    status, said = distil("--to", "../told.jsonl")
    told_file = campaign.root / "told.jsonl"
    assert (status, said) == (0, f"42 OpenLineage events of 21 stages: {told_file}\n")
    with receiver() as server:
        assert distil("--to", server.address, "--namespace", "lab")[0] == 0
        assert len(server.taken) == len(told_file.read_text().splitlines()) == 42
        assert {body["job"]["namespace"] for _, _, _, body in server.taken} == {"lab"}
    (campaign.root / "a-file").touch()
    status, said = distil("--to", "../a-file/told.jsonl")
    assert (status, "distil: cannot write" in said) == (1, True)


def test_nothing_finished_is_said(campaign: Workspace) -> None:
    edit_lock(campaign, "base")
    with pytest.raises(ExportError, match=r"no lineage to tell yet: .*dvc.lock has no base"):
        campaign_events(campaign)
