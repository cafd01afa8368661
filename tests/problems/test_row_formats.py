import base64
import json
import os
import pickle
import sys
import zlib
from typing import Any

import pytest

from distil_core.problems.row_formats import ROW_FORMATS

HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\ndef double(n):\n    """Twice n."""\n',
    "canonical_solution": "    return 2 * n\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n",
    "entry_point": "double",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to double a number.",
    "code": "def double(n):\r\n  return 2 * n",
    "test_list": ["assert double(2) == 4", "assert double(-1) == -2"],
    "test_setup_code": "",
}


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


LIVE_CODE_BENCH = {
    "question_id": "abc_a",
    "question_content": "Read a number, print its double.",
    "starter_code": "",
    "public_test_cases": json.dumps([{"input": "2\n", "output": "4", "testtype": "stdin"}]),
    "private_test_cases": packed(json.dumps([{"input": "3\n", "output": "6"}])),
    "metadata": "{}",
}


def test_each_keeps_the_contract() -> None:
    from distil_core.testing import check_row_format

    rows = {"human_eval": HUMAN_EVAL, "live_code_bench": LIVE_CODE_BENCH, "mbpp": MBPP}
    assert [*rows] == ROW_FORMATS.place.built_in_names()
    for name, row in rows.items():
        check_row_format(name, {}, [row])


def test_human_eval_tests_pass_on_their_own_reference() -> None:
    problem = ROW_FORMATS.build("human_eval", {})(HUMAN_EVAL)
    metadata = json.loads(problem.metadata)
    assert problem.prompt == HUMAN_EVAL["prompt"]
    run(problem.reference, metadata)
    with pytest.raises(AssertionError):
        run("def double(n): return n", metadata)


@pytest.mark.parametrize("sanitized", [False, True])
def test_mbpp_tests_pass_on_their_own_reference(sanitized: bool) -> None:
    row: dict[str, Any] = dict(MBPP)
    if sanitized:
        row |= {"prompt": row.pop("text"), "test_imports": ["import math"]}
        row["test_list"] = [*row["test_list"], "assert math.isclose(double(1), 2)"]
    problem = ROW_FORMATS.build("mbpp", {})(row)
    metadata = json.loads(problem.metadata)
    assert metadata["entry_point"] == "double"
    assert [test["public"] for test in metadata["tests"]][:2] == [True, False]
    assert "double(2)" in problem.prompt
    assert "double(-1)" not in problem.prompt
    run(problem.reference, metadata)


def run(program: str, metadata: dict[str, Any]) -> None:
    """The tests of this file are the project's own, so that they may run here."""
    names: dict[str, Any] = {}
    exec(metadata.get("preamble", "") + program, names)
    exec(metadata["setup"], names)
    for test in metadata["tests"]:
        exec(test["code"], names)


def test_live_code_bench_private_tests_are_unpacked() -> None:
    problem = ROW_FORMATS.build("live_code_bench", {})(LIVE_CODE_BENCH)
    assert problem.prompt == LIVE_CODE_BENCH["question_content"]
    metadata = json.loads(problem.metadata)
    assert metadata["tests"] == [
        {"stdin": "2\n", "stdout": "4", "public": True},
        {"stdin": "3\n", "stdout": "6", "public": False},
    ]
    names: dict[str, Any] = {}
    before = sys.getrecursionlimit()
    exec(metadata["preamble"], names)
    sys.setrecursionlimit(before)
    assert {"defaultdict", "cache", "heappush", "gcd", "math", "List", "sys"} <= set(names)


def test_live_code_bench_calls_of_a_method() -> None:
    row = LIVE_CODE_BENCH | {
        "starter_code": "class Solution:",
        "metadata": '{"func_name": "add"}',
        "public_test_cases": json.dumps([{"input": '[1, 2]\n"a"', "output": "null"}]),
        "private_test_cases": packed("[]"),
    }
    problem = ROW_FORMATS.build("live_code_bench", {})(row)
    metadata = json.loads(problem.metadata)
    assert metadata["entry_point"] == "Solution.add"
    assert metadata["values"] == "json"
    assert metadata["tests"] == [{"arguments": [[1, 2], "a"], "expected": None, "public": True}]
    assert problem.prompt.endswith("Begin with:\nclass Solution:")
    with pytest.raises(ValueError, match="expected a test with JSON values"):
        ROW_FORMATS.build("live_code_bench", {})(
            row | {"public_test_cases": '[{"input": "1 2", "output": "3"}]'}
        )


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, ("ATTACKED", "yes")


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("human_eval", {**HUMAN_EVAL, "test": None}, "'test' must be text"),
        ("human_eval", {"prompt": "x"}, "entry_point"),
        ("human_eval", {**HUMAN_EVAL, "entry_point": "f"}, "expected `def f.` in 'prompt'"),
        ("mbpp", {**MBPP, "test_list": []}, "'test_list' must be a list of texts"),
        ("mbpp", {**MBPP, "code": "def other(): pass"}, r"calls none of the functions \['other'\]"),
        ("mbpp", {**MBPP, "code": "def"}, "is no Python"),
        (
            "live_code_bench",
            {**LIVE_CODE_BENCH, "private_test_cases": packed(Attack())},
            r"it names posix\.putenv, expected text only",
        ),
        (
            "live_code_bench",
            {**LIVE_CODE_BENCH, "private_test_cases": "no base64"},
            "'private_test_cases' cannot be read",
        ),
        (
            "live_code_bench",
            {**LIVE_CODE_BENCH, "public_test_cases": '[{"input": 1}]'},
            "expected a test with text as 'input'",
        ),
        (
            "live_code_bench",
            {**LIVE_CODE_BENCH, "public_test_cases": "[]", "private_test_cases": "[]"},
            "no tests in",
        ),
    ],
)
def test_a_row_of_another_format_is_refused(name: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        ROW_FORMATS.build(name, {})(row)


def test_human_eval_has_what_comes_before_the_function_and_its_beginning() -> None:
    prompt = (
        "import math\n\ndef encode(s):\n    return s[::-1]\n\n"
        + '\ndef decode(s):\n    """Undo."""\n'
    )
    row = {**HUMAN_EVAL, "prompt": prompt, "entry_point": "decode"}
    metadata = json.loads(ROW_FORMATS.build("human_eval", {})(row).metadata)
    assert metadata["preamble"] + metadata["stub"] == prompt
    assert metadata["stub"].startswith("def decode(s):")


CLASSES = """
from dataclasses import dataclass
import sys
import re as regular

class Base:
    pass

@dataclass
class Pair(Base):
    a: int

class Unused:
    pass

numbers = [1, 2]
count = len(numbers)

def first(p): return p.a
def helper(p): return p
answer = [helper(n) for n in numbers]
"""


def test_mbpp_tests_have_the_classes_and_imports_that_they_name() -> None:
    tests = [
        "assert first(Pair(1)) == 1",
        "assert sys.getsizeof(helper(root)) > regular.I - count + 0 * len(answer)",
    ]
    row = {**MBPP, "code": CLASSES, "test_list": tests, "test_setup_code": "root = Pair(2)"}
    metadata = json.loads(ROW_FORMATS.build("mbpp", {})(row).metadata)
    assert metadata["entry_point"] == ["first", "helper", "Pair"]
    assert metadata["setup"] == "import sys\nimport re as regular\nroot = Pair(2)"
    names: dict[str, Any] = {}
    exec(metadata["preamble"], names)
    assert {"Base", "Pair", "dataclass", "numbers", "count"} <= set(names)
    assert not {"Unused", "first", "helper", "sys", "answer"} & set(names)
    run(CLASSES, metadata)
    # A class that is itself what the tests call is the response's to write.
    row = {**MBPP, "code": CLASSES, "test_list": ["assert Pair(1).a == 1"]}
    metadata = json.loads(ROW_FORMATS.build("mbpp", {})(row).metadata)
    assert (metadata["entry_point"], metadata["preamble"]) == ("Pair", "")
