"""Speed, memory and agreement of the verifiers of answers, beside math-verify as it is.

`python -m benchmarks.verifiers [--rows 10000] [--shared ../shared/data]`: each verifier judges its
rows one by one in a process of its own. The peer is math-verify called in-process with its own
timeouts, `verify(parse(reference), parse(response))`, as its users call it. Rows come from GSM8K
and SciKnowEval where they lie under `--shared`, else they are generated.
"""

import argparse
import functools
import json
import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS

PEER = "math-verify, in-process"
PLAIN = "math_answer, plain too"
# A problem, a response, and whether it was made to be right (None where nothing says so).
Row = tuple[Problem, str, bool | None]
_OPTION = re.compile(r"^[A-D]: (\$?-?\d.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Timing:
    """What one verifier did with its rows. start_s: of the first row, with what it loads."""

    name: str
    rows: str
    num_rows: int
    start_s: float
    seconds: float
    p50_ms: float
    p99_ms: float
    peak_mib: float
    child_peak_mib: float
    verdicts: list[str]


def main() -> None:
    """Print a table, and how the verifiers of numbers agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    cases = [
        ("final_number", "word problems"),
        ("math_answer", "word problems"),
        (PLAIN, "word problems"),
        (PEER, "word problems"),
        ("math_answer", "expressions"),
        (PEER, "expressions"),
        ("answer_letter", "multiple choice"),
        ("quantity", "quantities"),
        ("tool_calls", "tool calls"),
    ]
    timings = []
    print(f"{'verifier':26}{'rows':17}{'number':>7}{'rows/s':>9}{'p50 ms':>9}{'p99 ms':>9}", end="")
    print(f"{'start s':>9}{'peak MiB':>10}{'its process':>13}")
    for name, kind in cases:
        timing = _in_own_process(name, kind, arguments.rows, arguments.shared)
        timings.append(timing)
        rate = (timing.num_rows - 1) / timing.seconds
        print(f"{name:26}{kind:17}{timing.num_rows:7}{rate:9.0f}{timing.p50_ms:9.3f}", end="")
        print(f"{timing.p99_ms:9.3f}{timing.start_s:9.2f}{timing.peak_mib:10.0f}", end="")
        print(f"{timing.child_peak_mib or '':>13.6}", flush=True)
    _print_agreement(timings, ROWS["word problems"](arguments.rows, arguments.shared))


def _print_agreement(timings: list[Timing], rows: list[Row]) -> None:
    """Against what the word problems were made to be. Without `plain` an unmarked answer is
    malformed on purpose; the others read it."""
    for timing in timings:
        if timing.rows != "word problems":
            continue
        missed = [
            (verdict, row)
            for verdict, row in zip(timing.verdicts, rows, strict=True)
            if (verdict == "correct") != row[2]
        ]
        malformed = sum(verdict == "malformed" for verdict, _ in missed)
        print(f"{timing.name}: {len(missed)} of {len(rows)} not as made, ", end="")
        print(f"{malformed} of them malformed")
        others = [one for one in missed if one[0] != "malformed"]
        for verdict, (problem, response, _) in others[:3]:
            print(f"  {verdict}: {response[-40:]!r}, reference {problem.reference[-12:]!r}")


def _in_own_process(name: str, kind: str, num_rows: int, shared: Path) -> Timing:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (name, kind, num_rows, shared))


def measure(name: str, kind: str, num_rows: int, shared: Path) -> Timing:
    """Judge the rows one by one, here."""
    rows = ROWS[kind](num_rows, shared)
    judge, close = _peer() if name == PEER else _verifier(name)
    seconds, verdicts = [], []
    for problem, response, _ in rows:
        started = time.perf_counter()
        verdicts.append(judge(problem, response))
        seconds.append(time.perf_counter() - started)
    close()
    rest = sorted(seconds[1:])
    return Timing(
        name=name,
        rows=kind,
        num_rows=len(rows),
        start_s=seconds[0],
        seconds=sum(rest),
        p50_ms=1000 * statistics.median(rest),
        p99_ms=1000 * rest[int(0.99 * len(rest))],
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        child_peak_mib=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        verdicts=verdicts,
    )


def _verifier(name: str) -> tuple[Callable[[Problem, str], str], Callable[[], None]]:
    options = {"forms": ["hash", "boxed", "plain"]} if name == PLAIN else {}
    verifier = VERIFIERS.build(name.partition(",")[0], options, reveal="nothing")

    def judge(problem: Problem, response: str) -> str:
        return str(verifier.verify(problem, response).verdict)

    return judge, verifier.close


def _peer() -> tuple[Callable[[Problem, str], str], Callable[[], None]]:
    def judge(problem: Problem, response: str) -> str:
        from math_verify import parse, verify

        return "correct" if verify(parse(problem.reference), parse(response)) else "wrong"

    return judge, lambda: None


def _word_problems(num_rows: int, shared: Path) -> list[Row]:
    """Solutions of GSM8K, 60% right, 30% with another final number, 10% without a marked one."""
    random = np.random.default_rng(0)
    sources = [(str(r["question"]), str(r["answer"])) for r in _read(shared, "gsm8k")]
    sources = sources or [_generated_word_problem(random) for _ in range(1000)]
    rows: list[Row] = []
    for index in range(num_rows):
        question, solution = sources[index % len(sources)]
        steps, _, answer = re.sub("<<.*?>>", "", solution).rpartition("####")
        value, kind = int(answer.replace(",", "")), random.random()
        if kind < 0.6:
            response = f"{steps}####{answer}"
        elif kind < 0.9:
            response = f"{steps}#### {value + int(random.integers(1, 20))}"
        else:
            response = f"{steps}The answer is{answer}"
        rows.append((Problem(question, solution), response, not 0.6 <= kind < 0.9))
    return rows


def _generated_word_problem(random: np.random.Generator) -> tuple[str, str]:
    a, b, c = (int(value) for value in random.integers(2, 60, 3))
    steps = f"There are {a} * {b} = {a * b} of them.\nWith {c} more {a * b} + {c} = {a * b + c}.\n"
    return f"{a} times {b} and {c}?", f"{steps}#### {a * b + c}"


def _expressions(num_rows: int, shared: Path) -> list[Row]:
    """LaTeX answers for which equality is not plain: fractions, roots, polynomials, intervals."""
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for index in range(min(num_rows, 2000)):
        a, b, c = (int(value) for value in random.integers(2, 30, 3))
        slip = int(random.random() < 0.4)
        reference, answer = [
            (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{a * c}}}{{{b * c + slip}}}"),
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b + slip}}}"),
            (f"x^2+{a + b}x+{a * b}", f"(x+{a})(x+{b + slip})"),
            (f"({a},{a + b}]", f"({a},{a + b + slip}]"),
        ][index % 4]
        rows.append(
            (Problem("?", rf"$\boxed{{{reference}}}$"), rf"So it is $\boxed{{{answer}}}$.", None)
        )
    return rows


def _multiple_choice(num_rows: int, shared: Path) -> list[Row]:
    random = np.random.default_rng(0)
    sources = [(str(row["prompt"]), str(row["answer"])) for row in _read(shared, "sciknoweval")]
    sources = sources or [("Which?\nA: 1 m\nB: 2 m\nC: 3 m\nD: 4 m", letter) for letter in "ABCD"]
    rows: list[Row] = []
    for index in range(num_rows):
        prompt, answer = sources[index % len(sources)]
        given = "ABCD"[int(random.integers(4))] if random.random() < 0.5 else answer
        form = "<answer>\n{}\n</answer>" if random.random() < 0.9 else "<answer>{} m</answer>"
        response = f"<reasoning>\n{prompt}\n</reasoning>\n{form.format(given)}"
        rows.append((Problem(prompt, answer), response, None))
    return rows


def _quantities(num_rows: int, shared: Path) -> list[Row]:
    options = [option for row in _read(shared, "sciknoweval") for option in _numeric(row)]
    options = options or [[f"{n} pC", f"{n}e-3 nC", f"{n} C", f"{n}"] for n in range(1, 100)]
    rows: list[Row] = []
    for index in range(num_rows):
        of_one = options[index % len(options)]
        answer = of_one[index // len(options) % len(of_one)]
        rows.append((Problem("?", of_one[0]), rf"So it is \boxed{{{answer}}}.", None))
    return rows


def _numeric(row: dict[str, Any]) -> list[list[str]]:
    """The options of a physics problem, as one list, where all can be read as quantities."""
    found = _OPTION.findall(str(row["prompt"]))
    return [found] if len(found) == 4 and all(_is_quantity(option) for option in found) else []


def _is_quantity(text: str) -> bool:
    try:
        verdict = _quantity_verifier().verify(Problem("?", text), rf"\boxed{{{text}}}").verdict
    except VerifierError:
        return False
    return bool(verdict == "correct")


@functools.cache
def _quantity_verifier() -> Any:
    return VERIFIERS.build("quantity", {}, reveal="nothing")


def _tool_calls(num_rows: int, shared: Path) -> list[Row]:
    random = np.random.default_rng(0)
    tools = [
        {
            "name": f"tool_{number}",
            "parameters": {"properties": {"unit": {"default": "m"}, "place": {}, "days": {}}},
        }
        for number in range(8)
    ]
    metadata = json.dumps({"tools": tools})
    rows: list[Row] = []
    for _ in range(num_rows):
        calls = [
            {"name": f"tool_{int(random.integers(8))}", "arguments": {"place": "Rome", "days": day}}
            for day in range(int(random.integers(1, 4)))
        ]
        given = [{**call, "arguments": {"days": 1, "place": "Rome", "unit": "m"}} for call in calls]
        blocks = (f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in given)
        rows.append((Problem("?", json.dumps(calls), metadata), "\n".join(blocks), None))
    return rows


def _read(shared: Path, folder: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted((shared / folder).glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").split("\n")
        if line
    ]


ROWS: dict[str, Callable[[int, Path], list[Row]]] = {
    "word problems": _word_problems,
    "expressions": _expressions,
    "multiple choice": _multiple_choice,
    "quantities": _quantities,
    "tool calls": _tool_calls,
}

if __name__ == "__main__":
    main()
