"""Every built-in component keeps the contract that anybody's own is held to (80 s).

Those that need a server or rows of their own have their turn beside their other tests: black_box,
served, hugging_face, and the row formats.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fuzz_verifiers import Case, cases
from distil_core.engines import ENGINES
from distil_core.experts import EXPERTS
from distil_core.feedback.sources import SOURCES
from distil_core.objectives import OBJECTIVES
from distil_core.problems import PROBLEM_SOURCES
from distil_core.testing import (
    check_engine,
    check_expert,
    check_feedback_source,
    check_objective,
    check_problem_source,
    check_verifier,
)
from distil_core.verifiers import VERIFIERS

CHAIN = {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0.5}
OBJECTIVE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("behaviour_cloning", {}),
    ("blend", {"reward_weight": 0.5}),
    ("blend", {"reward_weight": 0.0, "distillation": "reverse_kl"}),
    ("forward_cross_entropy", {}),
    ("forward_cross_entropy", {"baseline": "none", "cost": "kl_divergence", "horizon": 2}),
    ("forward_cross_entropy", {"advantage_normalisation": "standard_deviation"}),
    ("forward_cross_entropy_over_turns", {"discount_per": "turn", "baseline_alignment": "turn"}),
    ("grpo", {"advantage_normalisation": "none"}),
    ("grpo", {}),
    ("grpo", {"credit": "turn", "turn_discount": 0.5}),
    ("blend", {"reward_weight": 0.5, "grpo_options": {"credit": "turn"}}),
    ("jensen_shannon", {"loss_normalisation": "tokens"}),
    ("reverse_kl", {}),
    ("sampled_reverse_kl", {}),
]
SOURCE_OPTIONS: dict[str, dict[str, Any]] = {
    "chain_arithmetic": CHAIN,
    "linear_expression": {"num_variables": 3, "demonstrator_slip_probability": 0.5},
    "multiple_choice": {
        "situations": [
            {"probability": 0.75, "accepted": [0, 1], "expert_masses": [0.9, 0.0, 0.1]},
            {"probability": 0.25, "accepted": [2], "expert_masses": [0.0, 0.2, 0.8]},
        ],
        "demonstrator_masses": [0.5, 0.5, 0.0],
    },
    "tool_sums": {
        "min_operations": 1,
        "max_operations": 3,
        "demonstrator_slip_probability": 0.5,
    },
    "unit_algebra": {"num_operations": 3, "demonstrator_slip_probability": 0.5},
    "worked_or_direct": {
        "num_digits": 5,
        "modulus": 7,
        "expert_direct_probability": 0.5,
        "demonstrator_direct_probability": 0.5,
        "demonstrator_slip_probability": 0.5,
    },
}
FEEDBACK_SOURCES: dict[str, dict[str, Any]] = {
    "peer_solution": {},
    "reference_correction": {},
    "self_evaluation": {
        "template": "{prompt} {attempt} right?",
        "correct_pattern": "yes",
        "on_disagreement": "note",
        "max_new_tokens": 4,
        "temperature": 1.0,
        "top_p": 1.0,
    },
    "verifier": {},
}
STORED_ROWS = ("hugging_face", "jsonl", "parquet")


@pytest.fixture(scope="module")
def verifier_cases() -> dict[str, Case]:
    return cases()


def test_each_component_has_its_turn(verifier_cases: dict[str, Case]) -> None:
    assert {name for name, _ in OBJECTIVE_OPTIONS} == {*OBJECTIVES.place.built_in_names()}
    assert {*verifier_cases} == {*VERIFIERS.place.built_in_names()}
    sources = {*SOURCE_OPTIONS, *STORED_ROWS, "reasoning_gym", "verifiers"}
    assert sources == {*PROBLEM_SOURCES.place.built_in_names()}
    assert [*FEEDBACK_SOURCES] == SOURCES.place.built_in_names()
    experts = ["black_box", "oracle", "program", "self", "served", "white_box"]
    assert EXPERTS.place.built_in_names() == experts
    assert ENGINES.place.built_in_names() == ["transformers", "vllm"]


@pytest.mark.parametrize(("name", "options"), OBJECTIVE_OPTIONS)
def test_objectives(name: str, options: dict[str, Any]) -> None:
    check_objective(name, options)


@pytest.mark.parametrize("name", VERIFIERS.place.built_in_names())
def test_verifiers(verifier_cases: dict[str, Case], name: str) -> None:
    case = verifier_cases[name]
    if not case.problems:
        pytest.skip("the extra reasoning-gym is not installed")
    if case.needs_sandbox and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: no code of a response can be run")
    check_verifier(name, case.options, case.problems, case.rights)


@pytest.mark.parametrize("name", SOURCE_OPTIONS)
def test_problem_sources(name: str) -> None:
    check_problem_source(name, SOURCE_OPTIONS[name])


def test_problem_source_of_reasoning_gym() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        pytest.skip("the extra reasoning-gym is not installed")
    version = importlib.metadata.version("reasoning-gym")
    check_problem_source("reasoning_gym", {"dataset": "chain_sum", "version": version})


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_problem_sources_of_stored_rows(tmp_path: Path, name: str) -> None:
    rows = [{"question": f"{n} + {n}?", "answer": str(2 * n), "n": n} for n in range(40)]
    path = tmp_path / f"rows.{name}"
    if name == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    file = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    named = {"prompt_field": "question", "reference_field": "answer", "eval_fraction": 0.4}
    check_problem_source(name, {"train": file, **named})


@pytest.mark.parametrize("name", FEEDBACK_SOURCES)
def test_feedback_sources(name: str) -> None:
    check_feedback_source(name, FEEDBACK_SOURCES[name])


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
def test_expert_self(layout: str) -> None:
    check_expert("self", {"weights": "frozen", "batch_size": 3, "layout": layout})


def test_expert_white_box(policy_dir: Path) -> None:
    check_expert("white_box", {"path": str(policy_dir), "batch_size": 3}, policy_dir=policy_dir)


def test_expert_oracle() -> None:
    source: dict[str, Any] = {"name": "chain_arithmetic", "options": CHAIN}
    problems = list(islice(PROBLEM_SOURCES.build(**source).problems("eval", 1), 2))
    check_expert("oracle", {"source": source, "label_smoothing": 0.1}, problems)


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
def test_engine_transformers(layout: str) -> None:
    check_engine("transformers", {"batch_size": 4, "layout": layout})


def test_engine_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    from distil_core.engines.vllm.pool import POOL

    options = {
        "mode": "in_process",
        "max_logprobs": 99,
        "max_num_sequences": 24,
        "max_batched_tokens": 256,
    }
    try:
        check_engine("vllm", options)
    finally:
        POOL.close()
