"""What is wrong with problems, model and contexts is said before anything is frozen."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.inputs import model_positions, require_inputs_again
from distil_core.campaign.iterations import existing_iterations
from distil_core.campaign.load import load_params
from distil_core.campaign.new_workspace import write_workspace
from distil_core.errors import ConfigError
from distil_core.policy.model import save_policy
from distil_core.problems.base import Problem
from distil_core.problems.store import write_problems
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "preview"))
from preview_scratch import sums, write_own_data, write_settings

Distil = Callable[..., tuple[int, str]]
VERIFIER = {"name": "final_number", "options": {}}
# What fits into the 64 positions of the tests' model, with 4 new tokens.
SHORT = {"max_context_tokens": 60}


@pytest.fixture
def workspace(tmp_path: Path, tokenizer: Any, new_model: Callable[..., Any]) -> Workspace:
    workspace = write_workspace(tmp_path, campaign="own-data")
    save_policy(new_model(), tokenizer, tmp_path / "model")
    write_own_data(workspace, sums(), VERIFIER, **SHORT)
    return workspace


@pytest.fixture
def distil(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, distil_command: Distil) -> Distil:
    monkeypatch.chdir(workspace.root)
    return distil_command


def change(workspace: Workspace, **sections: Any) -> None:
    values = yaml.safe_load(workspace.params_file.read_text(encoding="utf-8"))
    for name, section in sections.items():
        values[name] |= section
    write_settings(workspace, values)


def refused(workspace: Workspace, distil: Distil, *expected: str) -> None:
    status, said = distil("restart")
    assert status == 1, said
    assert "nothing was frozen" in said
    for text in expected:
        assert text in said
    assert not existing_iterations(workspace)
    assert not workspace.frozen_params_file(0).exists()


def test_what_is_as_it_should_be_is_frozen(workspace: Workspace, distil: Distil) -> None:
    status, said = distil("restart")
    assert (status, "params.yaml is frozen" in said) == (0, True), said


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda root: (root / "rows.jsonl").unlink(), "cannot read the problems in "),
        (
            lambda root: (root / "rows.jsonl").write_text(json.dumps(sums(1)[0]) + "\n"),
            "has SHA-256 ",
        ),
        (lambda root: shutil.rmtree(root / "model"), "is no folder here, and base.allow_download"),
        (lambda root: (root / "model" / "config.json").unlink(), "has no config.json"),
        (
            lambda root: (root / "model" / "tokenizer_config.json").unlink(),
            "has no tokenizer (tokenizer_config.json)",
        ),
        (
            lambda root: (root / "model" / "model.safetensors").unlink(),
            "holds no *.safetensors weights",
        ),
        (
            lambda root: (root / "model" / "model.safetensors").write_bytes(b"half of it"),
            "model.safetensors is damaged or not whole",
        ),
    ],
)
def test_files_that_are_missing_or_others_are_named(
    workspace: Workspace, distil: Distil, harm: Callable[[Path], object], expected: str
) -> None:
    harm(workspace.root)
    refused(workspace, distil, expected, "--no-check")
    status, said = distil("restart", "--no-check")
    assert (status, "params.yaml is frozen" in said) == (0, True), said


def test_rows_of_a_warm_start_are_read_before_anything_is_frozen(
    workspace: Workspace, distil: Distil
) -> None:
    rows = workspace.root / "mine.jsonl"
    rows.write_text('{"prompt": "1+1?", "response": "#### 2"}\n{"prompt": "2+2?"}\n')
    warm_start = {
        "file": {"path": rows.name, "sha256": ""},
        "phases": [{"num_steps": 1, "correction_fraction": 0.0}],
        "learning_rate": 1e-5,
    }
    change(workspace, base={"warm_start": warm_start})
    refused(workspace, distil, "mine.jsonl has SHA-256", "`distil pin` writes it there")
    assert distil("pin")[0] == 0
    refused(workspace, distil, "mine.jsonl, line 2: field 'response': expected text, found None")
    rows.write_text('{"prompt": "1+1?", "response": "#### 2"}\n')
    assert distil("pin")[0] == 0
    assert distil("restart")[0] == 0
    frozen = yaml.safe_load(workspace.frozen_params_file(0).read_text())["base"]["warm_start"]
    assert len(frozen["file"]["sha256"]) == 64


def test_rows_of_the_wrong_shape_are_named_by_line(workspace: Workspace, distil: Distil) -> None:
    rows = sums()
    rows[6] = {"question": "What is left?", "answr": "4"}
    write_own_data(workspace, rows, VERIFIER, **SHORT)
    refused(workspace, distil, "rows.jsonl, line 7: no field 'answer'")


def test_everything_that_is_wrong_is_said_at_once(workspace: Workspace, distil: Distil) -> None:
    (workspace.root / "rows.jsonl").unlink()
    (workspace.root / "model" / "config.json").unlink()
    change(
        workspace,
        tabulate={"expert": {"name": "white_box", "options": {"path": "teacher", "batch_size": 8}}},
    )
    refused(
        workspace,
        distil,
        "cannot read the problems",
        "has no config.json",
        "the checkpoint of expert 'white_box': there is no folder",
    )


def test_contexts_over_the_models_positions_are_refused(
    workspace: Workspace, distil: Distil
) -> None:
    assert model_positions(workspace.root / "model") == 64
    change(workspace, context={"max_context_tokens": 61})
    refused(
        workspace,
        distil,
        "context.max_context_tokens 61 and max_new_tokens 4 together exceed the 64 positions",
    )


def test_all_turns_of_a_rollout_must_fit_into_the_models_positions(
    workspace: Workspace, distil: Distil
) -> None:
    """Three turns of 4 tokens and two observations of 6, after a context."""
    environment = {
        "name": "tools",
        "options": {"tools": [{"name": "calculator"}]},
        "max_turns": 3,
        "max_observation_tokens": 6,
    }
    change(workspace, context={"max_context_tokens": 41, "environment": environment})
    refused(workspace, distil, "max_new_tokens 4 of 3 turns (context.environment.max_turns)")
    change(workspace, context={"max_context_tokens": 40})
    status, said = distil("restart")
    assert status == 0, said


def test_contexts_over_the_experts_positions_are_refused(
    workspace: Workspace, distil: Distil
) -> None:
    teacher = workspace.root / "teacher"
    shutil.copytree(workspace.root / "model", teacher)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32}))
    options = {"path": "teacher", "batch_size": 8}
    change(workspace, tabulate={"expert": {"name": "white_box", "options": options}})
    refused(workspace, distil, f"exceed the 32 positions of the model in {teacher}")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 40, "text_config": {"max_position_embeddings": 50}}, 50),
        ({"hidden_size": 8}, None),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
            },
            131072,
        ),
        ({"max_position_embeddings": 64, "rope_parameters": {"full_attention": {}}}, 64),
    ],
)
def test_how_many_positions_a_model_knows(
    tmp_path: Path, config: dict[str, Any], expected: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_positions(tmp_path) == expected


def test_contexts_over_their_limit_are_refused(workspace: Workspace, distil: Distil) -> None:
    change(workspace, context={"max_context_tokens": 15})
    refused(workspace, distil, "context.max_context_tokens allows 15")


def test_more_iterations_are_judged_by_what_is_there(workspace: Workspace) -> None:
    """The files that problems and base were made from may be gone by then."""
    shutil.copytree(workspace.root / "model", workspace.policy_dir(0))
    workspace.problems_dir.mkdir(parents=True)
    problems = [Problem(f"What is {n} and 1?", str(n + 1)) for n in range(9)]
    write_problems(workspace.problems_dir / "train.parquet", problems, {})
    # As the stage `problems` leaves it where no harder problems are asked for.
    write_problems(workspace.problems_dir / "generalisation.parquet", [], {})
    params = load_params(workspace)
    (workspace.root / "rows.jsonl").unlink()
    shutil.rmtree(workspace.root / "model")
    require_inputs_again(workspace, params)
    tight = params.model_copy(
        update={"context": params.context.model_copy(update={"max_context_tokens": 8})}
    )
    with pytest.raises(ConfigError, match=r"context\.max_context_tokens allows 8"):
        require_inputs_again(workspace, tight)
    wide = params.model_copy(
        update={"context": params.context.model_copy(update={"max_context_tokens": 64})}
    )
    with pytest.raises(ConfigError, match="exceed the 64 positions"):
        require_inputs_again(workspace, wide)


@pytest.mark.parametrize(
    ("words", "status", "hint"),
    [
        (["extned"], 2, "no command 'extned', did you mean extend?"),
        (["restart", "--parms", "x.yaml"], 2, "did you mean --params?"),
        (["extend", "--cuont=2"], 2, "did you mean --count?"),
        (["restart", "--params", "mth"], 1, "did you mean math?"),
        (["restart", "--set", "train.learning_rte=1"], 1, "did you mean learning_rate"),
        (["restart", "--set", "consult.verifier.name=finl_number"], 1, "Did you mean 'final_num"),
        (
            ["restart", "--set", "tabulate.expert.options.wights=frozen"],
            1,
            "did you mean weights?",
        ),
        (
            ["restart", "--set", "context.expert_template='{prompt}{attemt}|'"],
            1,
            "did you mean attempt?",
        ),
    ],
)
def test_close_misspellings_are_answered(
    distil: Distil, words: list[str], status: int, hint: str
) -> None:
    found, said = distil(*words)
    assert (found, hint in said) == (status, True), said
