import json
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest

from distil_core.errors import ConfigError, VerifierError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

SITUATIONS = [
    {"probability": 0.75, "accepted": [0, 1], "expert_masses": [0.9, 0.0, 0.1]},
    {"probability": 0.25, "accepted": [2], "expert_masses": [0.0, 0.2, 0.8]},
]


def options(**changed: Any) -> dict[str, Any]:
    return {"situations": SITUATIONS, "demonstrator_masses": [0.5, 0.5, 0.0], **changed}


def problems(number: int, seed: int = 1) -> list[Problem]:
    return list(
        islice(PROBLEM_SOURCES.build("multiple_choice", options()).problems("eval", seed), number)
    )


def verify(problem: Problem, response: str, reveal: str = "nothing") -> Verification:
    verification: Verification = VERIFIERS.build("multiple_choice", {}, reveal=reveal).verify(
        problem, response
    )
    return verification


def test_the_stream_depends_on_seed_and_split_alone() -> None:
    assert problems(20) == problems(20)
    assert problems(20) != problems(20, seed=2)


def test_situations_come_as_often_as_they_say_and_stay_out_of_the_prompt() -> None:
    drawn = problems(2000)
    first = [p for p in drawn if json.loads(p.metadata)["accepted"] == "01"]
    assert 0.72 < len(first) / len(drawn) < 0.78
    # A letter of the prompt tells nothing of the situation.
    with_a = [p for p in drawn if "a" in p.prompt]
    assert abs(sum(p in first for p in with_a) / len(with_a) - 0.75) < 0.1


def test_the_verifier_accepts_what_the_situation_accepts() -> None:
    problem = next(p for p in problems(50) if json.loads(p.metadata)["accepted"] == "01")
    verdicts = {text: verify(problem, text).verdict for text in ("0", "1", "2", "3", "", "00", "a")}
    assert verdicts == {
        "0": "correct",
        "1": "correct",
        "2": "wrong",
        "3": "malformed",
        "": "malformed",
        "00": "malformed",
        "a": "malformed",
    }
    assert verify(problem, "0").reward == 1.0
    assert verify(problem, problem.reference).verdict == "correct"


def test_feedback_names_accepted_slots_only_where_that_is_revealed() -> None:
    problem = next(p for p in problems(50) if json.loads(p.metadata)["accepted"] == "01")
    assert [item.text for item in verify(problem, "2").feedback] == ["wrong"]
    assert [item.text for item in verify(problem, "2", "expected_outputs").feedback] == ["01"]


def test_the_informed_expert_differs_by_situation_and_ends_after_one_digit() -> None:
    source = PROBLEM_SOURCES.build("multiple_choice", options())
    for problem in problems(20):
        accepted = json.loads(problem.metadata)["accepted"]
        first, *later = source.oracle_distributions(problem, "2?")
        assert first == ({"0": 0.9, "2": 0.1} if accepted == "01" else {"1": 0.2, "2": 0.8})
        assert later == [{"": 1.0}, {"": 1.0}]


def test_supervised_text_follows_the_demonstrator_not_the_situation() -> None:
    source = PROBLEM_SOURCES.build("multiple_choice", options())
    assert isinstance(source, SupervisedSource)
    random = np.random.default_rng(0)
    problem = problems(1)[0]
    counts = Counter(source.demonstration(problem, random) for _ in range(1000))
    assert set(counts) == {"0", "1"}
    assert 430 < counts["0"] < 570
    lengths = Counter(len(source.corrupted_attempt(problem, random)) for _ in range(1000))
    assert set(lengths) == {0, 1, 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"demonstrator_masses": [0.5, 0.6, 0.0]}, "demonstrator_masses: expected a sum of 1"),
        ({"demonstrator_masses": [0.5, 0.5]}, "names slot 2, but demonstrator_masses has 2"),
        ({"demonstrator_masses": [0.5, 0.5, 0, 0]}, "expected 4 slots, found 3"),
        ({"situations": SITUATIONS[:1]}, "probabilities: expected a sum of 1, found 0.75"),
    ],
)
def test_impossible_options_are_refused_with_the_place(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PROBLEM_SOURCES.build("multiple_choice", options(**changed))


@pytest.mark.parametrize(
    "metadata",
    [
        "{}",
        "no JSON",
        "[]",
        '{"accepted": ""}',
        '{"accepted": [0]}',
        '{"accepted": "3"}',
        "[" * 10**5,
    ],
)
def test_metadata_that_does_not_say_what_is_right_is_no_wrong_answer(metadata: str) -> None:
    verifier = VERIFIERS.build("multiple_choice", {}, reveal="nothing")
    verifier.check_problem(Problem("abc=", "0", '{"accepted": "02"}'))
    problem = Problem("abc=", "0", metadata)
    with pytest.raises(VerifierError, match="must name slots of its prompt"):
        verifier.check_problem(problem)
    with pytest.raises(VerifierError, match="must name slots of its prompt"):
        verifier.verify(problem, "0")
