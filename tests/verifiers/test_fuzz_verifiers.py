"""Any text gets a verdict from every verifier: fixed seeds here, fresh ones by the command
`python -m benchmarks.fuzz_verifiers`."""

import shutil
from itertools import islice

import pytest

from benchmarks.fuzz_verifiers import Case, broken_by, cases, findings, responses
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import FeedbackItem, Verification, Verifier

SEEDS = (1, 2, 3)
NUM_RESPONSES = 300


@pytest.fixture(scope="module")
def all_cases() -> dict[str, Case]:
    return cases()


def test_every_verifier_of_the_registry_has_a_case(all_cases: dict[str, Case]) -> None:
    assert sorted(all_cases) == VERIFIERS.names()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VERIFIERS.names())
def test_any_response_gets_a_verdict_that_can_be_kept(
    all_cases: dict[str, Case], name: str, seed: int
) -> None:
    case = all_cases[name]
    if not case.problems:
        pytest.skip("the extra reasoning-gym is not installed")
    if case.needs_sandbox and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: no code of a response can be run")
    found = list(findings(name, case, seed, NUM_RESPONSES))
    assert not found, [(one.what, one.reference, one.response[:300]) for one in found]


@pytest.mark.parametrize(
    ("name", "response"),
    [
        # Kept as they were written, with what no table can store.
        ("math_answer", "</tool_call>\udfff\\SI{"),
        ("math_answer", "<tool_call>i\u207b\u2212photons_\ud800)</tool_call>"),
        ("reasoning_gym", "<answer>\ud800</answer>"),
        # pint raised on these, each in another way.
        ("quantity", "\\boxed{0\u00bc}"),
        ("quantity", "\\boxed{5\u2460}"),
        ("quantity", "\\boxed{5 dB^2}"),
        ("quantity", "\\boxed{5 hbar^-12}"),
        # Once quadratic.
        ("tool_calls", "```\n" + " \t" * 45_000),
    ],
)
def test_what_the_fuzz_found_once(all_cases: dict[str, Case], name: str, response: str) -> None:
    case = all_cases[name]
    if not case.problems:
        pytest.skip("the extra reasoning-gym is not installed")
    verifier = VERIFIERS.build(name, case.options, reveal="nothing")
    try:
        for problem in case.problems:
            assert broken_by(verifier, problem, response) is None
    finally:
        verifier.close()


def test_the_same_seed_makes_the_same_responses() -> None:
    one, same, other = (list(islice(responses(seed, ["5 m"]), 200)) for seed in (1, 1, 2))
    assert one == same != other
    assert max(map(len, one)) > 50_000
    assert any("\ud800" in text for text in islice(responses(1, []), 2000))


class Broken(Verifier):
    """One fault for each response that it knows."""

    def verify(self, problem: Problem, response: str) -> Verification:
        told = (FeedbackItem("tool_output", "no"),)
        if response == "raises":
            return Verification(float("x"), "wrong", told)
        while response == "hangs":
            pass
        return {
            "unstorable": Verification(0.0, "wrong", (FeedbackItem("tool_output", "\ud800"),)),
            "long": Verification(0.0, "wrong", told, answer="x" * 10_000),
            "silent": Verification(0.0, "wrong", ()),
            "nan": Verification(float("nan"), "wrong", told),
            "right": Verification(1.0, "correct", ()),
        }[response]


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        ("raises", "ValueError: could not convert"),
        ("hangs", "no verdict within 0.2 s of CPU time"),
        ("unstorable", "what cannot be stored"),
        ("long", "a long answer is kept"),
        ("silent", "no feedback"),
        ("nan", "the reward nan, wrong"),
    ],
)
def test_the_fuzz_sees_each_fault(
    monkeypatch: pytest.MonkeyPatch, response: str, fault: str
) -> None:
    monkeypatch.setattr("benchmarks.fuzz_verifiers.CPU_LIMIT_S", 0.2)
    found = broken_by(Broken(), Problem("?", ""), response)
    assert found is not None
    assert found.startswith(fault)
    assert broken_by(Broken(), Problem("?", ""), "right") is None
