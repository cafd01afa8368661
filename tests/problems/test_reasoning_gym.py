"""Real generators of the reasoning-gym library, where it is installed."""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import ConfigError, DataError, VerifierError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, ProblemSource
from distil_core.problems.splits import make_splits
from distil_core.problems.store import read_problems, write_problems
from distil_core.testing.junk import JUNK
from distil_core.verifiers import build_verifier
from distil_core.verifiers._scoring_process import ScoringProcess
from distil_core.verifiers.base import Verifier

library = pytest.importorskip("reasoning_gym", reason="the extra reasoning-gym is not installed")


OPEN: list[Verifier] = []


def version() -> str:
    import importlib.metadata

    return importlib.metadata.version("reasoning-gym")


def source(dataset: str, **config: Any) -> ProblemSource:
    options = {"dataset": dataset, "version": version(), "config": config}
    return PROBLEM_SOURCES.build("reasoning_gym", options)


@cache
def verifier(reveal: str = "nothing", **options: Any) -> Verifier:
    """Each is built once, since it starts a process; all are closed at the end."""
    component = Component(name="reasoning_gym", options=options)
    built = build_verifier(ConsultParams(verifier=component, reveal=reveal))
    OPEN.append(built)
    return built


@pytest.fixture(scope="module", autouse=True)
def close_verifiers() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def test_splits_are_disjoint_and_the_same_again(tmp_path: Path) -> None:
    sizes = {"eval": 40, "train": 600, "warm_start": 0}
    splits = make_splits(source("chain_sum", max_terms=3), sizes, seed=1)
    assert splits == make_splits(source("chain_sum", max_terms=3), sizes, seed=1)
    assert splits != make_splits(source("chain_sum", max_terms=3), sizes, seed=2)
    assert len({problem.prompt for part in splits.values() for problem in part}) == 640
    write_problems(tmp_path / "eval.parquet", splits["eval"], {})
    assert read_problems(tmp_path / "eval.parquet") == splits["eval"]


@pytest.mark.parametrize("dataset", ["chain_sum", "leg_counting", "word_ladder", "sudoku"])
def test_a_generators_own_rule_judges(dataset: str) -> None:
    for problem in islice(source(dataset).problems("train", 1), 3):
        right = verifier().verify(
            problem, f"So <answer>x</answer><answer>{problem.reference}</answer>"
        )
        assert (right.reward, right.verdict, right.feedback) == (1.0, "correct", ())
        wrong = verifier().verify(problem, "<answer>zzz</answer>")
        assert (wrong.reward < 1, wrong.verdict) == (True, "wrong")
        assert "scores 0.0" in wrong.feedback[0].text
        assert problem.reference not in wrong.feedback[0].text
        shown = verifier("expected_outputs").verify(problem, "<answer>zzz</answer>")
        assert "An answer that scores 1 is" in shown.feedback[0].text


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("2", "has no <answer>"),
        ("<answer>2", "has no <answer>"),
        ("2</answer>", "has no <answer>"),
        ("<answer> </answer>", "is empty"),
        (f"<answer>{'2' * 10_001}</answer>", "longer than 10000"),
        ("<answer>1e99999999</answer>", "a number that is too large"),
        ("<think><answer>2</answer></think>", "has no <answer>"),
        ("<answer>two</answer>", "not in the form"),
    ],
)
def test_what_is_malformed(response: str, said: str) -> None:
    problem = next(source("prime_factorization").problems("train", 1))
    found = verifier().verify(problem, response)
    assert (found.reward, found.verdict) == (0.0, "malformed")
    assert said in found.feedback[0].text


def usable_generators() -> list[str]:
    from reasoning_gym.factory import DATASETS

    return sorted(set(DATASETS) - {"composite"})


@pytest.mark.parametrize("dataset", usable_generators())
def test_no_generator_accepts_junk(dataset: str) -> None:
    judge = verifier(cpu_limit_s=2.0)
    try:
        problem = next(source(dataset).problems("train", 1))
    except (ConfigError, DataError):
        return  # refused as a whole
    own = problem.reference.strip().lower()
    for junk in JUNK:
        result = judge.verify(problem, f"<answer>{junk}</answer>")
        is_own = junk.lower() == own or (_float(junk) is not None and _float(junk) == _float(own))
        assert result.verdict != "correct" or is_own, (junk, problem.reference)
        for item in result.feedback:
            item.text.encode("utf-8")
    assert judge.verify(problem, f"<answer>{problem.reference}</answer>").verdict == "correct"


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def test_an_answer_that_costs_too_much_to_score_is_malformed_and_hangs_nothing() -> None:
    """What the guard in front of the rule keeps from it, given to the process as it is."""
    problem = next(source("coin_flip").problems("train", 1))
    metadata = json.loads(problem.metadata)
    process = ScoringProcess(cpu_limit_s=1.0, memory_limit_bytes=4 << 30)
    arguments = ("coin_flip", json.dumps(metadata["config"]), metadata["entry"])
    assert process.score(*arguments, "1e99999999") == "too_costly"
    assert process.score(*arguments, problem.reference) == 1.0
    assert process.score(*arguments, "x") == 0.0
    process.close()
    process.close()


def test_a_rule_that_fails_on_its_own_answer_is_no_fault_of_the_response() -> None:
    problem = next(source("prime_factorization").problems("train", 1))
    metadata = json.loads(problem.metadata)
    metadata["entry"]["answer"] = "two"
    damaged = Problem(problem.prompt, problem.reference, json.dumps(metadata))
    with pytest.raises(VerifierError, match="cannot score the problem's own answer"):
        verifier().verify(damaged, "<answer>two</answer>")


def test_problems_are_checked_before_anything_is_sampled() -> None:
    judge = verifier()
    judge.check_problem(next(source("chain_sum").problems("train", 1)))
    for metadata in ("{}", "[" * 10**5, "no JSON", '{"dataset": 1, "config": {}, "entry": {}}'):
        with pytest.raises(VerifierError, match="is none of the source reasoning_gym"):
            judge.check_problem(Problem("?", "2", metadata))


def test_the_whole_response_as_answer() -> None:
    problem = next(source("chain_sum").problems("train", 1))
    found = verifier(answer="response").verify(problem, f" {problem.reference}\n")
    assert found.verdict == "correct"


@pytest.mark.parametrize(
    "dataset", ["countdown", "puzzle24", "polynomial_multiplication", "n_queens"]
)
def test_rules_that_would_run_an_answer_are_refused(dataset: str) -> None:
    with pytest.raises(ConfigError, match=r"scores answers with (parse_expr|eval), which can run"):
        next(source(dataset).problems("train", 1))
    metadata = {"dataset": dataset, "config": {}, "entry": {"answer": "1", "metadata": {}}}
    problem = Problem("?", "1", json.dumps(metadata))
    with pytest.raises(ConfigError, match="which can run them as code"):
        verifier().verify(problem, "<answer>__import__('os').getpid()</answer>")


def test_the_documentation_names_all_that_are_refused() -> None:
    from reasoning_gym.factory import DATASETS

    from distil_core.problems.reasoning_gym_library import require_that_answers_do_not_run

    refused = set()
    for name, (kind, _) in DATASETS.items():
        try:
            require_that_answers_do_not_run(name, kind)
        except ConfigError:
            refused.add(name)
    text = (Path(__file__).parents[2] / "docs" / "problem-sources.md").read_text(encoding="utf-8")
    section = text[text.index("these are `binary_matrix`") : text.index("A few others have")]
    assert refused == set(re.findall("`(.*?)`", section))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("arc_agi", "does not accept its own answer"),
        ("game_of_life_halting", "accepts any answer"),
        ("graph_color", "gives no answer as text"),
    ],
)
def test_generators_that_cannot_be_used_say_so(dataset: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(islice(source(dataset).problems("train", 1), 3))


@pytest.mark.parametrize(
    ("dataset", "config", "message"),
    [
        ("no_such", {}, "no generator 'no_such'; known: .*chain_sum"),
        ("chain_sum", {"terms": 3}, "does not take the settings .*terms"),
        ("chain_sum", {"min_terms": 9, "max_terms": 2}, "does not take the settings"),
        ("chain_sum", {"seed": 3}, "seed of the generator come from the campaign's seed"),
    ],
)
def test_settings_that_no_generator_takes(
    dataset: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        next(source(dataset, **config).problems("train", 1))


def test_another_version_is_refused() -> None:
    options = {"dataset": "chain_sum", "version": "0.0.1"}
    with pytest.raises(ConfigError, match=r"is installed, the settings say 0\.0\.1"):
        next(PROBLEM_SOURCES.build("reasoning_gym", options).problems("train", 1))


def test_a_problem_of_another_source_has_no_verdict() -> None:
    with pytest.raises(VerifierError, match="is none of the source reasoning_gym"):
        verifier().verify(Problem("1+1", "2"), "<answer>2</answer>")
