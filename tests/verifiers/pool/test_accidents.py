"""Verifiers that hang, die or break, and runs that are interrupted: real processes (about 60 s)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scratch_run import PROJECT, ScratchRun

from distil_core.config.models import Component, ConsultParams
from distil_core.sandbox import Limits
from distil_core.verifiers import VERIFIERS

ANSWERS = [f"say {number} {'right' if number % 3 else 'other'}" for number in range(12)]
VERDICTS = ["correct" if number % 3 else "wrong" for number in range(12)]


@pytest.fixture
def scratch(tmp_path: Path) -> ScratchRun:
    return ScratchRun(tmp_path.resolve())


@pytest.mark.parametrize("num_workers", [1, 3])
def test_equal_responses_are_verified_once(scratch: ScratchRun, num_workers: int) -> None:
    results = scratch.results(ANSWERS * 3, num_workers=num_workers)
    assert results == VERDICTS * 3
    assert scratch.calls() == dict.fromkeys(ANSWERS, 1)
    assert not (scratch.root / "journal.sqlite").exists()


@pytest.mark.parametrize("how", ["sleep 1000", "hold"])
def test_a_verifier_that_hangs_is_stopped(scratch: ScratchRun, how: str) -> None:
    responses = [*ANSWERS[:5], how, *ANSWERS[5:]]
    results = scratch.results(responses, timeout_s=2.0)
    assert results[:5] + results[6:] == VERDICTS
    assert "no verdict within 2 s (consult.verify_timeout_s)" in results[5]["error"]
    assert scratch.calls()[how] == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [("die", "was killed by SIGKILL, as the kernel does when memory"), ("exit 3", "status 3")],
)
def test_a_response_that_kills_its_worker_twice_is_an_error(
    scratch: ScratchRun, how: str, said: str
) -> None:
    results = scratch.results([*ANSWERS[:5], how, *ANSWERS[5:]], timeout_s=None)
    assert results[:5] + results[6:] == VERDICTS
    assert said in results[5]["error"]
    assert scratch.calls() == dict.fromkeys(ANSWERS, 1) | {how: 2}


def test_a_worker_that_dies_is_replaced_and_its_row_tried_again(scratch: ScratchRun) -> None:
    results = scratch.results([*ANSWERS, "die_once marker right"], num_workers=1)
    assert results == [*VERDICTS, "correct"]


def test_a_missing_verdict_is_no_answer(scratch: ScratchRun) -> None:
    results = scratch.results(["error no sandbox", *ANSWERS])
    assert results == [{"error": "no sandbox"}, *VERDICTS]


DEFECTS = {
    "defect of mine": "TypeError: of mine (line ",
    "defect_exit now": "SystemExit: now (line ",
    "defect_silent": "its message cannot be had: ZeroDivisionError",
    "defect_odd": "OddError: far away (line ",
    "give nothing": "it gave NoneType in place of a Verification",
    "give reward": "it gave the reward nan, expected a number from 0 to 1",
    "give verdict": "it gave the verdict 'fine', expected one of correct, wrong, malformed",
    "give feedback": "it gave feedback that is no text",
}


@pytest.mark.parametrize(("num_workers", "timeout_s"), [(1, None), (1, 60.0), (2, 60.0)])
def test_a_defect_on_a_response_is_a_row_with_an_error(
    scratch: ScratchRun, num_workers: int, timeout_s: float | None
) -> None:
    responses = [*ANSWERS[:5], *DEFECTS, *ANSWERS[5:]]
    results = scratch.results(responses, num_workers=num_workers, timeout_s=timeout_s)
    last = 5 + len(DEFECTS)
    assert results[:5] + results[last:] == VERDICTS
    for result, said in zip(results[5:last], DEFECTS.values(), strict=True):
        assert said in result["error"]
        assert "defect" in result["error"]


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    "responses",
    [
        ["defect of mine"],
        [f"error {number}" for number in range(7)],
        [f"defect {number}" for number in range(32)] + ANSWERS,
    ],
    ids=["one", "all of a few", "the first ones"],
)
def test_a_verifier_without_any_verdict_ends_the_stage(
    scratch: ScratchRun, responses: list[str], num_workers: int
) -> None:
    (raised,) = scratch.results(responses, num_workers=num_workers, chunk_size=1, problems=8)
    assert raised["raised"] == "VerifierError"
    assert "no verdict on any of" in raised["text"]
    assert any(response.split(" ")[1] in raised["text"] for response in responses)
    # The next run, with a verifier that has been mended, goes on.
    assert scratch.results(ANSWERS) == VERDICTS


def test_many_failures_of_one_problem_are_not_the_verifiers(scratch: ScratchRun) -> None:
    responses = [*(f"error {number}" for number in range(40)), *ANSWERS]
    results = scratch.results(responses, num_workers=1, timeout_s=None, problems=1)
    assert [result for result in results if isinstance(result, str)] == VERDICTS


def test_failures_after_a_verdict_do_not_end_the_stage(scratch: ScratchRun) -> None:
    responses = ["say right", *(f"error {number}" for number in range(40))]
    results = scratch.results(responses, num_workers=1, timeout_s=None, problems=8)
    assert results == ["correct", *({"error": str(number)} for number in range(40))]


def test_a_verifier_that_always_hangs_ends_the_stage_soon(scratch: ScratchRun) -> None:
    responses = [f"sleep {number}" for number in range(1000, 1020)]
    (raised,) = scratch.results(responses, num_workers=2, timeout_s=0.5)
    assert "no verdict on any of 4 responses" in raised["text"]
    assert "consult.verify_timeout_s" in raised["text"]


def test_no_verifier_may_hang_for_ever_unless_it_is_asked_for() -> None:
    params = ConsultParams(verifier=Component(name="final_number"), reveal="nothing")
    assert params.verify_timeout_s is not None
    assert params.verify_timeout_s >= 50 * Limits().wall_time_s


@pytest.mark.parametrize(
    ("is_bounded", "timeout_s", "here"),
    [(True, 60.0, True), (False, 60.0, False), (False, None, True), (True, None, True)],
)
def test_only_a_bounded_verifier_runs_in_the_stages_own_process(
    scratch: ScratchRun, is_bounded: bool, timeout_s: float | None, here: bool
) -> None:
    process = scratch.start(
        ANSWERS, num_workers=1, timeout_s=timeout_s, build="bounded" if is_bounded else ""
    )
    output, _ = process.communicate(timeout=120)
    assert [json.loads(line) for line in output.splitlines()][1:] == VERDICTS
    assert (scratch.workers() == {process.pid}) is here


PROMISING = [
    name
    for name in VERIFIERS.names()
    if "is_bounded = True" in (PROJECT / f"distil_core/verifiers/{name}.py").read_text("utf-8")
]


@pytest.mark.parametrize("name", PROMISING)
def test_a_bounded_verifier_ends_soon_whatever_it_reads(name: str) -> None:
    """Hostile texts, under the kernel's limits of CPU time and memory."""
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, name],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


BOUNDED = """
import resource, sys
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
name = sys.argv[1]
options = {"modulus": 7} if name in ("chain_arithmetic", "worked_or_direct") else {}
problem = {
    "chain_arithmetic": Problem("3+2-1=", "54"),
    "unit_algebra": Problem("V*C/s=", "12b0 12c0"),
    "worked_or_direct": Problem("321=", "w56"),
}.get(name, Problem("?", "1"))
verifier = VERIFIERS.build(name, options, reveal="nothing")
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
size = 1 << 20
pieces = ["0", "9", " ", "a", "(", "\\n", "1e9", "**", "-", "a0a0 ", "\\u0967", "\\ud800"]
for piece in pieces:
    for text in (piece, piece * (size // len(piece)), piece * (size // len(piece)) + "!"):
        try:
            verifier.verify(problem, text)
        except VerifierError:
            pass
"""


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("error unavailable", r"unavailable"),
        ("defect here", r"failed while it was built"),
        ("exit 7", r"ended with status 7 before it could answer"),
    ],
)
def test_a_verifier_that_cannot_be_built(scratch: ScratchRun, build: str, said: str) -> None:
    (raised,) = scratch.results(ANSWERS, build=build)
    assert raised["raised"] == "VerifierError"
    assert said in raised["text"]


def test_what_a_verifier_started_ends_with_it(scratch: ScratchRun) -> None:
    assert scratch.results(["child", *ANSWERS]) == ["wrong", *VERDICTS]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("last", ["sleep 1000", "hold", "child"])
def test_an_interrupted_run_leaves_nothing_and_goes_on(
    scratch: ScratchRun, number: signal.Signals, last: str
) -> None:
    """The parent is ended while its workers are at the last two rows."""
    responses = [*ANSWERS, last, "sleep 999"]
    process = scratch.start(responses, chunk_size=1)
    scratch.wait(lambda: {last, "sleep 999"} <= scratch.calls().keys(), "the last row is begun")
    time.sleep(0.5)
    process.send_signal(number)
    process.communicate(timeout=60)
    scratch.wait(lambda: scratch.processes() == [], "all processes are gone")
    before = scratch.calls()
    assert before == dict.fromkeys(responses, 1)
    resumed, *results = _finish(scratch, [*ANSWERS, "say right"])
    assert resumed["resumed"] == len(ANSWERS) + (last == "child")
    assert results == [*VERDICTS, "correct"]
    assert scratch.calls() == before | {"say right": 1}


def test_a_worker_killed_from_outside_costs_nothing(scratch: ScratchRun) -> None:
    process = scratch.start([*ANSWERS, "sleep 3"], chunk_size=1)
    scratch.wait(lambda: "sleep 3" in scratch.calls(), "the slow row is begun")
    # That one alone: a second one that has been given the row meanwhile would be its second death.
    os.kill(scratch.worker_at("sleep 3"), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert [json.loads(line) for line in output.splitlines()][1:] == [*VERDICTS, "wrong"]
    assert scratch.calls() == dict.fromkeys(ANSWERS, 1) | {"sleep 3": 2}
    assert scratch.processes() == []


def _finish(scratch: ScratchRun, responses: list[str]) -> list[Any]:
    process = scratch.start(responses)
    output, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in output.splitlines()]
