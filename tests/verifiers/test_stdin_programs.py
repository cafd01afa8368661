from typing import Any

import pytest
from code_problems import feedback_text, verify

from distil_core.errors import VerifierError


def judge(code: str, stdin: str, stdout: str, **options: Any) -> Any:
    metadata = {"tests": [{"stdin": stdin, "stdout": stdout, "public": True}]}
    return verify("stdin_programs", code, metadata, **options)


@pytest.mark.parametrize(
    ("printed", "expected", "agreeing"),
    [
        ("4\n", "4\n", {"lines", "tokens", "exact"}),
        ("4", "4\n", {"lines", "tokens"}),
        ("4 \n5\n\n", "4\n5", {"lines", "tokens"}),
        ("4  5", "4 5", {"lines", "tokens"}),
        ("a  b", "a b", {"tokens"}),
        ("4\n\n5", "4\n5", {"tokens"}),
        ("5", "4", set()),
        ("", "4", set()),
        ("é ∑ \U0001f600\n", "é ∑ \U0001f600\n", {"lines", "tokens", "exact"}),
    ],
)
@pytest.mark.parametrize("comparison", ["lines", "tokens", "exact"])
def test_comparison(printed: str, expected: str, agreeing: set[str], comparison: str) -> None:
    code = f"import sys\nsys.stdout.write({printed!r})"
    verdict = judge(code, "", expected, comparison=comparison).verdict
    assert verdict == ("correct" if comparison in agreeing else "wrong")


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nfor line in sys.stdin: print(line.strip()[::-1])",
        "import sys\nprint(sys.stdin.read().strip()[::-1])",
        "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read().strip()[::-1])",
        "import os\nos.write(1, os.read(0, 100).strip()[::-1])",
        "print(open(0).read().strip()[::-1])",
        "def main():\n    print(input()[::-1])\nif __name__ == '__main__':\n    main()",
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\n"
        "threading.Thread(target=lambda: print(input()[::-1])).start()",
        "import asyncio\nasync def f(): print(input()[::-1])\nasyncio.run(f())",
        "import atexit\natexit.register(lambda: print(input()[::-1]))",
        "print(input()[::-1]); exit()",
        "import sys\nprint(input()[::-1], flush=True); sys.exit(0)",
        "open('t', 'w').write(input())\nprint(open('t').read()[::-1])",
    ],
)
def test_the_ways_programs_read_and_write(code: str) -> None:
    result = judge(code, "abc\n", "cba")
    assert result.verdict == "correct", feedback_text(result)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("print(4); raise SystemExit(3)", "exited with code 3"),
        ("print(4); exit('message')", "exited with code 1"),
        ("print(4); 1 / 0", "raised ZeroDivisionError"),
        ("print(4); import os; os.abort()", "crashed (signal"),
        ("print(4); input(); input()", "raised EOFError"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", r"printed '\\xff'"),
    ],
)
def test_right_output_is_not_enough(code: str, text: str) -> None:
    result = judge(code, "1\n", "4\n")
    assert result.verdict == "wrong"
    assert text in feedback_text(result)


def test_large_input_and_output() -> None:
    numbers = "\n".join(map(str, range(100_000)))
    code = "import sys\nprint(sum(map(int, sys.stdin)))"
    assert judge(code, numbers, "4999950000").verdict == "correct"


def test_each_test_is_a_run_of_its_own() -> None:
    code = "import os\nprint(len(os.listdir('.')))\nopen('left', 'w').close()"
    tests = [{"stdin": "", "stdout": "0"}] * 3
    assert verify("stdin_programs", code, {"tests": tests}).verdict == "correct"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(0.5)", "0.50\n"),
        ("print(1 / 3)", "0.333333333\n"),
        ("print(len(str(10**5000)))", "5001\n"),
        ("for i in range(60000): print(i)", "".join(f"{i}\n" for i in range(60000))),
        ("print(open('/dev/stdin').read().strip())", "7\n"),
        ("import sys\nsys.stdin = open('/dev/stdin')\nprint(input())", "7\n"),
        ("import pathlib\nprint(pathlib.Path('/dev/stdin').read_text())", "7\n"),
        ("import fileinput\nprint(*fileinput.input('/dev/stdin'))", "7\n"),
        ("print(int(open('/dev/stdin').readline()) * int('1' * 5000) % 10)", "7\n"),
    ],
)
def test_what_graders_of_contests_take(code: str, expected: str) -> None:
    result = judge(code, "7\n", expected)
    assert result.verdict == "correct", feedback_text(result)


def test_output_beyond_what_is_expected_is_still_limited() -> None:
    expected = "".join(f"{i}\n" for i in range(20_000))
    assert "printed more than" in feedback_text(judge("while True: print(1)", "", expected))


def test_a_preamble_comes_before_the_program() -> None:
    metadata = {
        "tests": [{"stdin": "4 6\n", "stdout": "2\n"}],
        "preamble": "from math import *\nimport sys",
    }
    code = "from __future__ import annotations\nprint(gcd(*map(int, sys.stdin.read().split())))"
    assert verify("stdin_programs", code, metadata).verdict == "correct"
    with pytest.raises(VerifierError, match="the code before the response"):
        verify("stdin_programs", code, {**metadata, "preamble": "1 / 0"})


def test_the_program_is_not_its_output() -> None:
    metadata = {"tests": [{"stdin": "3\n", "stdout": "6\n"}]}
    code = "n = int(input())\nprint(n * 2)\n"
    response = (
        f"<think>\n```python\nn = 1\n</think>\nSo:\n```python\n{code}```\nOutput:\n```\n6\n```"
    )
    assert verify("stdin_programs", response, metadata).verdict == "correct"
    bare = f"```\n{code}```\nFor 3 it prints:\n```\n6\n```"
    assert verify("stdin_programs", bare, metadata).verdict == "correct"
