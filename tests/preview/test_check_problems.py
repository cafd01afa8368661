"""`distil check-problems` on rows of one's own, with verifiers that do and do not fit them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import DataError
from distil_core.preview.problem_checks import (
    ACCEPTED,
    EMPTY,
    EXPERT,
    SHUFFLED,
    STUDENT,
    ProblemReport,
    _shuffled,
    check_problems,
)
from distil_core.preview.settings import previewed_params
from distil_core.progress import no_progress
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parent))
from preview_scratch import Rows, sums, write_own_data

LENIENT = '''
from distil_core.verifiers.base import Verification, Verifier, VerifierOptions


class Options(VerifierOptions):
    """None."""


class Lenient(Verifier):
    is_bounded = True

    def verify(self, problem, response):
        return Verification(1.0, "correct", ())


def build(options, reveal):
    return Lenient()
'''


def letters(count: int = 20) -> Rows:
    return [
        {"question": f"Which is {n}?\n\nA: {n}\nB: {n + 1}\nC: {n + 2}", "answer": "ABC"[n % 3]}
        for n in range(count)
    ]


@pytest.fixture
def workspace(tmp_path: Path, tokenizer: Any, new_model: Callable[..., Any]) -> Workspace:
    from distil_core.policy.model import save_policy

    save_policy(new_model(), tokenizer, tmp_path / "model")
    return Workspace(tmp_path)


def check(workspace: Workspace, **how: Any) -> dict[str, Any]:
    report = report_of(workspace, **how)
    return {each.name: each for each in report.checks}


def report_of(workspace: Workspace, **how: Any) -> ProblemReport:
    scratch = workspace.root / "scratch"
    scratch.mkdir(exist_ok=True)
    return check_problems(previewed_params(workspace), scratch, no_progress, **how)


def test_rows_that_their_verifier_reads_pass(workspace: Workspace) -> None:
    write_own_data(workspace, sums(), {"name": "final_number", "options": {}})
    report = report_of(workspace)
    assert report.counts == {"eval": 2, "train": 8}
    assert [check.num_failed for check in report.checks] == [0] * 6
    assert all(check.num_passed == 10 for check in report.checks)
    longest = max(len(f"What is {n} and {n}?|") for n in range(20))
    assert report.longest[0] <= longest
    assert report_of(workspace, limit=1).counts == {"eval": 1, "train": 1}


def test_contexts_longer_than_the_models_positions_are_a_complaint(workspace: Workspace) -> None:
    write_own_data(
        workspace,
        sums(),
        {"name": "final_number", "options": {}},
        expert_template="{prompt}" + "x" * 70 + "{execution_trace}|",
    )
    report = report_of(workspace)
    [complaint] = report.complaints
    assert "more than the model's 64 positions" in complaint
    assert report.num_failed == 1


def test_the_form_of_an_answer_is_found(workspace: Workspace) -> None:
    verifier = {"name": "answer_letter", "options": {}}
    write_own_data(workspace, letters(), verifier)
    report = report_of(workspace)
    assert report.answer_form == "<reasoning>as known</reasoning><answer>{reference}</answer>"
    assert [each.num_failed for each in report.checks] == [0] * 6
    named = check(workspace, answer_form="It is {reference}.")
    assert named[ACCEPTED].num_failed == 10
    assert named[ACCEPTED].failures[0].found.startswith("malformed, reward 0")


def test_rows_that_the_verifier_cannot_read_are_all_named(workspace: Workspace) -> None:
    words = [{"question": f"Name number {n}.", "answer": f"word{n}"} for n in range(20)]
    write_own_data(workspace, words, {"name": "answer_letter", "options": {}})
    with pytest.raises(DataError, match="20 of 20 problems have a reference"):
        report_of(workspace)


def test_a_verifier_that_accepts_anything_is_found_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = workspace.root / "my_lenient_lab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lenient.py").write_text(LENIENT)
    monkeypatch.syspath_prepend(str(workspace.root))
    write_own_data(workspace, sums(), {"name": "my_lenient_lab.lenient", "options": {}})
    checks = check(workspace)
    assert checks[ACCEPTED].num_failed == 0
    assert checks[EMPTY].num_failed == checks[SHUFFLED].num_failed == 10
    assert checks[EMPTY].failures[0].found == "correct, reward 1"


def test_contexts_that_do_not_fit_are_counted(workspace: Workspace) -> None:
    long = [row | {"question": f"{row['question']} {'more ' * 60}"} for row in sums(5)]
    write_own_data(workspace, [*sums(20)[5:], *long], {"name": "final_number", "options": {}})
    settings = previewed_params(workspace)
    assert settings.context.max_context_tokens == 200
    checks = check(workspace)
    failed = checks[STUDENT].num_failed
    assert failed == checks[EXPERT].num_failed
    assert failed + checks[STUDENT].num_passed == 10
    for failure in checks[STUDENT].failures:
        assert "context.max_context_tokens allows 200" in failure.found


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=8))
def test_a_shuffled_answer_is_another_problems(answers: list[str]) -> None:
    found = _shuffled(answers)
    for own, other in zip(answers, found, strict=True):
        others = {answer for answer in answers if answer and answer != own}
        assert other in others if others else other == ""
