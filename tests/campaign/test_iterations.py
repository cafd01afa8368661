"""Freezing settings and adding iterations (1 s, and the import of the components' libraries)."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign import iterations as campaign
from distil_core.campaign import listing as listing_file
from distil_core.campaign.chain import expert_dependency, parent_iteration, sampling_expert_dir
from distil_core.campaign.iterations import (
    existing_iterations,
    extend,
    restart,
)
from distil_core.campaign.load import load_iteration_params, load_params
from distil_core.config.models import Params
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
VERSIONS = {"sample": 1, "train": 2}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    workspace.params_file.write_text(yaml.safe_dump(settings | {"num_iterations": 2}))
    workspace.iterations_file.write_text(
        "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"
    )
    return workspace


def change(workspace: Workspace, dotted_key: str, value: Any) -> None:
    """Edit one setting of params.yaml."""
    settings = yaml.safe_load(workspace.params_file.read_text())
    *parents, last = dotted_key.split(".")
    section = settings
    for parent in parents:
        section = section[parent]
    section[last] = value
    workspace.params_file.write_text(yaml.safe_dump(settings))


def contents(workspace: Workspace) -> dict[str, str]:
    return {str(p): p.read_text() for p in workspace.root.rglob("*.yaml")}


def listing(workspace: Workspace) -> dict[str, Any]:
    """iterations.yaml as DVC reads it."""
    from dvc.utils.serialize import load_yaml

    values: dict[str, Any] = load_yaml(workspace.iterations_file)
    return values


def test_restart_freezes_the_base_and_all_iterations(workspace: Workspace) -> None:
    assert existing_iterations(workspace) == []
    assert restart(workspace, VERSIONS) == [0, 1, 2]
    assert existing_iterations(workspace) == [0, 1, 2]
    frozen = load_iteration_params(workspace, 2)
    versions = {name: frozen.stage_versions[name].version for name in frozen.stage_versions}
    assert versions == VERSIONS
    (code,) = frozen.stage_versions["train"].code
    assert re.fullmatch("[0-9a-f]{16} objective forward_cross_entropy", code)
    assert frozen.iteration == 2
    shared = frozen.model_dump(include=set(Params.model_fields))
    assert shared == load_params(workspace).model_dump()
    assert listing(workspace)["evaluations"] == {
        f"00{number}": {
            "params": f"iterations/00{number}.yaml",
            "policy": policy,
            "expert_policy": "data/policy-000",
            "code": {"evaluate": "code/built_in.txt"},
        }
        for number, policy in enumerate(
            ("data/policy-000", "data/iterations/001/policy", "data/iterations/002/policy")
        )
    }
    assert listing(workspace)["iterations"]["002"] == {
        "params": "iterations/002.yaml",
        "parent_policy": "data/iterations/001/handover",
        "parent_evaluation": "data/iterations/001/handover_evaluation.parquet",
        "champion_evaluation": "data/iterations/001/champion_evaluation.parquet",
        "expert_policy": "data/policy-000",
        "policy": "data/iterations/002/policy",
        "code": dict.fromkeys(("sample", "consult", "tabulate", "train"), "code/built_in.txt"),
    }
    assert listing(workspace)["code"] == dict.fromkeys(("problems", "base"), "code/built_in.txt")
    assert (workspace.root / "code/built_in.txt").is_file()
    first = listing(workspace)["iterations"]["001"]
    assert first["parent_policy"] == "data/policy-000"
    assert first["parent_evaluation"] == "data/iterations/000/evaluation.parquet"
    assert first["champion_evaluation"] == "data/iterations/000/evaluation.parquet"
    assert listing(workspace)["curves"]["pass_at_k"] == {
        f"data/iterations/00{number}/pass_at_k.csv": "pass_at_k" for number in (0, 1, 2)
    }


def test_restart_twice_writes_the_same(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    before = contents(workspace)
    restart(workspace, VERSIONS)
    assert contents(workspace) == before


def test_restart_with_fewer_iterations_drops_the_others_settings(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    change(workspace, "num_iterations", 1)
    assert restart(workspace, VERSIONS) == [0, 1]
    assert not workspace.frozen_params_file(2).exists()
    assert list(listing(workspace)["curves"]["loss"]) == ["data/iterations/001/train_curve.csv"]


def test_extend_adds_iterations_with_the_present_settings(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    before = contents(workspace)
    change(workspace, "train.learning_rate", 1e-5)
    change(workspace, "tabulate.expert.options.weights", "snapshot")
    assert extend(workspace, VERSIONS | {"train": 3}, count=9) == list(range(3, 12))
    assert load_iteration_params(workspace, 3).train.learning_rate == 1e-5
    assert load_iteration_params(workspace, 11).stage_versions["train"].version == 3
    changed = {"params.yaml", "iterations.yaml"}
    for path, text in before.items():
        assert contents(workspace)[path] == text or Path(path).name in changed
    # As text: 008 and 009 are numbers to DVC's YAML and text to the other.
    assert list(listing(workspace)["iterations"]) == [f"{i:03d}" for i in range(1, 12)]
    policies = listing(workspace)["iterations"]
    assert policies["002"]["expert_policy"] == "data/policy-000"
    assert policies["009"]["expert_policy"] == "data/iterations/008/handover"


def test_another_number_of_prompts_is_frozen_with_those_before_it(workspace: Workspace) -> None:
    """So that prompts do not repeat; iterations of one number are frozen as they always were."""
    restart(workspace, VERSIONS)
    before = load_iteration_params(workspace, 1).sample.num_prompts
    last = existing_iterations(workspace)[-1]
    extend(workspace, VERSIONS)
    assert "earlier_num_prompts" not in workspace.frozen_params_file(last + 1).read_text()
    change(workspace, "sample.num_prompts", before // 2)
    extend(workspace, VERSIONS, 2)
    frozen = [load_iteration_params(workspace, last + n).sample for n in (1, 2, 3)]
    assert [one.earlier_num_prompts for one in frozen] == [
        None,
        (before,) * (last + 1),
        (*(before,) * (last + 1), before // 2),
    ]
    change(workspace, "sample.earlier_num_prompts", [1])
    for command in (restart, extend):
        with pytest.raises(ConfigError, match=r"earlier_num_prompts is written .* leave it out"):
            command(workspace, VERSIONS)


def test_extending_one_by_one_writes_the_same_as_at_once(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    before = workspace.iterations_file.read_text()
    extend(workspace, VERSIONS, count=2)
    at_once = contents(workspace)
    workspace.iterations_file.write_text(before)
    assert extend(workspace, VERSIONS) == [3]
    assert extend(workspace, VERSIONS) == [4]
    assert contents(workspace) == at_once


@pytest.mark.parametrize("command", [extend, restart])
def test_a_crash_before_the_list_is_written_leaves_no_half_iteration(
    workspace: Workspace, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    restart(workspace, VERSIONS)
    before = workspace.iterations_file.read_text()
    real_write, written = campaign.write_text, []

    def write_until_the_list(path: Path, text: str) -> None:
        written.append(path.name)
        if path == workspace.iterations_file and written.count(path.name) > (command is restart):
            raise KeyboardInterrupt
        real_write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(campaign, "write_text", write_until_the_list)
        patched.setattr(listing_file, "write_text", write_until_the_list)
        with pytest.raises(KeyboardInterrupt):
            command(workspace, VERSIONS)
    assert existing_iterations(workspace) == ([] if command is restart else [0, 1, 2])
    repeated = command(workspace, VERSIONS)
    assert repeated == ([0, 1, 2] if command is restart else [3])
    assert (workspace.iterations_file.read_text() == before) == (command is restart)


def test_extend_refuses_without_a_campaign(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"no iterations yet.*distil restart"):
        extend(workspace, VERSIONS)


def test_extend_refuses_a_useless_count(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        extend(workspace, VERSIONS, count=0)


@pytest.mark.parametrize(
    ("setting", "value"), [("problems.num_eval", 100), ("base.batch_size", 64), ("campaign", "b")]
)
def test_extend_refuses_to_change_what_iterations_share(
    workspace: Workspace, setting: str, value: Any
) -> None:
    restart(workspace, VERSIONS)
    change(workspace, setting, value)
    before = contents(workspace)
    with pytest.raises(ConfigError, match=rf"{setting.partition('.')[0]} .*Revert.*distil restart"):
        extend(workspace, VERSIONS)
    assert contents(workspace) == before
    assert restart(workspace, VERSIONS) == [0, 1, 2]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("evaluate.temperature", 0.2),
        ("evaluate.top_p", 0.9),
        ("evaluate.max_new_tokens", 7),
        ("context.student_template", "{prompt}!|"),
        ("context.bos", "always"),
        ("context.chat_date", "2026-02-02"),
        ("context.shorten", [{"field": "prompt", "keep": "end"}]),
        ("consult.verifier.options.modulus", 5),
    ],
)
def test_extend_refuses_what_makes_evaluations_incomparable(
    workspace: Workspace, setting: str, value: Any
) -> None:
    restart(workspace, VERSIONS)
    change(workspace, setting, value)
    before = contents(workspace)
    with pytest.raises(ConfigError) as refused:
        extend(workspace, VERSIONS)
    message = str(refused.value)
    assert f"{setting}: " in message
    assert "distil restart" in message
    assert "learning_rate" not in message
    assert contents(workspace) == before
    assert restart(workspace, VERSIONS) == [0, 1, 2]


@pytest.mark.parametrize(
    ("setting", "value", "none"),
    [
        ("context.chat_template_kwargs", {"enable_thinking": False}, {}),
        ("context.strip_thinking", ["history"], []),
    ],
)
def test_extend_refuses_another_form_of_chat(
    workspace: Workspace, setting: str, value: Any, none: Any
) -> None:
    change(workspace, "base", {"kind": "pretrained", "path_or_id": "model"})
    change(workspace, "context.chat", True)
    restart(workspace, VERSIONS)
    frozen = workspace.frozen_params_file(0).read_text(encoding="utf-8")
    # Where it is not set it is not written, as in iterations frozen before there was such a thing.
    assert setting.partition(".")[2] not in frozen
    change(workspace, setting, value)
    with pytest.raises(ConfigError, match=rf"{setting}.*distil restart"):
        extend(workspace, VERSIONS)
    change(workspace, setting, none)
    change(workspace, "context.strip_thinking", ["attempt"])
    assert extend(workspace, VERSIONS) == [3]


def test_extend_with_another_number_of_samples(workspace: Workspace) -> None:
    """pass@k for k up to the fewest can be compared; a margin on another score never could."""
    restart(workspace, VERSIONS)
    change(workspace, "evaluate.num_samples", 16)
    for score in ("pass_at_16", "majority_at_16"):
        change(workspace, "gate.margins", {"pass_at_1": 0.02, score: 0.03})
        with pytest.raises(ConfigError, match=rf"{score}.*evaluated with 8 samples.*up to 8"):
            extend(workspace, VERSIONS)
    change(workspace, "gate.margins", {"pass_at_1": 0.02, "pass_at_8": 0.03})
    assert extend(workspace, VERSIONS) == [3]
    change(workspace, "evaluate.num_samples", 4)
    change(workspace, "gate.margins", {"pass_at_4": 0.02})
    assert extend(workspace, VERSIONS) == [4]
    change(workspace, "evaluate.num_samples", 8)
    change(workspace, "gate.margins", {"pass_at_8": 0.02})
    with pytest.raises(ConfigError, match="evaluated with 4 samples"):
        extend(workspace, VERSIONS)


def test_extend_with_longer_contexts_of_the_expert(workspace: Workspace) -> None:
    """The student's are the same where no rule shortens its prompt."""
    restart(workspace, VERSIONS)
    change(workspace, "context.max_context_tokens", 90)
    change(workspace, "context.shorten", [{"field": "attempt", "keep": "end"}])
    assert extend(workspace, VERSIONS) == [3]


def test_a_message_shows_the_settings_that_differ(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    change(workspace, "base.batch_size", 64)
    with pytest.raises(ConfigError) as refused:
        extend(workspace, VERSIONS)
    assert "(base.batch_size: 128 → 64)" in str(refused.value)
    assert "warmup_steps" not in str(refused.value)


@pytest.mark.parametrize("command", [extend, restart])
def test_impossible_settings_change_nothing(workspace: Workspace, command: Any) -> None:
    restart(workspace, VERSIONS)
    change(workspace, "train.batch_rollouts", 3)
    before = contents(workspace)
    with pytest.raises(ConfigError, match=r"params\.yaml: .*multiple of"):
        command(workspace, VERSIONS)
    assert contents(workspace) == before


def test_numbers_end_at_999(workspace: Workspace) -> None:
    restart(workspace, VERSIONS)
    with pytest.raises(ConfigError, match=r"up to 999.* number 1000"):
        extend(workspace, VERSIONS, count=998)
    change(workspace, "num_iterations", 1000)
    with pytest.raises(ConfigError, match=r"up to 999"):
        restart(workspace, VERSIONS)
    assert existing_iterations(workspace) == [0, 1, 2]


@pytest.mark.parametrize(
    ("find", "replace"),
    [
        ('"001"', "001"),
        ('"001"', '"007"'),
        ("evaluations:", "others:"),
        ("iterations:\n", "iterations:\n  - ["),
    ],
)
def test_a_damaged_list_is_refused(workspace: Workspace, find: str, replace: str) -> None:
    restart(workspace, VERSIONS)
    text = workspace.iterations_file.read_text()
    workspace.iterations_file.write_text(text.replace(find, replace))
    with pytest.raises(ConfigError, match=r"(?s)iterations\.yaml.*git checkout iterations\.yaml"):
        existing_iterations(workspace)
    workspace.iterations_file.unlink()
    with pytest.raises(ConfigError, match=r"no iterations\.yaml"):
        existing_iterations(workspace)


def test_a_champion_as_expert_has_to_be_kept(workspace: Workspace) -> None:
    change(workspace, "gate.on_regression", "continue")
    change(workspace, "tabulate.expert.options.weights", "champion")
    with pytest.raises(ConfigError, match=r"gate of iteration 1 hands on another one .*Set gate.k"):
        restart(workspace, VERSIONS)
    change(workspace, "gate.keep_champion", True)
    restart(workspace, VERSIONS)
    policies = listing(workspace)["iterations"]
    assert policies["001"]["expert_policy"] == "data/policy-000"
    assert policies["002"]["expert_policy"] == "data/iterations/001/handover"
    assert listing(workspace)["evaluations"]["000"]["expert_policy"] == "data/policy-000"
    # Where no other policy is handed over, the champion is what is.
    change(workspace, "gate.keep_champion", False)
    change(workspace, "gate.on_regression", "keep")
    restart(workspace, VERSIONS)


def test_parents_and_experts(workspace: Workspace) -> None:
    assert parent_iteration(3) == 2
    with pytest.raises(ConfigError, match="iteration 0 has no parent"):
        parent_iteration(0)
    restart(workspace, VERSIONS)
    expert = load_iteration_params(workspace, 2).tabulate.expert
    assert expert_dependency(workspace, 2, expert) == "data/policy-000"
    change(workspace, "tabulate.expert.options.weights", "snapshot")
    extend(workspace, VERSIONS)
    third = load_iteration_params(workspace, 3)
    assert expert_dependency(workspace, 3, third.tabulate.expert) == "data/iterations/002/handover"
    assert sampling_expert_dir(workspace, 3, third.tabulate.expert) == workspace.handover_dir(2)
