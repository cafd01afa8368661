"""The matrix of losses on a small real campaign (about 10 s)."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks import loss_matrix
from distil_core.campaign import parse_iteration_params
from distil_core.errors import DataError
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.progress import no_progress
from distil_core.training.feedback_rows import FeedbackRow, read_feedback
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two iterations, trained."""
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["problems"] |= {
        "num_warm_start": 60,
        "num_train": 40,
        "num_eval": 4,
        "generalisation": None,
    }
    values["problems"]["source"]["options"] |= {"num_operations": 2, "modulus": 3}
    values["consult"]["verifier"]["options"]["modulus"] = 3
    values["base"] |= {"phases": [{"num_steps": 60, "correction_fraction": 0.2}], "batch_size": 64}
    values["sample"] |= {"num_prompts": 12, "max_new_tokens": 4}
    values["train"] |= {"num_steps": 3, "batch_rollouts": 24}
    made = Workspace(tmp_path_factory.mktemp("campaign"))
    values["gate"]["on_regression"] = "continue"  # iteration 2 starts from policy 1
    stages = "sample consult tabulate train"
    first = f"{stages} evaluate gate"
    for iteration, names in ((0, "problems base evaluate"), (1, first), (2, stages)):
        frozen = {**values, "iteration": iteration, "stage_versions": {}}
        file = made.frozen_params_file(iteration)
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(frozen), encoding="utf-8")
        for name in names.split():
            body = importlib.import_module(f"distil_tasks.{name}").body
            body(made, parse_iteration_params(frozen, "t"), no_progress)
    return made


def by_hand(model: Any, row: FeedbackRow) -> tuple[float, int]:
    """KL(T || pi) over the buckets of each position in turn: its sum, and the positions."""
    tokens = collate([row.context_ids.tolist()], [row.response_ids_t.tolist()], "cpu")
    with torch.inference_mode():
        student_tv = torch.softmax(response_logits(model, tokens)[0].double(), dim=-1)
    total, start = 0.0, 0
    for t, count in enumerate(row.expert_counts_t.tolist()):
        ids = row.expert_ids[start : start + count].tolist()
        logprobs = row.expert_logprobs[start : start + count].tolist()
        rest = 1.0 - float(student_tv[t, ids].sum())
        masses = [
            (math.exp(logprob), float(student_tv[t, i]))
            for i, logprob in zip(ids, logprobs, strict=True)
        ]
        masses.append((math.exp(row.expert_tail_logprobs_t[t]), rest))
        total += sum(e * math.log(e / s) for e, s in masses if e > 0)
        start += count
    return total, len(row.expert_counts_t)


def test_each_cell_is_the_divergence_of_a_checkpoint_on_a_table(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    found = loss_matrix.loss_matrix(workspace)
    assert found.shape == (3, 2)
    compute = parse_iteration_params(
        yaml.safe_load(workspace.frozen_params_file(1).read_text()), "t"
    ).compute
    digest = tokenizer_digest(load_tokenizer(workspace.policy_dir(0)))
    for j, i in ((0, 1), (2, 1), (1, 2)):
        rows = read_feedback(workspace.feedback_dir(i), digest)
        model = load_model(workspace.policy_dir(j), compute)
        sums = [by_hand(model, rows.row(index)) for index in range(len(rows))]
        expected = sum(total for total, _ in sums) / sum(count for _, count in sums)
        assert found[j, i - 1] == pytest.approx(expected, rel=1e-4)
    loss_matrix.main()
    assert f"{found[0, 0]:.4f}*" in capsys.readouterr().out


def test_each_table_is_marked_where_the_policy_that_made_it_stands() -> None:
    # The gate rejected policy 1, so the base made table 2 as well.
    losses = np.array([[0.5, 0.6], [0.4, 0.2], [0.1, 0.3]])
    lines = loss_matrix.render(losses, [0, 0]).splitlines()
    assert lines[3].split() == ["0", "0.5000*", "0.6000*"]
    assert lines[-1].split() == ["regret", "0.4000", "0.3500"]


def test_nothing_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trained iteration"):
        loss_matrix.loss_matrix(Workspace(tmp_path))
