"""Every tool of ours keeps the contract that others' are checked by, and its checks find what is
wrong."""

from pathlib import Path

import pytest

from distil_core.testing import Check, run_checks, tool_checks

CALL = '{"name": "calculator", "arguments": {"expression": "1"}}'
CALCULATOR = tool_checks("calculator", {}, [CALL])
PYTHON = tool_checks("python", {}, ['{"name": "python", "arguments": {"code": "x = 1\\nx"}}'])


@pytest.mark.parametrize("check", [*CALCULATOR, *PYTHON], ids=str)
def test_contract(check: Check) -> None:
    check()


FUNCTIONS = "it says what can be called, each with a description and a schema"
ANSWERS = "no call makes it raise, and each has a result of text"
DEFECTS = {
    "": {},
    "nothing": {FUNCTIONS: "it has no functions"},
    "silent": {FUNCTIONS: "nothing is said about 'count'"},
    "no object": {FUNCTIONS: "parameters of 'count' are of type 'string'"},
    "no schema": {FUNCTIONS: "'count': 7 is not of type 'array'"},
    "remembers": {"the same calls give the same results in the next rollout": "after another"},
    "raises": {ANSWERS: "count({\"text\": \"nan\"}) raised ValueError: nan"},
    "lies": {ANSWERS: "the text is 7"},
    "unknown kind": {ANSWERS: "feedback holds FeedbackItem(kind='gossip'"},
    "closes once": {"it can be closed twice, and started after it": "_num_calls"},
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_and_named(monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    results = run_checks(tool_checks("lab_tools.broken", {"defect": defect}))
    failed = {str(result.check): result.detail for result in results if result.outcome == "failed"}
    for check, said in DEFECTS[defect].items():
        assert said in failed[check]
    assert bool(failed) == bool(defect)
