"""Any text whatever gets a verdict from any verifier, in bounded time: what breaks that, found.

`python -m benchmarks.fuzz_verifiers [--seed N] [--num-responses 2000] [--verifiers quantity ..]`
makes responses out of mutated right answers, pieces of markup, numbers and units, any code points,
and extremes, and prints each that raises, hangs or yields what cannot be kept, with the seed that
makes it again. Without `--seed` the responses are new ones. It ends with 1 where it found any.
"""

import argparse
import importlib.util
import json
import math
import random
import secrets
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import FrameType
from typing import Any

from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification, Verifier

CPU_LIMIT_S = 10.0
"""Of one response, in this process. Twenty times what the slowest needs."""
_MAX_KEPT_CHARACTERS = 2000
_MAX_FEEDBACK_CHARACTERS = 200_000

_LIMITS = {"cpu_time_s": 0.5, "wall_time_s": 30, "memory_mb": 300, "output_kb": 64}
_CALLS = {
    "entry_point": "f",
    "tests": [{"arguments": "(1,)", "expected": "4", "public": True}],
}
_TOOLS = [{"name": "find", "parameters": {"properties": {"n": {"default": 1}}}}]
_CODE = "def f(x):\n    return 3 * x + 1"


@dataclass(frozen=True)
class Case:
    """Problems of one verifier, and right answers to mutate. needs: a module or a program that
    may be missing. cost: responses that take the time of one ordinary response."""

    problems: list[Problem]
    options: dict[str, Any] = field(default_factory=dict)
    rights: list[str] = field(default_factory=list)
    needs_sandbox: bool = False
    cost: int = 1


@dataclass(frozen=True)
class Finding:
    """A response that broke a verifier, and how."""

    verifier: str
    reference: str
    response: str
    what: str


def cases() -> dict[str, Case]:
    """One of each verifier of the registry; reasoning_gym's has no problems where the library is
    not installed."""
    forms = ["hash", "boxed", "answer_tag", "plain"]
    call = json.dumps([{"name": "find", "arguments": {"x": [1, {"y": None}]}}])
    asserts = {"entry_point": "f", "tests": [{"code": "assert f(1) == 4", "public": True}]}
    programs = {"tests": [{"stdin": "1\n", "stdout": "4\n", "public": True}]}
    slips = {"demonstrator_slip_probability": 0.5}
    directly = {"expert_direct_probability": 0.5, "demonstrator_direct_probability": 0.5}
    return {
        "answer_letter": Case(
            [Problem("Which?\nA: 1\nB: 2", "B")],
            rights=["<reasoning>x</reasoning><answer>B</answer>", "(B)", "\\text{B}"],
        ),
        "assert_tests": _code_case(asserts, _CODE),
        "by_field": Case(
            [
                Problem("Capital of France?", "Paris", '{"kind": "text"}'),
                Problem("6 * 7?", "#### 42", '{"kind": "number"}'),
                Problem("Which?", "B", '{"kind": 3}'),
            ],
            {
                "field": "kind",
                "verifiers": {
                    "text": {"name": "exact_text", "options": {"letter_case": False}},
                    "number": {"name": "final_number"},
                    "3": {"name": "answer_letter", "options": {"format_rule": "bare"}},
                },
            },
            ["Paris", "#### 42", "B"],
        ),
        "chain_arithmetic": _generated(
            "chain_arithmetic", {"num_operations": 6, "modulus": 7, **slips}, {"modulus": 7}
        ),
        "exact_text": Case(
            [
                Problem("Capital?", "New York"),
                Problem("Name?", "Ren\u00e9", '{"also": ["Rene\u0301e", "none"]}'),
            ],
            {"blanks": "runs", "letter_case": False, "also_field": "also"},
            ["new  york", " Rene\u0301 "],
        ),
        "final_number": Case(
            [Problem("?", "#### 1,018.5"), Problem("?", "#### -3")], rights=["1018.5", "-3 eggs"]
        ),
        "function_calls": _code_case(_CALLS, _CODE),
        "linear_expression": _generated(
            "linear_expression", {"num_variables": 3, **slips}, {}, needs_sandbox=True, cost=30
        ),
        "math_answer": Case(
            [Problem("?", r"\frac{1}{2}"), Problem("?", r"x^2+\sqrt{2}"), Problem("?", "(0,1]")],
            {"forms": forms, "cpu_limit_s": 1.0},
            [r"\frac{1}{2}", r"x^2+\sqrt{2}", "(0,1]", "0 < x \\le 1"],
            cost=10,
        ),
        "multiple_choice": Case([Problem("abc=", "0", '{"accepted": "02"}')], rights=["0"]),
        "quantity": Case(
            [Problem("?", text) for text in ("56.2 pC", "25 °C", "5 %", "90 min", "5", "3 dB")],
            {"forms": forms},
            ["56.2 pC", "25 °C", "1 h 30 min", "\\SI{3e8}{\\metre\\per\\second}", "5 J/(mol K)"],
        ),
        "reasoning_gym": _reasoning_gym(),
        "regular_expression": Case(
            [Problem("When?", "1815-06-18"), Problem("Who?", "Ada (Countess)")],
            {"pattern": r"(?:[a-z]+ )*answer: (?P<answer>(?:.+)+)", "flags": ["ignore_case"]},
            ["The answer: 1815-06-18", "answer: Ada (Countess)"],
            cost=3,
        ),
        "stdin_programs": _code_case(programs, "print(3 * int(input()) + 1)"),
        "tool_calls": Case(
            [Problem("?", call, json.dumps({"tools": _TOOLS}))],
            rights=[call, f"<tool_call>{call}</tool_call>", 'Action: find\nAction Input: {"x": 1}'],
        ),
        "unit_algebra": _generated("unit_algebra", {"num_operations": 4, **slips}, {}),
        "worked_or_direct": _generated(
            "worked_or_direct", {"num_digits": 6, "modulus": 7, **slips, **directly}, {"modulus": 7}
        ),
    }


def _coded(metadata: dict[str, Any]) -> Problem:
    return Problem("Write it.", "", json.dumps(metadata))


def _code_case(metadata: dict[str, Any], right: str) -> Case:
    options = {"limits": _LIMITS}
    return Case([_coded(metadata)], options, [right], needs_sandbox=True, cost=30)


def _generated(name: str, source: dict[str, Any], options: dict[str, Any], **more: Any) -> Case:
    problems = list(islice(PROBLEM_SOURCES.build(name, source).problems("eval", 1), 3))
    return Case(problems, options, [problem.reference for problem in problems], **more)


def _reasoning_gym() -> Case:
    if importlib.util.find_spec("reasoning_gym") is None:
        return Case([])
    version = importlib.import_module("importlib.metadata").version("reasoning-gym")
    problems = [
        next(
            PROBLEM_SOURCES.build(
                "reasoning_gym", {"dataset": dataset, "version": version}
            ).problems("eval", 1)
        )
        for dataset in ("chain_sum", "coin_flip", "complex_arithmetic", "sudoku", "word_ladder")
    ]
    rights = [f"<answer>{problem.reference}</answer>" for problem in problems]
    return Case(problems, {"cpu_limit_s": 2.0}, rights, cost=3)


_PIECES = [
    *("#### ", "\\boxed{", "\\fbox {", "}", "{", "<answer>", "</answer>", "<think>", "</think>"),
    *("<reasoning>", "</reasoning>", "<tool_call>", "</tool_call>", "```python\n", "\n```\n"),
    *('{"name": "find"', '"arguments": ', "[", "]", ":", ",", "\n", " ", "\t", "Action: find\n"),
    *("Action Input: {}", "answer is ", "$", "\\$", "**", "`", "\\frac{1}{2}", "\\frac", "^", "_"),
    *("10", "2", "-3.5", "1e8", "1e999", "1e99999999", "9" * 400, "1,000", "0x1f", "1_0", "=", "≈"),
    *(
        "+",
        "-",
        "\u2212",
        "*",
        "/",
        "//",
        "**",
        "(",
        ")",
        "%",
        "!",
        "|",
        "&",
        "\\",
        "\\pi",
        "\\sqrt{",
    ),
    *("\\text{", "\\mathrm{", "\\SI{", "\\begin{cases}", "\\sum_{n=1}^{10}", "\\int", "\\infty"),
    *("m/s", "kΩ", "°C", "°", "dB", "hbar", "MJoule", "photons", "h", "30 min", "per", "square"),
    *(
        "Å",
        "µ",
        "¼",
        "½",
        "①",
        "²",
        "⁻",
        "٣",
        "\U0001d7d9",
        "Ⅷ",
        "一",
        "\uff11",
        "\u2044",
        "\u0301",
        "\u200b",
    ),
    *("\u202e", "\ufeff", "\x00", "\x1b", "\x7f", "\ud800", "\udfff", "\U0010ffff", "NaN", "inf"),
    *("null", "true", "None", "x", "A", "B", "or", "not", "\\ne", "\\cup", "\\emptyset", "i", "e"),
    *("import os", "while True: pass", "def f(x):\n", "    return ", "lambda: ", "f'{", "raise "),
    *("w", "d", "0", "1", "a", "@", "1018.5", "3 * x"),
]
_WRAPPERS = [
    *("{}", "{}", "#### {}", "\\boxed{{{}}}", "<answer>{}</answer>", "```python\n{}\n```"),
    *("<reasoning>x</reasoning><answer>{}</answer>", "<tool_call>{}</tool_call>", "```\n{}\n```"),
    *("<think>{}</think>1", "Action: find\nAction Input: {}", "so the answer is {}.", "\\[{}\\]"),
]
_EXTREMES = [
    *("[" * 10_000, "(" * 10_000, "{" * 10_000, "[[" * 50 + "]]" * 50, "-" * 5_000, "!" * 900),
    *("9" * 100_000, "1" * 900, "1 " * 450, "1," * 450, "10^" * 200 + "10", "9**" * 200 + "9"),
    *(
        "\\frac{" * 5_000,
        "\\boxed{" * 5_000,
        "\\text{" * 100,
        "\\sqrt{" * 140,
        "^" * 900,
        "_" * 900,
    ),
    *(
        "`" * 50_000,
        "```\n" * 5_000,
        "\x00" * 900,
        "<answer>" * 5_000,
        "<think>" * 5_000,
        "#" * 9_000,
    ),
    *("</think>" * 5_000, "<tool_call>" * 5_000, '"' * 50_000, "\\" * 50_000, "$" * 900, "=" * 900),
    *(
        "e\u0301" * 400,
        "\ud800" * 400,
        "½" * 400,
        "m" * 900,
        "m^2 " * 200,
        "°" * 900,
        "\n" * 50_000,
    ),
    *("1 h " * 200, "f(" * 300, "x" + "+x" * 400, "\\left(" * 150, "1e" + "9" * 300, "." * 900),
    *("0." + "0" * 800 + "1", "lambda:" * 300, "not " * 3_000, "(" * 150 + "1" + ")" * 150, ""),
]


def responses(seed: int, rights: list[str]) -> Iterator[str]:
    """An endless stream of responses, the same for the same seed."""
    made = random.Random(seed)
    while True:
        kind = made.random()
        if kind < 0.35 and rights:
            text = _mutated(made, made.choice(rights))
        elif kind < 0.75:
            text = "".join(made.choices(_PIECES, k=made.randint(1, 12)))
        elif kind < 0.9:
            text = "".join(chr(made.randrange(_highest(made))) for _ in range(made.randint(1, 40)))
        else:
            text = made.choice(_EXTREMES)
        yield made.choice(_WRAPPERS).format(text)


def _highest(made: random.Random) -> int:
    return made.choice([0x80, 0x100, 0x3000, 0x110000])


def _mutated(made: random.Random, text: str) -> str:
    for _ in range(made.randint(0, 3)):
        start = made.randint(0, len(text))
        end = min(len(text), start + made.randint(0, 4))
        middle = made.choice(["", made.choice(_PIECES), text[start:end] * 2])
        text = text[:start] + middle + text[end:]
    return text


class _TooLongError(BaseException):
    """Of no kind that a verifier may catch."""


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def broken_by(verifier: Verifier, problem: Problem, response: str) -> str | None:
    """What is wrong with what the verifier makes of the response, or None."""
    try:
        with _limited():
            result = verifier.verify(problem, response)
    except _TooLongError:
        return f"no verdict within {CPU_LIMIT_S:g} s of CPU time"
    except Exception as error:
        # Whatever it is: to find it is what this is for.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        return f"{type(error).__name__}: {str(error)[:200]} ({where})"
    return _unkeepable(result)


def _unkeepable(result: Verification) -> str | None:
    texts = [item.text for item in result.feedback]
    kept = "".join([*texts, result.answer or ""])
    is_right = result.reward == 1
    faults = {
        f"the verdict {result.verdict!r}": result.verdict not in ("correct", "wrong", "malformed"),
        f"the reward {result.reward}, {result.verdict}": not 0 <= result.reward <= 1
        or is_right != (result.verdict == "correct"),
        "no feedback": not is_right and not texts,
        "feedback without end": sum(map(len, texts)) > _MAX_FEEDBACK_CHARACTERS,
        "a long answer is kept": len(result.answer or "") > _MAX_KEPT_CHARACTERS,
        "what cannot be stored": kept != kept.encode("utf-8", "replace").decode(),
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def findings(name: str, case: Case, seed: int, num_responses: int) -> Iterator[Finding]:
    """Responses that break the verifier, of num_responses (fewer where each is costly)."""
    verifier = VERIFIERS.build(name, case.options, reveal="nothing")
    stream = responses(seed, case.rights)
    try:
        for number in range(math.ceil(num_responses / case.cost) if case.problems else 0):
            problem, response = case.problems[number % len(case.problems)], next(stream)
            if what := broken_by(verifier, problem, response):
                yield Finding(name, problem.reference, response, what)
    finally:
        verifier.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--num-responses", type=int, default=2000)
    parser.add_argument("--verifiers", nargs="+", choices=VERIFIERS.names(), default=None)
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    count = 0
    for name, case in cases().items():
        if arguments.verifiers and name not in arguments.verifiers:
            continue
        started = time.process_time()
        for finding in findings(name, case, seed, arguments.num_responses):
            count += 1
            print(f"{name}, reference {finding.reference!r}: {finding.what}")
            print(f"    {finding.response!r:.600}", flush=True)
        print(f"{name}: {time.process_time() - started:.0f} s of CPU time", flush=True)
    raise SystemExit(f"{count} findings" if count else 0)


if __name__ == "__main__":
    main()
