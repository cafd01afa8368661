"""Every row of the tables in docs/answers.md is what the verifiers say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verifier

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
PLAIN = "math_answer with the form plain"
OPTIONS: dict[str, dict[str, Any]] = {
    "final_number": {},
    "quantity": {},
    "math_answer": {"check_steps": False},
    PLAIN: {"check_steps": False, "forms": ["hash", "boxed", "answer_tag", "plain"]},
}
ROW = re.compile(r"\| `(.*)` \| `(.*)` \| (correct|wrong|malformed) \|")


def rows() -> list[tuple[str, str, str, str]]:
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        name, _, text = section.partition("\n")
        for line in text.split("\n"):
            if not line.startswith("|") or line.startswith(("| reference", "|---")):
                continue
            row = ROW.fullmatch(line)
            assert row, f"a row that cannot be read: {line}"
            reference, response, verdict = row.groups()
            found.append((name, reference, response.replace("⏎", "\n"), verdict))
    return found


@pytest.fixture(scope="module")
def verifiers() -> Iterator[dict[str, Verifier]]:
    built = {
        name: VERIFIERS.build(name.split()[0], options, reveal="nothing")
        for name, options in OPTIONS.items()
    }
    yield built
    for verifier in built.values():
        verifier.close()


def test_each_verifier_of_the_page_has_rows_of_each_verdict() -> None:
    for name in OPTIONS:
        assert {verdict for table, _, _, verdict in rows() if table == name} == {
            "correct",
            "wrong",
            "malformed",
        }


@pytest.mark.parametrize(("name", "reference", "response", "verdict"), rows())
def test_a_documented_row_is_judged_as_documented(
    verifiers: dict[str, Verifier], name: str, reference: str, response: str, verdict: str
) -> None:
    problem = Problem("?", reference)
    verifiers[name].check_problem(problem)
    result = verifiers[name].verify(problem, response)
    assert result.verdict == verdict, result
    assert result.reward == float(verdict == "correct")
