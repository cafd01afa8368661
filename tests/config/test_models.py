"""Every setting that is wrong, and every combination that cannot work, is refused (1 s)."""

import math
import re
from typing import Any

import pytest
from pydantic import ValidationError

from distil_core.campaign.load import parse_iteration_params, parse_params
from distil_core.errors import ConfigError


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`settings` with dotted keys set, or removed where the value is `...`."""
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section: Any = settings
        for parent in parents:
            section = section[int(parent)] if isinstance(section, list) else section[parent]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return settings


def message(settings: dict[str, Any], changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_params(changed(settings, changes), "params.yaml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", "many", "seed: expected a whole number.*found 'many'"),
        ("seed", -1, "seed: .*greater than or equal to 0.*found -1"),
        ("seed", 2**63, "seed: .*less than"),
        ("campaign", "Chain Arithmetic", "campaign: .*pattern.*found 'Chain Arithmetic'"),
        ("campaign", "../x", "campaign: .*pattern"),
        ("num_iterations", 0, "num_iterations: .*greater than 0.*found 0"),
        ("compute.device", "tpu", "compute.device: .*'cpu' or 'cuda'.*found 'tpu'"),
        ("compute.num_threads", ..., "compute.num_threads: .*required, and missing"),
        ("problems.num_train", 1.5, "problems.num_train: .*found 1.5"),
        ("problems.source", "chain_arithmetic", "problems.source: .*found 'chain_arithmetic'"),
        ("base.kind", "distilled", "base: .*from_scratch"),
        ("base.phases", [], "base.phases: .*at least 1"),
        ("base.phases.0.correction_fraction", 1.2, "correction_fraction: .*less than or equal"),
        (
            "context.expert_template",
            3,
            "context.expert_template: expected text or a list, found 3: write it in quotes",
        ),
        ("context.max_context_tokens", None, "context.max_context_tokens: .*found null"),
        ("sample", [], "sample: expected a mapping"),
        ("sample.temperature", 0, "sample.temperature: .*greater than 0"),
        ("sample.temperature", math.nan, "sample.temperature: .*found nan"),
        ("sample.temperature", math.inf, "sample.temperature: .*finite.*found inf"),
        ("sample.top_p", 0, "sample.top_p: .*greater than 0"),
        ("sample.top_p", 1.01, "sample.top_p: .*less than or equal to 1"),
        ("consult.reveal", "everything", "consult.reveal: .*found 'everything'"),
        ("tabulate.top_k", 0, "tabulate.top_k: "),
        ("train.learning_rate", math.inf, "train.learning_rate: .*finite"),
        ("train.weight_decay", -0.1, "train.weight_decay: "),
        ("train.max_grad_norm", 0, "train.max_grad_norm: "),
        ("evaluate.num_bootstrap", 99, "evaluate.num_bootstrap: .*100"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found(
    settings: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    assert re.match(f"params.yaml: .*{expected}", message(settings, {key: value}))


@pytest.mark.parametrize(
    "key", ["sed", "compute.threads", "train.objective.weight", "base.architecture.layers"]
)
def test_an_unknown_key_is_refused(settings: dict[str, Any], key: str) -> None:
    text = message(settings, {key: 1})
    assert key.rpartition(".")[2] in text
    assert "no such setting (found 1)" in text


def test_all_wrong_settings_are_said_at_once(settings: dict[str, Any]) -> None:
    text = message(settings, {"seed": "x", "train.num_steps": 0, "evaluate.tops": 1})
    assert text.count("; ") == 2


JUDGEMENT = {
    "template": "{prompt}{attempt}",
    "correct_pattern": "yes",
    "on_disagreement": "keep",
    "max_new_tokens": 32,
    "temperature": 1.0,
    "top_p": 1.0,
}
PRETRAINED = {"kind": "pretrained", "path_or_id": "some/model"}
WARM_START = {"phases": [{"num_steps": 1, "correction_fraction": 0.5}], "learning_rate": 1e-5}
IMPOSSIBLE = {
    "heads that do not divide": (
        {"base.architecture.num_heads": 5},
        "hidden_size 64 must be an even multiple of num_heads 5",
    ),
    "odd head size": ({"base.architecture.num_heads": 64}, "even head size"),
    "more prompts than problems": (
        {"problems.num_train": 383},
        "sample.num_prompts 384 exceeds problems.num_train 383",
    ),
    "split groups": (
        {"train.batch_rollouts": 126},
        "train.batch_rollouts 126 must be a multiple of sample.num_rollouts 4",
    ),
    "a batch larger than an iteration": (
        {"sample.num_prompts": 31},
        "train.batch_rollouts 128 exceeds the 124 rollouts of an iteration",
    ),
    "warm start on nothing": (
        {"problems.num_warm_start": 0},
        "from_scratch needs problems.num_warm_start > 0",
    ),
    "more corrections than problems": (
        {"base.num_corrections": 8193},
        "base.num_corrections 8193 exceeds problems.num_warm_start 8192",
    ),
    "a warm start on nothing": (
        {"base": {**PRETRAINED, "warm_start": WARM_START}, "problems.num_warm_start": 0},
        "base.warm_start needs problems.num_warm_start > 0",
    ),
    "contexts beyond the model": (
        {"base.architecture.max_positions": 103},
        "base.architecture.max_positions 103 is less than 104, context.max_context_tokens 96",
    ),
    "an evaluation beyond the model": (
        {"evaluate.max_new_tokens": 33},
        "base.architecture.max_positions 128 is less than 129",
    ),
    "an unpinned download": (
        {"base": {**PRETRAINED, "allow_download": True}},
        "base: allow_download needs a revision",
    ),
    "a warm-up longer than the steps": (
        {"train.warmup_steps": 49},
        "train.warmup_steps 49 exceeds train.num_steps, 48: ",
    ),
    "a base's warm-up longer than its phases": (
        {"base.warmup_steps": 601},
        "base.warmup_steps 601 exceeds the steps of all base.phases, 600: ",
    ),
    "a part larger than the whole": (
        {"train.micro_batch_rollouts": 129},
        "train.micro_batch_rollouts 129 exceeds train.batch_rollouts 128",
    ),
    "decisions of an expert that nothing reads": (
        {
            "train.objective": {"name": "grpo", "options": {}},
            "train.decisions": {"select": "random", "share": 0.2},
        },
        "train.decisions selects where the expert is listened to, and train.objective grpo",
    ),
    "marks that nobody makes": (
        {"train.decisions": {"select": "marked"}},
        "there is no context.environment: choose another selection",
    ),
    "credit for turns that there are none of": (
        {"train.objective": {"name": "grpo", "options": {"credit": "turn"}}},
        "train.objective 'grpo' reads rewards of single turns",
    ),
    "a blend's credit for turns that there are none of": (
        {
            "train.objective": {
                "name": "blend",
                "options": {"reward_weight": 0.5, "grpo_options": {"credit": "turn"}},
            }
        },
        "train.objective 'blend' reads rewards of single turns",
    ),
    "a share of what is kept as a whole": (
        {"train.decisions": {"select": "marked", "share": 0.2}},
        "share is given exactly when select is not 'marked'",
    ),
    "a peer of nobody": (
        {
            "consult.peer_solution": True,
            "sample.num_rollouts": 1,
            "train.objective": {"name": "behaviour_cloning", "options": {}},
        },
        "consult.peer_solution needs another rollout",
    ),
    "corrections that no phase reads": (
        {"base.num_corrections": 8, "base.phases.0.correction_fraction": 0.0},
        "base.num_corrections 8 makes corrections, and no phase",
    ),
    "a rule for a field that is nowhere": (
        {"context.shorten": [{"field": "peer_solution", "keep": "end"}]},
        "context.shorten names peer_solution, which is in no template",
    ),
    "a judgement beyond the model": (
        {"consult.self_evaluation": {**JUDGEMENT, "max_new_tokens": 33}},
        "base.architecture.max_positions 128 is less than 129",
    ),
    "a baseline without a group": (
        {"sample.num_rollouts": 1},
        "'forward_cross_entropy' compares rollouts of one prompt, as its options are: sample.num_",
    ),
    "a group of one for GRPO": (
        {"sample.num_rollouts": 1, "train.objective": {"name": "grpo", "options": {}}},
        "train.objective 'grpo' compares rollouts of one prompt",
    ),
    "the objective's own baseline without a group": (
        {"sample.num_rollouts": 1, "train.objective.options": {}},
        "train.objective 'forward_cross_entropy' compares rollouts",
    ),
    "a constant that is not used": (
        {"train.objective.options.loss_constant": 3.0},
        "objective 'forward_cross_entropy': loss_constant is given exactly when",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_combination_is_refused(settings: dict[str, Any], name: str) -> None:
    changes, expected = IMPOSSIBLE[name]
    text = message(settings, changes)
    assert expected in text
    assert text.startswith("params.yaml: ")
    assert len(text) < 400, "a message must not recite the whole file"


@pytest.mark.parametrize(
    "changes",
    [
        {"train.batch_rollouts": 4 * 384},
        {"problems.num_train": 384},
        {"base.architecture.max_positions": 104},
        {"compute.device": "cuda", "compute.dtype": "bfloat16"},
        {"compute.dtype": "bfloat16"},
        {"base": {**PRETRAINED, "warm_start": WARM_START}},
        {"base": PRETRAINED, "problems.num_warm_start": 0},
        {"base": {**PRETRAINED, "allow_download": True, "revision": "0123abc"}},
        {"sample.num_rollouts": 1, "train.objective.options": {"baseline": "none"}},
        {"train.max_grad_norm": math.inf},
        {"train.warmup_steps": 48, "base.warmup_steps": 600},
        {"train.micro_batch_rollouts": 128},
        {"train.decisions": {"select": "disagreement", "share": 1.0}},
        {"consult.self_evaluation": JUDGEMENT},
        {"context.shorten": [{"field": "attempt", "keep": "end"}]},
    ],
)
def test_the_edges_of_what_is_possible(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    parse_params(changed(settings, changes), "params.yaml")


def test_settings_are_frozen(settings: dict[str, Any]) -> None:
    params = parse_params(settings, "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.train.num_steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"iteration": 1000, "stage_versions": {}}, "iteration: .*999"),
        ({"iteration": 1, "stage_versions": {"train": 0}}, "stage_versions.train: "),
        ({"iteration": 1}, "stage_versions: .*required"),
        ({"stage_versions": {}}, "iteration: .*required"),
    ],
)
def test_a_frozen_iteration_needs_its_place_and_versions(
    settings: dict[str, Any], extra: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_iteration_params({**settings, **extra}, "iterations/001.yaml")
