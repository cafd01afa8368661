import pytest

from distil_core.verifiers._junk_answers import contradicts, is_costly


@pytest.mark.parametrize(
    ("answer", "right_answer"),
    [
        ("nan", "8.0 + 3.0i"), ("nan+nani", "8.0 + 3.0i"), ("NaN", "0.25"), ("-inf", "3"),
        ("[nan]", "[1]"), ("(inf, 2)", "(1, 2)"), ("Infinity", "4"), ("infj", "1i"),
        ("0", "0.234"), ("-0", "0.00003"), ("1", "2"), ("-3", "3"), ("1e400", "3"),
        ("1,000", "100"), ("1/2", "0.6"), ("0", "1e-300"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_whatever_the_score(answer: str, right_answer: str) -> None:
    assert contradicts(answer, right_answer)


@pytest.mark.parametrize(
    ("answer", "right_answer"),
    [
        ("nan", "nan"), ("-0", "0"), ("0.0", "0"), ("1/4", "0.25"), ("0.0031", "0.003173828125"),
        ("1,000", "1000"), ("banana", "banana"), ("infinite", "finite"), ("inf", "1 < inf"),
        ("x", "3"), ("3", "three"), ("1 2", "2 1"), ("9" * 5000, "3"), ("\ud800", "3"), ("", "3"),
    ],
)  # fmt: skip
def test_what_the_rule_decides(answer: str, right_answer: str) -> None:
    assert not contradicts(answer, right_answer)


@pytest.mark.parametrize("answer", ["1e99999999", "-2.E+1000000", "x 3.5e-00012345", "1e9_999"])
def test_numbers_that_no_answer_has(answer: str) -> None:
    assert is_costly(answer)


@pytest.mark.parametrize("answer", ["1e300", "1e0001", "2e 99999", "the 9999", "1e", "0x1e99"])
def test_numbers_that_answers_may_have(answer: str) -> None:
    assert not is_costly(answer)
