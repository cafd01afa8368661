"""Rollouts per second of our loop over turns and of the verifiers library's own, without a model.

`python -m benchmarks.turns_beside_verifiers` (needs the extra verifiers) lets both play rollouts of
four turns with a tool of 0, 10 and 1,000 ms, each with the tool written in its own way, and with a
policy that answers at once: here an engine, there a server of chat completions, since that library
knows no other policy. So nothing but the loops themselves is compared. Both play as many rollouts
at a time as they are given; here each of them needs a process of its own, there a coroutine.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import verifiers_plugins
from benchmarks.measure import machine, markdown_table
from benchmarks.slow_tool import context_with_it
from distil_core.engines.base import (
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
)
from distil_core.policy.tokenizer import character_tokenizer, encode_text
from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback, no_progress
from distil_core.rollouts.sampler import RolloutSampler

NUM_ANSWERS = 3
REPLY = "12+34="
SETTINGS = SamplingSettings(max_new_tokens=16, temperature=1.0, top_p=1.0)


class InstantEngine:
    """Answers every request with the same tokens."""

    def __init__(self, token_ids: list[int]):
        self._response = SampledResponse(token_ids, [0.0] * len(token_ids), "stop")

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        """At once."""
        return [self._response for _ in requests]

    def score(self, *_: Any) -> list[ScoredResponse]:
        """Nothing is scored here."""
        raise NotImplementedError


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.turns_beside_verifiers", description=__doc__
    )
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0, 10, 1000], metavar="MS")
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--at-a-time", type=int, default=32)
    arguments = parser.parse_args()
    num_rollouts, at_a_time = arguments.rollouts, arguments.at_a_time
    print(
        f"{machine()}; {num_rollouts} rollouts of {NUM_ANSWERS + 1} turns, {at_a_time} at a time; "
        "rollouts per second, the start of our processes included.\n"
    )
    rows = []
    with instant_server() as url:
        verifiers_s(url, 0.0, at_a_time, at_a_time)  # its first imports
        for delay_ms in arguments.delays_ms:
            theirs = num_rollouts / verifiers_s(url, delay_ms / 1000, num_rollouts, at_a_time)
            here = num_rollouts / ours_s(delay_ms / 1000, num_rollouts, at_a_time)
            ratio = f"{here / theirs:.1f}"
            rows.append([f"{delay_ms:g}", f"{theirs:.1f}", f"**{here:.1f}**", ratio])
    print(markdown_table(["tool ms", "verifiers", "here", "ratio"], rows))


def ours_s(delay_s: float, num_rollouts: int, at_a_time: int) -> float:
    """Seconds of our loop."""
    tokenizer = character_tokenizer("0123456789+-=;")
    context = context_with_it(delay_s, NUM_ANSWERS, 32)
    reply_ids = [*encode_text(tokenizer, REPLY), tokenizer.eos_token_id]
    sampler = RolloutSampler(InstantEngine(reply_ids), tokenizer, context, at_a_time)
    problems = [Problem(f"{number}", "0") for number in range(num_rollouts)]
    requests = [SampleRequest(encode_text(tokenizer, p.prompt), 1) for p in problems]
    started = time.perf_counter()
    rollouts = sampler.sample(problems, requests, SETTINGS, no_progress)
    seconds = time.perf_counter() - started
    assert {len(rollout.turns) for rollout in rollouts} == {NUM_ANSWERS + 1}
    assert all(rollout.error is None for rollout in rollouts)
    return seconds


def verifiers_s(url: str, delay_s: float, num_rollouts: int, at_a_time: int) -> float:
    """Seconds of the library's loop, by its own runner."""
    from verifiers import v1 as vf

    sys.path.append(verifiers_plugins.__path__[0])
    environment = vf.load_environment(
        vf.resolve_env_config(
            {
                "taskset": {"id": "slow_taskset", "num_tasks": num_rollouts},
                "delay_s": delay_s,
                "num_answers": NUM_ANSWERS,
                "policy": {
                    "harness": {"id": "chat_harness"},
                    "runtime": {"type": "subprocess"},
                },
            }
        )
    )
    client = vf.EvalClientConfig(base_url=url, api_key_var="NO_SUCH_KEY")
    context = vf.ModelContext(model="instant", client=client)

    async def run() -> list[Any]:
        gate = asyncio.Semaphore(at_a_time)
        async with environment.serving():
            slots = [slot for task in environment.taskset for slot in environment.slots(task)]
            played = (environment.run_slot(slot, context, gate) for slot in slots)
            return list(await asyncio.gather(*played))

    started = time.perf_counter()
    episodes = asyncio.run(run())
    seconds = time.perf_counter() - started
    assert not (errors := [error for episode in episodes for error in episode.errors]), errors[0]
    assert {episode.traces[0].num_turns for episode in episodes} == {NUM_ANSWERS + 1}
    return seconds


@contextmanager
def instant_server() -> Iterator[str]:
    """The address of a server, in a process of its own, whose model says the same always."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    message = {"role": "assistant", "content": REPLY}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "instant"}
    payload = json.dumps({**answer, "choices": [choice]}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024

    server = Server(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
