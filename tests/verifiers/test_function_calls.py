import json
from typing import Any

import pytest
from code_problems import feedback_text, verify

from distil_core.errors import VerifierError
from distil_core.problems.row_formats import ROW_FORMATS


def judge(code: str, tests: list[dict[str, Any]], **metadata: Any) -> Any:
    metadata = {"entry_point": "f", **metadata, "tests": [{"public": True, **t} for t in tests]}
    return verify("function_calls", code, metadata)


@pytest.mark.parametrize(
    ("code", "expected", "verdict"),
    [
        ("return 3", "3", "correct"),
        ("return 3.0", "3", "wrong"),
        ("return True", "1", "wrong"),
        ("return [1, 2]", "(1, 2)", "wrong"),
        ("return (1, 2)", "(1, 2)", "correct"),
        ("return {2, 1}", "{1, 2}", "correct"),
        ("return {'b': 1, 'a': 2}", "{'a': 2, 'b': 1}", "correct"),
        ("return '\\ud800'", r"'\ud800'", "correct"),
        ("return b'\\xff\\0'", r"b'\xff\x00'", "correct"),
        ("return 2 ** 5000", str(2**5000), "correct"),
        ("return 2 ** 5000 + 1", str(2**5000), "wrong"),
        ("return 1e999", "1e999", "correct"),
        ("return -0.0", "0.0", "correct"),
        ("return None", "None", "correct"),
        ("return object()", "None", "wrong"),
    ],
)
def test_values_are_compared_with_their_types(code: str, expected: str, verdict: str) -> None:
    test = {"arguments": "()", "expected": expected}
    assert judge(f"def f():\n    {code}", [test]).verdict == verdict


def test_json_has_no_tuples() -> None:
    test = {"arguments": [[1, 2]], "expected": [[2, 1], {"a": None}]}
    code = "def f(x):\n    return tuple(x[::-1]), {'a': None}"
    assert judge(code, [test], values="json").verdict == "correct"


def test_methods_keywords_and_preamble() -> None:
    code = "class Solution:\n    def f(self, a, *, b=0):\n        return math.gcd(a, b) + one()"
    test = {"arguments": "[12]", "keywords": "{'b': 18}", "expected": "7"}
    preamble = "import math\ndef one():\n    return 1"
    result = judge(code, [test], entry_point="Solution.f", preamble=preamble)
    assert result.verdict == "correct"
    # Lines are counted in the response, not in what was put before it.
    result = judge(
        "def f():\n    return 1 / 0", [{"arguments": "()", "expected": "1"}], preamble=preamble
    )
    assert "line 2, in f: return 1 / 0" in feedback_text(result)


def test_a_call_that_ends_the_process_costs_the_others_nothing() -> None:
    code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x"
    tests = [{"arguments": f"({n},)", "expected": str(n)} for n in range(4)]
    result = judge(code, tests)
    assert feedback_text(result).startswith("3 of 4 tests passed.")
    assert "test 2: f(1) ended without an answer" in feedback_text(result)


def test_calls_share_one_process_in_order() -> None:
    code = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    tests = [{"arguments": "()", "expected": str(n)} for n in (1, 2, 3)]
    assert judge(code, tests).verdict == "correct"


def test_a_missing_entry_point_is_wrong_and_told() -> None:
    result = judge("def g(): pass", [{"arguments": "()", "expected": "1"}])
    assert result.verdict == "wrong"
    assert "the program defines no 'f'" in feedback_text(result)


def test_a_module_that_runs_its_tests_when_called_as_a_script_does_not() -> None:
    code = "def f(): return 1\nif __name__ == '__main__':\n    f = None"
    assert judge(code, [{"arguments": "()", "expected": "1"}]).verdict == "correct"


def test_feedback_is_bounded() -> None:
    tests = [{"arguments": f"({n},)", "expected": f"'{'e' * 10_000}'"} for n in range(40)]
    result = judge("def f(x):\n    return 'a' * 100_000", tests)
    assert "35 more failed." in feedback_text(result)
    assert sum(len(item.text) for item in result.feedback) < 5000


@pytest.mark.parametrize("written", ["f(1)", "(1", "__import__('os')", "5", "'text'"])
def test_arguments_that_are_no_literal_are_the_problems_fault(written: str) -> None:
    with pytest.raises(VerifierError, match="is no literal"):
        judge("def f(): pass", [{"arguments": written, "expected": "1"}])


@pytest.mark.parametrize(
    ("body", "expected", "verdict"),
    [
        ("return 2", 2.0, "correct"),
        ("return 2.0", 2, "correct"),
        ("return True", 1, "correct"),
        ("return 2.5", 2, "wrong"),
        ("return '2'", 2, "wrong"),
        ("return Counter('aab')", {"a": 2, "b": 1}, "correct"),
        ("return math.gcd(4, 6) + len(defaultdict(int))", 2, "correct"),
        ("return [n for n in accumulate([1, 2])]", [1, 3], "correct"),
    ],
)
def test_live_code_benchs_way_to_call(body: str, expected: Any, verdict: str) -> None:
    row = {
        "question_content": "q",
        "starter_code": "class Solution:\n    def f(self, a):\n",
        "public_test_cases": json.dumps([{"input": "[1]", "output": json.dumps(expected)}]),
        "private_test_cases": "[]",
        "metadata": '{"func_name": "f"}',
    }
    metadata = json.loads(ROW_FORMATS.build("live_code_bench", {})(row).metadata)
    future = "from __future__ import annotations\n"
    method = f"{future}class Solution:\n    def f(self, a: List[int]):\n        {body}"
    assert verify("function_calls", method, metadata).verdict == verdict
    # Its own grader takes a function without the class too.
    function = f"{future}def f(a):\n    {body}"
    assert verify("function_calls", function, metadata).verdict == verdict


def test_whole_numbers_have_any_number_of_digits() -> None:
    code = "def f(n): return len(str(10**n)), int('7' * n) % 10"
    assert judge(code, [{"arguments": "(6000,)", "expected": "(6001, 7)"}]).verdict == "correct"


def test_code_before_the_response_that_fails_is_the_problems_fault() -> None:
    test = {"arguments": "()", "expected": "1"}
    for preamble in ("import no_such_module", "1 / 0", "import os; os._exit(0)", "exit()"):
        with pytest.raises(VerifierError, match="the code before the response"):
            judge("def f(): return 1", [test], preamble=preamble)
    forged = "import os\nos.write(3, b'\\0\\0\\0\\x13{\"prepared\": false}')\nos._exit(1)"
    assert judge(forged, [test]).verdict == "wrong"
