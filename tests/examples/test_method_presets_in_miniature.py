"""The presets of published methods through every stage of an iteration, made small (20 s)."""

from pathlib import Path

import pytest
from example_data import Rows, make_checkpoint, shrink, use_own_files
from miniature import run_iteration

from distil_core.campaign.extends import presets, read_settings
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace


def guesses(count: int) -> Rows:
    """Solved by a part of what an untrained model writes: peers are there, and missing."""
    return [{"question": f"{n}?", "answer": "q"} for n in range(count)]


@pytest.mark.parametrize("name", ["opsd", "paper", "sdpo"])
def test_every_stage_runs_and_the_expert_reads_what_the_method_says(
    name: str, tmp_path: Path
) -> None:
    values = read_settings(presets()[name], name).values
    use_own_files(values, tmp_path, guesses)
    shrink(values, make_checkpoint(tmp_path / "checkpoint"))
    # So many tokens that some responses end.
    values["sample"] |= {"num_prompts": 6, "num_rollouts": 4, "max_new_tokens": 200}
    values["train"]["batch_rollouts"] = 24
    values["consult"]["verifier"] = {
        "name": "regular_expression",
        "options": {"anchoring": "anywhere"},
    }
    workspace = Workspace(tmp_path)
    run_iteration(workspace, values)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    verdicts = {row.verdict for row in consultations}
    assert {"correct"} < verdicts
    read = "expert_correction" if name == "opsd" else "peer_solution"
    has_read = [any(item.kind == read for item in row.feedback) for row in consultations]
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert any(has_read)
    has_expert = [row.has_expert for row in rows]
    assert all(expert for expert, read in zip(has_expert, has_read, strict=True) if read)
    if name != "paper":  # whose expert reads what a tool says, too
        assert has_expert == has_read
    assert (workspace.policy_dir(1) / "model.safetensors").exists()
    assert workspace.average_dir(1).exists() == (name == "sdpo")
