from itertools import islice
from typing import Any

import numpy as np
import pytest

from distil_core.errors import VerifierError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

# 3 + 5 + 1 + 4 + 6 = 19; modulo 7 the running sums are 1, 2, 6, 5.
PROBLEM = Problem(prompt="35146=", reference="w1265")


def source(**changed: Any) -> Any:
    options = {
        "num_digits": 5,
        "modulus": 7,
        "expert_direct_probability": 0.7,
        "demonstrator_direct_probability": 0.5,
        "demonstrator_slip_probability": 0.2,
        **changed,
    }
    return PROBLEM_SOURCES.build("worked_or_direct", options)


def verify(response: str, reveal: str = "nothing") -> Verification:
    verifier = VERIFIERS.build("worked_or_direct", {"modulus": 7}, reveal=reveal)
    verification: Verification = verifier.verify(PROBLEM, response)
    return verification


def test_references_are_worked_out_and_right() -> None:
    drawn = list(islice(source().problems("train", 3), 50))
    assert drawn == list(islice(source().problems("train", 3), 50))
    verifier = VERIFIERS.build("worked_or_direct", {"modulus": 7}, reveal="nothing")
    for problem in drawn:
        assert problem.reference[0] == "w"
        assert int(problem.reference[-1]) == sum(map(int, problem.prompt[:-1])) % 7
        assert verifier.verify(problem, problem.reference).reward == 1.0


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("w1265", "correct"),
        ("d3515", "correct"),
        ("w1264", "wrong"),
        ("d3514", "wrong"),
        ("w126", "malformed"),
        ("w12655", "malformed"),
        ("31265", "malformed"),
        ("w1275", "malformed"),
        ("", "malformed"),
    ],
)
def test_verdicts(response: str, verdict: str) -> None:
    assert verify(response).verdict == verdict


@pytest.mark.parametrize(
    ("attempt", "labels"),
    [
        ("", "w"),
        ("w", "w1"),
        # A wrong running sum is added to as it is: 4 + 1, then 5 + 4.
        ("w4", "w15"),
        ("w452", "w1521"),
        ("w1265", "w1265"),
        ("d", "w3"),
        ("d3514", "w3515"),
        ("x12", "w126"),
    ],
)
def test_labels_follow_the_attempt(attempt: str, labels: str) -> None:
    assert source().oracle_characters(PROBLEM, attempt) == labels


def test_the_trace_of_a_direct_attempt_holds_the_total_only_where_revealed() -> None:
    assert verify("d3514").feedback[0].text == "w351"
    assert verify("d3514", "expected_outputs").feedback[0].text == "w3515"
    assert verify("w4521").feedback[0].text == "w1521"


def test_the_expert_chooses_at_first_and_is_sure_from_then_on() -> None:
    first, *later = source().oracle_distributions(PROBLEM, "d3514")
    assert first == pytest.approx({"d": 0.7, "w": 0.3})
    assert later == [{"3": 1.0}, {"5": 1.0}, {"1": 1.0}, {"5": 1.0}, {"": 1.0}]
    overlong = source().oracle_distributions(PROBLEM, "w126543")
    assert len(overlong) == 8
    assert overlong[5:] == [{"": 1.0}] * 3


def test_demonstrations_slip_when_working_and_guess_when_direct() -> None:
    assert isinstance(source(), SupervisedSource)
    random = np.random.default_rng(0)
    worked = source(demonstrator_direct_probability=0.0)
    right = [worked.demonstration(PROBLEM, random) == "w1265" for _ in range(1000)]
    assert 0.36 < np.mean(right) < 0.46  # 0.8^4
    direct = source(demonstrator_direct_probability=1.0)
    texts = {direct.demonstration(PROBLEM, random) for _ in range(200)}
    assert texts == {f"d351{last}" for last in range(7)}
    lengths = {len(worked.corrupted_attempt(PROBLEM, random)) for _ in range(500)}
    assert lengths == {4, 5, 6}


@pytest.mark.parametrize(
    "problem",
    [Problem("1x2=", "w24"), Problem("", ""), Problem("112=", "w25"), Problem("112=", "")],
)
def test_a_problem_of_another_source_has_no_verdict(problem: Problem) -> None:
    verifier = VERIFIERS.build("worked_or_direct", {"modulus": 7}, reveal="nothing")
    verifier.check_problem(Problem("112=", "w24"))
    with pytest.raises(VerifierError, match="is not of modulus 7"):
        verifier.check_problem(problem)
    with pytest.raises(VerifierError, match="is not of modulus 7"):
        verifier.verify(problem, "w24")
