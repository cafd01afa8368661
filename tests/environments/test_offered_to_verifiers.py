"""A campaign's environment in the verifiers library's own rollouts, with a server for a policy."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.load import load_params_file
from distil_core.problems.splits import campaign_problems
from distil_core.problems.tool_sums import Sum, is_answer
from distil_core.verifiers import build_verifier

vf = pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed")

Policy = Callable[[list[dict[str, str]]], str]
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of sums, with and without the calculator between turns."""
    values = yaml.safe_load(PARAMS.read_text())
    values["problems"] |= {
        "source": {
            "name": "tool_sums",
            "options": {
                "min_operations": 2,
                "max_operations": 2,
                "demonstrator_slip_probability": 0.5,
            },
        },
        "num_eval": 4,
        "num_train": 400,
        "num_warm_start": 8,
    }
    values["problems"].pop("generalisation", None)
    values["context"]["max_context_tokens"] = 64
    values["consult"]["verifier"] = {"name": "exact_text", "options": {}}
    folder = tmp_path_factory.mktemp("offered")
    (folder / "single.yaml").write_text(yaml.safe_dump(values))
    values["context"]["environment"] = {
        "name": "tool_sums",
        "max_turns": 3,
        "max_observation_tokens": 8,
        "observation_template": "It is {observation}.",
    }
    (folder / "turns.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def served() -> Iterator[Callable[[Policy], str]]:
    """Serves a policy by the protocol of OpenAI's chat completions."""
    servers: list[ThreadingHTTPServer] = []

    def serve(policy: Policy) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                message = {"role": "assistant", "content": policy(body["messages"])}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                payload = json.dumps({**answer, "choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def right_actions(prompt: str) -> list[str]:
    """What a policy that can add says: calls, and the number that is left."""
    left = Sum.of(prompt)
    actions = [left.right_action]
    while not is_answer(actions[-1]):
        left = left.called(actions[-1])
        actions.append(left.right_action)
    return actions


def right(messages: list[dict[str, str]]) -> str:
    """The next of them."""
    num_said = sum(message["role"] == "assistant" for message in messages)
    return right_actions(messages[0]["content"])[num_said]


def sum_of_call(call: str) -> int:
    """Of two numbers and a sign."""
    left, sign, right_ = call.partition("+") if "+" in call else call.partition("-")
    return int(left) + int(right_) if sign == "+" else int(left) - int(right_)


def episodes(settings: Path, url: str) -> list[Any]:
    """One of each problem, by the library's own runner of an environment."""
    config = vf.resolve_env_config(
        {
            "taskset": {"id": "lab_offered", "settings": str(settings)},
            "policy": {"harness": {"id": "chat_harness"}, "runtime": {"type": "subprocess"}},
        }
    )
    environment = vf.load_environment(config)
    client = vf.EvalClientConfig(base_url=url, api_key_var="NO_SUCH_KEY")
    context = vf.ModelContext(model="m", client=client)

    async def run() -> list[Any]:
        async with environment.serving():
            slots = [slot for task in environment.taskset for slot in environment.slots(task)]
            return [await environment.run_slot(slot, context) for slot in slots]

    return asyncio.run(run())


def test_a_policy_that_can_use_the_calculator(settings: Path, served: Any) -> None:
    found = episodes(settings / "turns.yaml", served(right))
    params = load_params_file(settings / "turns.yaml")
    verifier = build_verifier(params.consult)
    problems = campaign_problems(params, verifier.check_problem).splits["eval"]
    assert [one.errors for one in found] == [[]] * 4
    for episode, problem in zip(found, problems, strict=True):
        (trace,) = episode.traces
        actions = right_actions(problem.prompt)
        read = [f"It is {sum_of_call(action)}." for action in actions[:-1]]
        assert actions[-1] == problem.reference
        assert [one.content for one in trace.messages if one.role == "user"] == [
            problem.prompt,
            *read,
        ]
        assert [one.content for one in trace.assistant_messages] == actions
        assert (trace.reward, trace.metrics) == (1.0, {"is_correct": 1.0})
        assert trace.info["verdict"] == "correct"
        assert ["execution_trace", problem.reference] in trace.info["feedback"]


def test_a_wrong_answer_and_one_that_never_comes(settings: Path, served: Any) -> None:
    wrong = episodes(settings / "turns.yaml", served(lambda messages: "0"))
    assert [(one.ok, one.traces[0].reward) for one in wrong] == [(True, 0.0)] * 4
    assert {one.traces[0].info["verdict"] for one in wrong} == {"wrong"}
    cut = episodes(settings / "turns.yaml", served(lambda messages: "1+1"))
    assert {one.traces[0].info["verdict"] for one in cut} == {"truncated"}
    assert {(one.traces[0].num_turns, one.traces[0].reward) for one in cut} == {(3, 0.0)}


def test_a_campaign_without_an_environment_is_one_turn(settings: Path, served: Any) -> None:
    params = load_params_file(settings / "single.yaml")
    verifier = build_verifier(params.consult)
    problems = campaign_problems(params, verifier.check_problem).splits["eval"]
    answers = {problem.prompt: problem.reference for problem in problems}
    url = served(lambda messages: answers[messages[0]["content"]])
    found = episodes(settings / "single.yaml", url)
    assert [(one.ok, one.traces[0].num_turns, one.traces[0].reward) for one in found] == [
        (True, 1, 1.0)
    ] * 4
