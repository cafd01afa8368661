"""Mathematical answers: what is equal, what is malformed, and that nothing hangs or stays."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._math_process import ComparisonSettings
from distil_core.verifiers._math_text import read_math
from distil_core.verifiers.math_answer import MathAnswerVerifier, _equal_without_process
from tests.verifiers.shared_data import shared_rows

ALL_FORMS = ["hash", "boxed", "answer_tag", "plain"]
# From huggingface/Math-Verify, issue 65: its own timeout does not end this.
HANGS = r"\boxed{\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}}"
# Every running process, by the parent that the kernel knows.
PROC = Path("/proc")


def build(reveal: str = "nothing", **options: Any) -> MathAnswerVerifier:
    values = {"forms": ALL_FORMS, "cpu_limit_s": 1.0, **options}
    verifier: MathAnswerVerifier = VERIFIERS.build("math_answer", values, reveal=reveal)
    return verifier


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathAnswerVerifier]:
    verifier = build()
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("reference", "response", "verdict"),
    [
        ("so\n#### 18", "9 * 2 = 18\n#### 18", "correct"),
        ("18", "#### $18.00", "correct"),
        ("18", r"first \boxed{17}, no: \boxed{18}", "correct"),
        ("18", "#### 18\nno:\n#### 17", "wrong"),
        ("18", "So she makes 18 dollars.", "correct"),
        ("18", "The answer is 18 because 9 * 2 = 18.", "correct"),
        ("18", "<answer> 18 </answer>", "correct"),
        ("1,080", "#### 1080", "correct"),
        (r"\frac{1}{2}", "#### 0.5", "correct"),
        (r"$\frac{1}{2}$", r"\boxed{\dfrac{2}{4}}", "correct"),
        ("0.18", "#### 18%", "correct"),
        ("x^2+2x+1", r"\boxed{(x+1)^2}", "correct"),
        ("x^2+2x+1", r"\boxed{(x+1)^3}", "wrong"),
        (r"\{1, 2\}", r"\boxed{\{2, 1\}}", "correct"),
        ("300000000", "#### 3.0e8", "correct"),
        ("18", "#### eighteen", "malformed"),
        ("18", r"\boxed{}", "malformed"),
        ("18", "", "malformed"),
        ("18", "#### " + "1" * 2000, "malformed"),
        ("18", "#### \x00\ud800", "malformed"),
        ("18", r"\boxed{18", "malformed"),
    ],
)
def test_verdicts(
    verifier: MathAnswerVerifier, reference: str, response: str, verdict: str
) -> None:
    result = verifier.verify(Problem("?", reference), response)
    assert result.verdict == verdict, result
    assert result.reward == float(verdict == "correct")


def test_only_the_accepted_forms_count() -> None:
    verifier = build(forms=["hash"])
    result = verifier.verify(Problem("?", "18"), r"The answer is \boxed{18}")
    assert result.verdict == "malformed"
    assert result.feedback[0].text == ("The response gives no answer as a line '#### answer'.")


def test_feedback_re_executes_the_attempt_and_reveals_only_where_the_run_says_so() -> None:
    problem, response = Problem("?", "#### 72"), "48 / 2 = 23\n23 + 48 = 71\n#### 71"
    texts = [item.text for item in build().verify(problem, response).feedback]
    assert texts == ["48 / 2 = 24, not 23", "The final answer '71' is wrong."]
    told = build("expected_outputs", check_steps=False).verify(problem, response)
    assert [item.text for item in told.feedback] == [
        "The final answer '71' is wrong. The right answer is 72."
    ]


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (HANGS, "wrong"),
        (r"\boxed{9^{9^{9^9}}}", "wrong"),
        (r"\boxed{(10^9)!}", "wrong"),
        (r"\boxed{" + "{" * 300 + "}" * 300 + "}", "malformed"),
        (r"\boxed{\sum_{n=1}^{10000000000} n^{n}}", "wrong"),
    ],
)
def test_what_is_too_costly_is_the_responses_fault_and_ends_in_time(
    response: str, verdict: str
) -> None:
    verifier = build(allow_unevaluated=True)
    result = verifier.verify(Problem("?", "18"), response)
    assert (result.verdict, result.reward) == (verdict, 0.0)
    assert "within 1 s and 1024 MiB" in result.feedback[-1].text
    assert verifier.verify(Problem("?", "x+1"), r"\boxed{1+x}").verdict == "correct"
    verifier.close()


@pytest.mark.parametrize(
    "reference", ["", "#### eighteen", r"\boxed{9^{9^{9^9}}}", "#### " + "1" * 2000]
)
def test_a_reference_that_cannot_be_read_is_no_wrong_answer(
    verifier: MathAnswerVerifier, reference: str
) -> None:
    with pytest.raises(VerifierError, match="reference"):
        verifier.verify(Problem("?", reference), "#### 5x")


def test_no_process_is_started_for_plain_numbers() -> None:
    verifier = build()
    assert verifier.verify(Problem("?", "#### 18"), "#### 18.00").reward == 1.0
    assert verifier._process.pid is None
    verifier.close()


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.integers(0, 10**9).map("{:,}".format),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
    st.sampled_from(["$18", "-$5", "0.5", "0.50", "1,000.0", "0", "-0", "18.000001", "1/2"]),
)


@settings(max_examples=150, deadline=None)
@given(NUMBERS, NUMBERS)
def test_numbers_are_compared_alike_with_and_without_the_process(
    verifier: MathAnswerVerifier, one: str, other: str
) -> None:
    for expected, answer in ((one, other), (one, one)):
        nodes = read_math(expected), read_math(answer)
        compared = verifier._process.compare(*nodes, ComparisonSettings(allow_unevaluated=False))
        assert compared == ("equal" if _equal_without_process(*nodes) else "different")


@pytest.mark.parametrize(
    ("reference", "response"),
    [
        ("1602", r"\boxed{37\cdot 43+11}"),
        ("55", r"\boxed{\sum_{n=1}^{10} n}"),
        ("\\frac{1}{2}", r"\boxed{\int_0^1 x\,dx}"),
        ("1024", r"\boxed{2^{10}}"),
        ("\\pi^2", r"\boxed{\int_0^{\pi} 2x\,dx}"),
        ("(1, 4)", r"\boxed{(1, 2+2)}"),
    ],
)
def test_what_is_not_evaluated_is_right_by_an_option_only(reference: str, response: str) -> None:
    problem = Problem("?", reference)
    for allowed, verdict in ((False, "wrong"), (True, "correct")):
        verifier = build(allow_unevaluated=allowed)
        assert verifier.verify(problem, response).verdict == verdict
        verifier.close()


@pytest.mark.parametrize("reference", ["45°", "√2", "10:30 a.m.", "4", r"\text{Evelyn}", "(1,2]"])
def test_a_reference_that_can_be_read_passes_the_check(
    verifier: MathAnswerVerifier, reference: str
) -> None:
    verifier.check_problem(Problem("?", reference))


@pytest.mark.parametrize(
    "reference",
    ["Even n.", "", "#### eighteen", "3 or so", r"\frac{1}{", "x = ?", r"\boxed{9^{9^{9^9}}}"],
)
def test_a_reference_that_cannot_be_read_is_found_before_anything_is_sampled(
    verifier: MathAnswerVerifier, reference: str
) -> None:
    with pytest.raises(VerifierError, match="reference"):
        verifier.check_problem(Problem("?", reference))


def test_a_process_killed_from_outside_is_replaced() -> None:
    # Its own: one that has compared for other tests may be due to retire.
    verifier = build()
    problem = Problem("?", "x+1")
    verifier.verify(problem, "#### 1+x")
    pid = verifier._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert verifier.verify(problem, "#### 1+x").verdict == "correct"
    assert verifier._process.pid != pid
    verifier.close()


def test_a_large_host_does_not_wear_its_process_out() -> None:
    """The kernel's peak of a new process begins with that of the one that started it."""
    verifier = build(memory_limit_mib=512)
    ballast = bytearray(b"x" * (400 << 20))
    problem = Problem("?", "x+1")
    verifier.verify(problem, "#### 1+x")
    pid = verifier._process.pid
    assert pid is not None
    assert verifier.verify(problem, "#### 1+x").verdict == "correct"
    assert verifier._process.pid == pid
    assert len(ballast) > 256 << 20
    verifier.close()


def test_close_ends_the_process_and_may_be_repeated() -> None:
    verifier = build()
    verifier.verify(Problem("?", "x+1"), "#### 1+x")
    pid = verifier._process.pid
    verifier.close()
    verifier.close()
    assert not (PROC / str(pid)).exists()
    assert verifier.verify(Problem("?", "x+1"), "#### 1+x").verdict == "correct"
    verifier.close()


class _Interrupted(Exception):
    pass


def test_an_interrupted_comparison_leaves_no_answer_for_the_next_one() -> None:
    def interrupt(number: int, frame: Any) -> None:
        raise _Interrupted

    verifier = build(cpu_limit_s=3.0)
    assert verifier.verify(Problem("?", "x+1"), "#### 1+x").verdict == "correct"
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(_Interrupted):
            verifier.verify(Problem("?", "2x"), HANGS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert verifier.verify(Problem("?", "x+1"), "#### 1+x").verdict == "correct"
    assert verifier.verify(Problem("?", "x+1"), "#### 2+x").verdict == "wrong"
    verifier.close()


def _verdict_in_a_fork(verifier: MathAnswerVerifier, answers: Any) -> None:
    answers.put(verifier.verify(Problem("?", "x+1"), "#### 1+x").verdict)
    answers.put(verifier._process.pid)
    verifier.close()


def test_a_forked_worker_does_not_share_its_parents_process(verifier: MathAnswerVerifier) -> None:
    verifier.verify(Problem("?", "x+1"), "#### 1+x")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_verdict_in_a_fork, args=(verifier, answers))
    child.start()
    assert answers.get(timeout=120) == "correct"
    assert answers.get(timeout=120) != verifier._process.pid
    child.join(60)
    assert verifier.verify(Problem("?", "x+1"), "#### 1+x").verdict == "correct"


ORPHAN = """
import sys
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
verifier = VERIFIERS.build("math_answer", {"cpu_limit_s": 300.0}, reveal="nothing")
verifier.verify(Problem("?", "x+1"), "#### 1+x")
print(verifier._process.pid, flush=True)
verifier.verify(Problem("?", "2x"), sys.argv[1])
"""


@pytest.mark.parametrize("response", [HANGS, "#### x"])
def test_no_process_outlives_a_killed_parent(response: str) -> None:
    """Also not one that is in the middle of an endless calculation."""
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, response], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while _runs(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_every_gsm8k_reference_is_correct_by_both_verifiers(verifier: MathAnswerVerifier) -> None:
    final_number = VERIFIERS.build("final_number", {}, reveal="nothing")
    for row in shared_rows("gsm8k/train.jsonl", "gsm8k/test.jsonl"):
        problem = Problem(row["question"], row["answer"])
        for one in (verifier, final_number):
            assert one.verify(problem, row["answer"]).reward == 1.0, row
