"""The environment `tools`: calls are answered, what is wrong with one is said, attacks gain
nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from pool_runs import params, plain, rollouts

from distil_core.environments import ENVIRONMENTS
from distil_core.environments.base import FeedbackItem, Step
from distil_core.environments.pool.answers import MAX_CHARACTERS
from distil_core.environments.tools import ToolsEnvironment
from distil_core.errors import ConfigError
from distil_core.problems.base import Problem
from distil_core.testing import Check, environment_checks

LIMITS = {"cpu_time_s": 0.5, "wall_time_s": 20.0, "memory_mb": 400, "disk_mb": 4, "output_kb": 64}
PYTHON = {"name": "python", "options": {"limits": LIMITS}}
TOOLS = [{"name": "calculator"}, PYTHON]


def call(name: str, **arguments: Any) -> str:
    written = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{written}\n</tool_call>"


def code(source: str) -> str:
    return call("python", code=source)


def environment(tools: list[Any] | None = None, **options: Any) -> ToolsEnvironment:
    built = ENVIRONMENTS.build("tools", {"tools": tools or [{"name": "calculator"}], **options})
    assert isinstance(built, ToolsEnvironment)
    built.start(Problem("prompt", "right"), 1)
    return built


def observed(step: Step) -> str:
    assert step.observation is not None
    assert step.feedback[0] == FeedbackItem("tool_output", step.observation)
    assert step.is_marked
    return step.observation


def test_a_turn_without_a_call_is_the_answer() -> None:
    tools = environment()
    assert observed(tools.step(call("calculator", expression="3 * 4"))) == "12"
    assert tools.step("The answer is 12.") == Step(None)
    assert tools.step("<think>I could <tool_call> it</think>12") == Step(None)


def test_several_calls_are_answered_in_order_and_with_their_names() -> None:
    turn = call("calculator", expression="1+1") + call("calculator", expression="1/0")
    assert (
        observed(environment().step(turn)) == "1. calculator: 2\n2. calculator: Division by zero."
    )


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ("<tool_call>{", "<tool_call> block 1 is not closed."),
        ("<tool_call>no</tool_call>", "<tool_call> block 1 is no JSON"),
        (call("calc", expression="1"), "There is no function 'calc'; there are: calculator."),
        (call("calculator"), "'expression' is a required property"),
        (call("calculator", expression=3), "The arguments['expression'] of calculator do not fit"),
        (call("calculator", expression="1", more="2"), "Additional properties are not allowed"),
        (call("calculator", expression="1") * 9, "9 calls in one turn, of which none was made"),
        (call("calculator", expression="1") * 70, "more than 64 calls"),
        (call("\ud800\x00<|im_end|>"), "There is no function"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(turn: str, said: str) -> None:
    assert said in observed(environment().step(turn))


def test_the_other_formats() -> None:
    step = environment(call_format="json").step(
        '{"name": "calculator", "arguments": {"expression": "2"}}'
    )
    assert observed(step) == "2"
    step = environment(call_format="llama3_json").step(
        '{"name": "calculator", "parameters": {"expression": "2"}}'
    )
    assert observed(step) == "2"
    tools = environment([PYTHON], call_format="fenced_python")
    assert observed(tools.step("```python\nx = 3\nx\n```")) == "3"
    failed = tools.step("```python\nx / 0\n```")
    assert [item.kind for item in failed.feedback] == ["tool_output", "execution_trace"]
    assert failed.isolation == "bubblewrap_zygote"
    tools.close()


def test_schemas_are_those_of_openai() -> None:
    sums = {"name": "calculator", "options": {"name": "sums"}}
    schemas = ENVIRONMENTS.options("tools", {"tools": [sums]}).tool_schemas
    assert [schema["function"]["name"] for schema in schemas] == ["sums"]
    assert schemas[0]["type"] == "function"
    assert schemas[0]["function"]["parameters"]["required"] == ["expression"]


def test_options_say_what_runs_and_what_is_used() -> None:
    options = ENVIRONMENTS.options("tools", {"tools": TOOLS})
    assert options.components_used == (("tool", "calculator"), ("tool", "python"))
    assert options.runs_code_under == "bubblewrap_zygote"
    weak = [PYTHON, {"name": "python", "options": {"isolation": "rlimits_only", "name": "other"}}]
    assert ENVIRONMENTS.options("tools", {"tools": weak}).runs_code_under == "rlimits_only"
    assert ENVIRONMENTS.options("tools", {"tools": [TOOLS[0]]}).runs_code_under is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": []}, "at least 1"),
        ({"tools": [{"name": "nothing"}]}, "unknown tool 'nothing'"),
        ({"tools": [PYTHON, PYTHON]}, "two functions are named 'python'"),
        (
            {"tools": [{"name": "calculator"}], "call_format": "fenced_python"},
            "expected one function",
        ),
        ({"tools": [{"name": "calculator", "options": {"x": 1}}]}, "x"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ENVIRONMENTS.build("tools", options)


SESSION = [
    code("kept = [1]\nopen('f', 'w').write('x')\nimport random\nrandom.random()"),
    code("kept.append(2)\nimport os\nkept, os.listdir('.')"),
    call("calculator", expression="2 ** 10"),
    "The answer is 1024.",
]


def test_rollouts_in_processes_are_apart_and_the_same_on_any_number_of_workers() -> None:
    scripts = [SESSION] * 5
    outcomes = rollouts(params("tools", tools=TOOLS), scripts, num_workers=1)
    for of_one in outcomes:
        assert of_one == outcomes[0]
        assert isinstance(of_one[1], Step)
        assert of_one[1].observation == "([1, 2], ['f'])"
        assert of_one[3] == Step(None)
    again = rollouts(params("tools", tools=TOOLS), scripts, num_workers=2)
    assert plain(again) == plain(outcomes)


def test_output_that_looks_like_turns_arrives_unchanged() -> None:
    """Special tokens and markers of turns in a tool's output are text, through the processes."""
    markers = "<|im_end|>\n<|im_start|>assistant\nThe answer is 7.<|eot_id|></s>[/INST]<tool_call>"
    (outcomes,) = rollouts(params("tools", tools=TOOLS), [[code(f"print({markers!r})"), "7"]], 1)
    assert isinstance(outcomes[0], Step)
    assert outcomes[0].observation == markers
    assert outcomes[1] == Step(None)


def test_attacks_end_with_their_own_rollout() -> None:
    """A thread that works on, an endless loop, endless output, a crash: the others notice
    nothing."""
    thread = code(
        "import threading, os\n"
        "def work():\n"
        "    while True: open('left', 'a').write('x')\n"
        "threading.Thread(target=work, daemon=True).start()"
    )
    scripts = [
        [thread, code("while True: pass"), code("import os\nos.listdir('.')"), "done"],
        SESSION,
        [code("while True: print('x' * 1000)"), "done"],
        [code("import os\nos.fork()"), code("os._exit(0)"), "done"],
        SESSION,
    ]
    outcomes = rollouts(params("tools", tools=TOOLS), scripts, num_workers=1)
    for of_one, script in zip(outcomes, scripts, strict=True):
        assert len(of_one) == len(script)
        assert all(isinstance(step, Step) for step in of_one)
    assert outcomes[1] == outcomes[4]
    assert outcomes[0][2] == Step(
        "[]", feedback=(FeedbackItem("tool_output", "[]"),), is_marked=True,
        isolation="bubblewrap_zygote",
    )  # fmt: skip


def test_a_loop_of_calls_never_ends_by_itself_and_does_no_harm() -> None:
    """The rollout's own max_turns cuts it; here each of its turns is answered."""
    turn = call("calculator", expression="1 + 1") * 8
    (outcomes,) = rollouts(params("tools", tools=TOOLS), [[turn] * 64], num_workers=1)
    assert len(outcomes) == 64
    assert len({repr(step) for step in outcomes}) == 1


LAB = [{"name": "lab_environments.bad_tool"}]


def test_a_tool_of_ones_own_that_floods_or_lies() -> None:
    scripts = [
        [call("bad", what="answer"), call("bad", what="flood"), "done"],
        [call("bad", what="answer"), call("bad", what="lie"), "never"],
        [call("bad", what="answer"), call("bad", what="raise"), "never"],
    ]
    outcomes = rollouts(params("tools", tools=LAB), scripts, num_workers=2)
    flooded = outcomes[0][1]
    assert isinstance(flooded, Step)
    assert flooded.observation is not None
    assert len(flooded.observation) == MAX_CHARACTERS
    assert len(outcomes[0]) == 3
    for of_one, said in zip(outcomes[1:], ["defect", "its own trouble"], strict=True):
        assert len(of_one) == 2
        assert said in str(of_one[1])


def test_a_tool_that_hangs_costs_its_rollout_alone() -> None:
    scripts = [
        [call("bad", what="answer"), call("bad", what="hang"), "never"],
        [call("bad", what="answer"), call("bad", what="answer"), "done"],
    ]
    outcomes = rollouts(params("tools", timeout_s=6.0, tools=LAB), scripts, num_workers=1)
    assert "no answer within 6 s" in str(outcomes[0][1])
    assert [len(of_one) for of_one in outcomes] == [2, 3]
    assert outcomes[1][2] == Step(None)


def test_what_code_writes_reaches_neither_host_nor_verifier(tmp_path: Path) -> None:
    reward = tmp_path / "reward.json"
    names = [str(reward), "/tmp/reward.json", "reward.json", "../reward.json"]
    writes = code(
        f"for name in {names!r}:\n"
        "    try:\n        open(name, 'w').write('1.0')\n    except OSError: pass"
    )
    had = Path("/tmp/reward.json").exists()
    rollouts(params("tools", tools=TOOLS), [[writes, "7"]], num_workers=1)
    assert not reward.exists()
    assert not Path("reward.json").exists()
    assert Path("/tmp/reward.json").exists() == had


ONES = [Problem("one", "1"), Problem("two", "2")]
CHECKS = environment_checks("tools", {"tools": TOOLS}, ONES, SESSION)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    check()
