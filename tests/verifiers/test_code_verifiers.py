"""What the three verifiers of code have in common: verdicts, extraction, what is revealed."""

import contextlib
import gc
import json
import os
import signal
import time

import psutil
import pytest
from code_problems import METADATA, build, feedback_text, problem, verify

from distil_core.errors import ConfigError, VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._program_text import extract_code

RIGHT = {
    "function_calls": "def f(x):\n    return 3 * x + 1",
    "assert_tests": "def f(x):\n    return 3 * x + 1",
    "stdin_programs": "print(3 * int(input()) + 1)",
}
# Wrong at the hidden test only, in ways that would tell its input.
TELLING = {
    "by message": "raise ValueError(f'input was {x}')",
    "by class": "raise type(f'Input{x}', (Exception,), {})('no')",
    "by answer": "return f'input was {x}'",
    "by class of the answer": "return type(f'Input{x}', (), {})()",
    "by exit code": "import os; os._exit(x % 200)",
    "by a forged syntax error": (
        'import os; t = (\'{"compiled": false, "exception": {"type": "SyntaxError", '
        '"message": "input was \' + str(x) + \'", "lines": []}}\').encode(); '
        "os.write(3, len(t).to_bytes(4, 'big') + t); os._exit(1)"
    ),
}


def program(name: str, body: str) -> str:
    """`body` on x, as a function or as a whole program."""
    lines = f"def f(x):\n    if x == 1: return 4\n    {body}\n"
    return lines if name != "stdin_programs" else f"{lines}print(f(int(input())))\n"


@pytest.mark.parametrize("name", METADATA)
def test_a_right_program(name: str) -> None:
    result = verify(name, f"Here it is:\n```python\n{RIGHT[name]}\n```\nDone.")
    assert (result.verdict, result.reward) == ("correct", 1.0)
    assert result.isolation == "bubblewrap_zygote"
    assert feedback_text(result) == "2 of 2 tests passed."


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("how", TELLING)
def test_a_hidden_test_is_not_told(name: str, how: str) -> None:
    result = verify(name, program(name, TELLING[how]))
    text = "\n".join(item.text for item in result.feedback)
    assert result.reward == 0.0
    for secret in ("7770", "23311", "hidden", str(7770 % 200)):
        assert secret not in text.replace("test 2 (hidden)", "")


@pytest.mark.parametrize("name", METADATA)
def test_a_hidden_test_is_told_where_the_run_says_so(name: str) -> None:
    result = verify(name, program(name, "return x"), reveal="expected_outputs")
    assert "23311" in feedback_text(result)
    assert "7770" in feedback_text(result, "execution_trace")


@pytest.mark.parametrize("name", METADATA)
def test_share_of_passed_tests_as_reward(name: str) -> None:
    response = program(name, "return x")
    assert verify(name, response).reward == 0.0
    assert verify(name, response, reward="fraction").reward == 0.5


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("while True: pass", "timed out: more than 0.5 s of CPU time"),
        ("x = 'x' * 10**10", "MemoryError"),
        ("import os; os._exit(0)", None),
        ("import ctypes; ctypes.string_at(0)", None),
        ("while True: print('x' * 1000)", "printed more than 64 KB"),
        ("return f(x)", "RecursionError"),
        ("raise KeyError('k')", "raised KeyError"),
    ],
)
def test_what_ends_a_program_is_told(name: str, body: str, text: str | None) -> None:
    head = "def f(x):\n    "
    tail = "\nprint(f(int(input())))" if name == "stdin_programs" else ""
    result = verify(name, f"{head}{body}{tail}")
    assert (result.verdict, result.reward) == ("wrong", 0.0)
    if text is not None:
        assert text in feedback_text(result)


@pytest.mark.parametrize("name", METADATA)
def test_trace_is_cut_to_the_candidates_own_lines(name: str) -> None:
    tail = "\nprint(f(int(input())))" if name == "stdin_programs" else ""
    code = f"import json\ndef f(x):\n    y = x + 1\n    return json.loads('{{')\n{tail}"
    text = feedback_text(verify(name, code))
    assert "line 4, in f: return json.loads('{')" in text
    assert "decoder.py" not in text
    assert "harness" not in text


@pytest.mark.parametrize("name", METADATA)
def test_execution_trace_is_short_and_has_values(name: str) -> None:
    tail = "\nprint(f(int(input())))" if name == "stdin_programs" else ""
    loop = "    for i in range(500):\n        total += i\n"
    code = f"def f(x):\n    total = 0\n{loop}    return total{tail}"
    trace = feedback_text(verify(name, code, trace_lines=8), "execution_trace")
    assert "line 2: total = 0" in trace
    assert "f returns 124750" in trace or "total = 124750" in trace
    assert "lines ..." in trace
    assert len(trace.splitlines()) <= 10
    assert not feedback_text(verify(name, code, trace_lines=0), "execution_trace")


@pytest.mark.parametrize("name", METADATA)
def test_an_endless_program_has_the_beginning_of_its_trace(name: str) -> None:
    tail = "\nprint(f(int(input())))" if name == "stdin_programs" else ""
    code = f"def f(x):\n    n = 5\n    while True:\n        n += 1{tail}"
    assert "line 2: n = 5" in feedback_text(verify(name, code), "execution_trace")


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize(
    "response",
    [
        "I do not know.",
        "",
        "```python\ndef f(x):\n    return 3 * x + 1",
        "```json\n{}\n```",
        "def f(x) return 4",
        "x = '\0'",
        "(" * 5000,
    ],
)
def test_malformed_is_not_wrong(name: str, response: str) -> None:
    result = verify(name, response)
    assert (result.verdict, result.reward) == ("malformed", 0.0)


@pytest.mark.parametrize(
    ("response", "extraction", "code"),
    [
        ("a = 1", "either", "a = 1"),
        ("a = 1", "plain", "a = 1"),
        ("a = 1", "fenced", None),
        ("```python\na = 1\n```", "fenced", "a = 1\n"),
        ("```py\na = 1\n```\nno:\n```\nb = 2\n```", "either", "a = 1\n"),
        ("```py\na = 1\n```\nno:\n```py\nb = 2\n```", "either", "b = 2\n"),
        ("```\na = 1\n```\nno:\n```\nb = 2\n```", "either", "b = 2\n"),
        ("```python\na = 1\n```\n```text\nout\n```", "either", "a = 1\n"),
        ("~~~python\na = 1\n~~~", "either", "a = 1\n"),
        ("````python\na = '''\n```\n'''\n````", "either", "a = '''\n```\n'''\n"),
        ("```python\na = 1", "either", None),
        ("    return 1", "plain", "    return 1"),
        (" \n", "plain", None),
    ],
)
def test_extraction(response: str, extraction: str, code: str | None) -> None:
    assert extract_code(response, extraction) == code


@pytest.mark.parametrize("text", ["```" * 50_000, "```python\n" * 20_000, "`" * 200_000])
def test_extraction_of_hostile_text_costs_little(text: str) -> None:
    started = time.process_time()
    extract_code(text, "either")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("metadata", ["{}", "[]", "no json", '{"tests": []}', '{"tests": [{}]}'])
def test_a_problem_without_tests_is_no_wrong_answer(name: str, metadata: str) -> None:
    verifier = build(name)
    with pytest.raises(VerifierError, match="metadata of problem"):
        verifier.verify(Problem("p", "r", metadata), "x = 1")
    verifier.close()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="isolation"):
        VERIFIERS.options("function_calls", {"isolation": "none"})
    with pytest.raises(ConfigError, match="cpu_time_s"):
        VERIFIERS.options("function_calls", {"limits": {"cpu_time_s": 0}})


@pytest.mark.parametrize("isolation", ["bubblewrap_cold", "rlimits_only"])
@pytest.mark.parametrize("name", METADATA)
def test_the_isolation_stands_in_every_row(name: str, isolation: str) -> None:
    result = verify(name, RIGHT[name], isolation=isolation)
    assert (result.verdict, result.isolation) == ("correct", isolation)


@pytest.mark.parametrize("name", METADATA)
def test_nothing_starts_before_it_is_needed_and_nothing_stays(name: str) -> None:
    gc.collect()
    me = psutil.Process()
    before = set(me.children(recursive=True))
    open_before = len(os.listdir("/proc/self/fd"))
    verifier = build(name)
    assert set(me.children(recursive=True)) == before
    verifier.verify(problem(METADATA[name]), RIGHT[name])
    assert set(me.children(recursive=True)) > before
    verifier.close()
    verifier.close()
    assert set(me.children(recursive=True)) == before
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert verifier.verify(problem(METADATA[name]), RIGHT[name]).verdict == "correct"
    verifier.close()


@pytest.mark.parametrize("name", METADATA)
def test_a_zygote_that_is_killed_changes_no_verdict(name: str) -> None:
    verifier = build(name)
    others = set(psutil.Process().children(recursive=True))
    for _ in range(3):
        assert verifier.verify(problem(METADATA[name]), RIGHT[name]).verdict == "correct"
        for process in set(psutil.Process().children(recursive=True)) - others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    wrong = verifier.verify(problem(METADATA[name]), "def f(x): return 0\nprint(0)")
    assert wrong.verdict == "wrong"
    verifier.close()


def test_metadata_of_the_docstrings_are_real() -> None:
    for name in METADATA:
        text = VERIFIERS.module(name).__doc__ or ""
        example = next(line for line in text.splitlines() if line.startswith("    {"))
        metadata = json.loads(example)
        code = "def add(a, b):\n    return a + b"
        if name == "stdin_programs":
            code = "print(sum(map(int, input().split())))"
        assert verify(name, code, metadata).verdict == "correct"
