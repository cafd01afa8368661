"""Verifiers that hang, die or break, and runs that are interrupted: real processes (about 60 s)."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from scratch_run import ScratchRun

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


def test_a_defect_ends_the_run_and_says_where(scratch: ScratchRun) -> None:
    (raised,) = scratch.results([*ANSWERS, "defect of mine"])
    assert raised["raised"] == "VerifierError"
    assert "a defect of it" in raised["text"]
    assert "TypeError: of mine" in raised["text"]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("error unavailable", r"unavailable"),
        ("defect here", r"failed while it was built"),
        ("exit 7", r"ended with status 7 before it could judge"),
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
    for worker in scratch.workers():
        os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert [json.loads(line) for line in output.splitlines()][1:] == [*VERDICTS, "wrong"]
    assert scratch.calls() == dict.fromkeys(ANSWERS, 1) | {"sleep 3": 2}
    assert scratch.processes() == []


def _finish(scratch: ScratchRun, responses: list[str]) -> list[Any]:
    process = scratch.start(responses)
    output, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in output.splitlines()]
