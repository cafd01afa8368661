"""Other words for what tools say: corrections are found in their lines, and worded by the settings
(3 s)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.config.models import ContextParams, WordingParams
from distil_core.errors import ConfigError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.wording import Correction, read_correction, worded
from distil_core.problems.base import Problem
from distil_core.validation import validate
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._written_arithmetic import checked_equations
from distil_core.verifiers.base import FeedbackItem

CALCULATOR = WordingParams(keep="corrections", correction="Calculator: {expression} = {value}")
CONTEXT = {"student_template": "{prompt}|", "expert_template": "{prompt}?{tool_output}|"}


def said(*lines: str, kind: str = "tool_output") -> list[FeedbackItem]:
    return [FeedbackItem(kind, line) for line in lines]


def texts(items: Any) -> list[tuple[str, str]]:
    return [(item.kind, item.text) for item in items]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("26 + 98 = 124, not 199", ("26 + 98", "124", "199")),
        ("(1/2) + (1/4) = 0.75, not 1", ("(1/2) + (1/4)", "0.75", "1")),
        ("48/2 = 24, as stated", ("48/2", "24", "24")),
        ("test 1: f(3) returned 8, expected 6", ("f(3)", "6", "8")),
        ("test 2 (hidden): g(x=1) returned [], expected [1, 2]", ("g(x=1)", "[1, 2]", "[]")),
        ("The final answer 71 is wrong; it is 72.", ("The final answer", "72", "71")),
    ],
)
def test_the_parts_of_a_correction(line: str, parts: tuple[str, str, str]) -> None:
    assert read_correction(line) == Correction(*parts)


@pytest.mark.parametrize(
    "line",
    ["The final answer 71 is wrong.", "", "0 of 2 tests passed.", "line 2: y = 4", "a = 3", "= 3"],
)
def test_other_lines_are_none(line: str) -> None:
    assert read_correction(line) is None


@given(
    st.integers(0, 10**9),
    st.sampled_from("+-*"),
    st.integers(0, 10**9),
    st.integers(-(10**6), 10**6).filter(bool),
)
def test_what_the_step_checker_says_is_read_back(
    left: int, sign: str, right: int, error: int
) -> None:
    value = {"+": left + right, "-": left - right, "*": left * right}[sign]
    for line in checked_equations(f"So {left} {sign} {right} = {value + error}."):
        correction = read_correction(line)
        assert correction is not None
        assert f"{correction.expression} = {correction.value}, not {correction.stated}" == line
        assert correction.value == str(value)


anything = st.builds(
    FeedbackItem,
    st.sampled_from(["execution_trace", "tool_output", "peer_solution"]),
    st.text(alphabet="ab= \n{}|", max_size=12),
)


@given(st.lists(anything, max_size=5))
def test_without_settings_the_expert_reads_the_same(items: list[FeedbackItem]) -> None:
    assert worded(items, WordingParams()) == tuple(items)


@given(st.lists(anything, max_size=5))
def test_lines_in_the_tools_own_words_are_all_there(items: list[FeedbackItem]) -> None:
    """Joined line by line, nothing is lost or added, whatever the items hold."""
    only_names = WordingParams(verdicts={"wrong": "no"})
    for kind in ("execution_trace", "tool_output", "peer_solution"):
        before, after = (
            "\n".join(item.text for item in found if item.kind == kind)
            for found in (items, worded(items, only_names))
        )
        assert before == after


def test_a_real_verifier_in_the_words_of_a_calculator() -> None:
    verifier = VERIFIERS.build("final_number", {}, reveal="nothing")
    response = "48/2 = 23 clips in May.\n23+48 = 70 clips altogether.\n#### 70"
    feedback = verifier.verify(Problem("?", "#### 72"), response).feedback
    assert texts(feedback) == [
        ("tool_output", "48/2 = 24, not 23"),
        ("tool_output", "23+48 = 71, not 70"),
        ("tool_output", "The final answer 70 is wrong."),
    ]
    assert texts(worded(feedback, CALCULATOR)) == [
        ("tool_output", "Calculator: 48/2 = 24\nCalculator: 23+48 = 71")
    ]
    one_line = CALCULATOR.model_copy(update={"correction": None, "separator": "; "})
    assert texts(worded(feedback, one_line)) == [
        ("tool_output", "48/2 = 24, not 23; 23+48 = 71, not 70")
    ]


def test_only_the_tools_own_kinds_are_worded() -> None:
    items = [*said("2 + 2 = 4, not 5", kind="peer_solution"), *said("wrong", "1 + 1 = 2, not 3")]
    assert texts(worded(items, CALCULATOR)) == [
        ("peer_solution", "2 + 2 = 4, not 5"),
        ("tool_output", "Calculator: 1 + 1 = 2"),
    ]
    assert texts(worded(said("wrong"), CALCULATOR)) == []


def test_a_kind_of_several_lines_in_one_item() -> None:
    items = said("0 of 2 tests passed.\ntest 1: f(3) returned 8, expected 6")
    assert texts(worded(items, CALCULATOR)) == [("tool_output", "Calculator: f(3) = 6")]


def test_the_expert_reads_the_words_or_has_nothing_to_say(tokenizer: Any) -> None:
    params = ContextParams(**CONTEXT, max_context_tokens=60, wording=CALCULATOR)
    renderer = ContextRenderer(params, tokenizer)
    items = said("1 + 1 = 2, not 3", "The final answer 3 is wrong.")
    context = renderer.expert("1+1=", "3", "wrong", items, "001/x/0")
    assert "".join(segment.text for segment in context.segments) == "1+1=?Calculator: 1 + 1 = 2|"
    assert renderer.has_feedback(items)
    assert not renderer.has_feedback(items[1:])
    assert renderer.has_feedback([*items[1:], *said("2 = 3, not 4")])


def test_words_for_verdicts(tokenizer: Any) -> None:
    template = {"expert_template": "{prompt}?{verdict} {tool_output}|"}
    params = ContextParams(
        **CONTEXT | template,
        max_context_tokens=60,
        wording=WordingParams(verdicts={"wrong": "not right"}),
    )
    renderer = ContextRenderer(params, tokenizer)
    for verdict, word in (("wrong", "not right"), ("correct", "correct")):
        context = renderer.expert("1+1=", "3", verdict, said("no"), "001/x/0")
        assert "".join(segment.text for segment in context.segments) == f"1+1=?{word} no|"


@given(st.text(alphabet="{}ab |\n", max_size=10), st.text(alphabet="{}ab |", max_size=6))
def test_content_is_never_a_template(expression: str, value: str) -> None:
    found = Correction(expression, value, "").in_words("{expression}: {value}")
    assert found == f"{expression}: {value}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{answer}", "expected the fields"),
        ("{value!r}", "expected the fields"),
        ("{value:>9}", "expected the fields"),
        ("{expression.__class__}", "expected the fields"),
        ("{}", "expected the fields"),
        ("{", "write a literal brace twice"),
    ],
)
def test_unknown_fields_are_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(WordingParams, {"correction": words}, "params.yaml")


def test_settings_without_it_are_frozen_as_they_always_were() -> None:
    plain = ContextParams(**CONTEXT, max_context_tokens=60)
    assert "wording" not in plain.model_dump(mode="json")
    chosen = plain.model_copy(update={"wording": CALCULATOR})
    dumped = chosen.model_dump(mode="json")
    assert dumped["wording"]["keep"] == "corrections"
    assert ContextParams.model_validate(dumped) == chosen
