"""vLLM in real servers: one that is managed, and the same as external ones (90 s)."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from distil_core.config.models import ComputeParams
from distil_core.engines.base import SamplingSettings, continuing
from distil_core.engines.transformers import TransformersEngine
from distil_core.engines.vllm import managed as managed_module
from distil_core.engines.vllm.managed import ManagedServer
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.pool import EnginePool
from distil_core.errors import EngineError
from distil_core.policy.model import load_model
from distil_core.progress import no_progress
from tests.engines.conftest import END
from tests.engines.test_vllm_engine import (
    DEVICE,
    SCORED,
    answered_in_turns,
    assert_same_scores,
    requests,
)

SETTINGS = SamplingSettings(max_new_tokens=12, temperature=0.9, top_p=0.95)
COMPUTE = ComputeParams(device=DEVICE, dtype="float32", num_threads=1)
OPTIONS = Options(
    mode="managed_server", max_logprobs=99, max_num_sequences=24, max_batched_tokens=128
)


@pytest.fixture(scope="module")
def policy(loud_policy: Callable[[int], Path]) -> Path:
    return loud_policy(7)


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    pool = EnginePool()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def managed(pool: EnginePool, policy: Path) -> Any:
    return pool.engine(OPTIONS, policy, COMPUTE)


def external(*urls: str, **changes: Any) -> Options:
    return OPTIONS.model_copy(
        update={"mode": "external_servers", "base_urls": urls, "connections": 4, **changes}
    )


class Relay:
    """A server of its own as far as the engine can tell, which can be made to die."""

    def __init__(self, target: ManagedServer):
        self.answered = 0
        self.dies_after: int | None = None
        self.fails: Callable[[dict[str, Any]], bool] = lambda _: False
        self.is_well = True
        relay = self
        client = httpx.Client(transport=target.transport(), base_url=target.base_url, timeout=60)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                generates = "generate" in self.path
                if relay.dies_after is not None and relay.answered >= relay.dies_after:
                    self.connection.close()
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if generates and relay.fails(json.loads(body)):
                    self.send_error(500, "the request met an internal error")
                    return
                headers = {"Content-Type": "application/json"}
                answer = client.post(self.path, content=body, headers=headers)
                relay.answered += generates
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def do_GET(self) -> None:
                self.send_response(client.get(self.path).status_code if relay.is_well else 503)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

        self._client = client

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()


@pytest.fixture
def relays(managed: Any) -> Iterator[list[Relay]]:
    relays = [Relay(managed._backend._own), Relay(managed._backend._own)]
    yield relays
    for relay in relays:
        relay.close()


def test_a_managed_server_samples_and_scores_as_transformers_does(
    managed: Any, policy: Path
) -> None:
    reference = TransformersEngine(load_model(policy, COMPUTE), [END], batch_size=16)
    for top_k, top_p in ((5, 0.9), (99, 1.0)):
        found = managed.score(SCORED, top_k, top_p, no_progress)
        assert_same_scores(found, reference.score(SCORED, top_k, top_p, no_progress))
    responses = managed.sample(requests(), SETTINGS, no_progress)
    assert managed.drift()["engine_logprob_error_max"] < 1e-5
    assert {row.finish_reason for row in responses} == {"stop", "length"}
    assert managed.sample(requests()[::-1], SETTINGS, no_progress) == responses[::-1]


def listening(group: int) -> list[int]:
    """Ports on which processes of the group wait for others."""
    owned = set()
    for pid in members(group):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                owned.add(os.readlink(descriptor))
    waiting = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in owned:
                waiting.append(int(local.rpartition(":")[2], 16))
    return waiting


ASK_AS_ANOTHER_USER = """
import json, os, socket, sys
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
body = json.dumps({"method": "distil_describe", "args": []}).encode()
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            client.sendall(b"POST /collective_rpc HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d"
                           b"\\r\\nContent-Type: application/json\\r\\n\\r\\n" % len(body) + body)
            print(client.recv(1000))
        except OSError as error:
            print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' tables of sockets")
def test_a_managed_server_can_be_reached_by_nobody_else(managed: Any) -> None:
    own = managed._backend._own
    for port in listening(own.process_group):
        # Of torch's collective operations, which have no use in a group of one.
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=2.0, trust_env=False)
    folder = own.socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # vLLM's own, between its processes, lie there as well.
    sockets = [path for path in folder.iterdir() if path.is_socket()]
    assert len(sockets) > 1
    if os.geteuid() == 0:
        command = [sys.executable, "-I", "-c", ASK_AS_ANOTHER_USER, *map(str, sockets)]
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
        assert asked.stdout.split() == ["PermissionError"] * len(sockets)


def test_weights_are_swapped_in_the_running_server(
    pool: EnginePool, managed: Any, loud_policy: Callable[[int], Path]
) -> None:
    before = managed.sample(requests(12), SETTINGS, no_progress)
    other = pool.engine(OPTIONS, loud_policy(8), COMPUTE)
    assert other._backend is managed._backend
    assert other.sample(requests(12), SETTINGS, no_progress) != before
    assert other.drift()["engine_logprob_error_max"] < 1e-5
    assert managed.sample(requests(12), SETTINGS, no_progress) == before


def test_requests_are_spread_and_a_dead_servers_are_sent_elsewhere(
    pool: EnginePool, managed: Any, policy: Path, relays: list[Relay]
) -> None:
    expected = managed.sample(requests(), SETTINGS, no_progress)
    engine = pool.engine(external(relays[0].url, relays[1].url), policy, COMPUTE)
    before = [relay.answered for relay in relays]
    assert engine.sample(requests(), SETTINGS, no_progress) == expected
    shares = [relay.answered - start for relay, start in zip(relays, before, strict=True)]
    assert sum(shares) == 40
    assert min(shares) > 5
    relays[0].dies_after = relays[0].answered + 5
    assert engine.sample(requests(), SETTINGS, no_progress) == expected
    # Back again, it is loaded and checked before it is asked.
    relays[0].dies_after = None
    again = relays[0].answered
    assert engine.sample(requests(), SETTINGS, no_progress) == expected
    assert relays[0].answered > again + 2
    for relay in relays:
        relay.dies_after = 0
    with pytest.raises(EngineError) as caught:
        engine.sample(requests(), SETTINGS, no_progress)
    assert all(relay.url in str(caught.value) for relay in relays)


def test_a_request_that_fails_is_a_response_with_its_error(
    pool: EnginePool, managed: Any, policy: Path, relays: list[Relay]
) -> None:
    """vLLM says 500 of a request it failed on, and goes on with the others."""
    expected = managed.sample(requests(), SETTINGS, no_progress)
    asked = requests()
    failing = {asked[3].seed, asked[17].seed}
    once = {asked[5].seed}

    def fails(body: dict[str, Any]) -> bool:
        seed = body["sampling_params"]["seed"]
        if seed in once:
            once.remove(seed)
            return True
        return seed in failing

    engine = pool.engine(external(relays[0].url), policy, COMPUTE)
    relays[0].fails = fails
    found = engine.sample(asked, SETTINGS, no_progress)
    assert [index for index, one in enumerate(found) if one.error is not None] == [3, 17]
    assert found[3].finish_reason == "error"
    assert (found[3].token_ids, found[3].behaviour_logprobs) == ([], [])
    assert "HTTP 500" in str(found[3].error)
    assert [one for one in found if one.error is None] == expected[:3] + expected[4:17] + expected[
        18:
    ]
    # Most requests: that is the engine's failure. And a server that is not well is a lost one.
    failing |= {request.seed for request in asked[10:]}
    with pytest.raises(EngineError, match=r"failed on 31 of 40 requests.*HTTP 500"):
        engine.sample(asked, SETTINGS, no_progress)
    relays[0].is_well = False
    with pytest.raises(EngineError, match="no vLLM server answers"):
        engine.sample(asked, SETTINGS, no_progress)


def test_turns_go_where_their_past_is(
    pool: EnginePool, managed: Any, policy: Path, relays: list[Relay]
) -> None:
    """The same bits in every mode, wherever a request goes; and a lost server's go to another."""
    expected = answered_in_turns(managed)
    # Each may have all of them, so that none has to go elsewhere.
    options = external(*(relay.url for relay in relays), connections=16)
    engine = pool.engine(options, policy, COMPUTE)
    asked_of: dict[int, list[int]] = {}
    for number, relay in enumerate(relays):

        def seen(body: dict[str, Any], number: int = number) -> bool:
            asked_of.setdefault(body["sampling_params"]["seed"], []).append(number)
            return False

        relay.fails = seen
    with continuing(engine) as sampler:
        assert answered_in_turns(sampler) == expected
    # Seeds are 100 apart from rollout to rollout, and 1 from turn to turn.
    places = [[asked_of[2**62 + 100 * n + turn] for turn in range(3)] for n in range(10)]
    assert all(turns[0] == turns[1] == turns[2] for turns in places)
    assert {number for turns in places for number in turns[0]} == {0, 1}
    assert engine._backend._places is None

    def dies() -> None:
        relays[0].dies_after = relays[0].answered + 8

    with continuing(engine) as sampler:
        assert answered_in_turns(sampler, dies) == expected


def test_a_single_request_of_a_late_turn_may_fail(
    pool: EnginePool, managed: Any, policy: Path, relays: list[Relay]
) -> None:
    engine = pool.engine(external(relays[0].url), policy, COMPUTE)
    relays[0].fails = lambda _: True
    with continuing(engine) as sampler:
        (found,) = sampler.sample(requests(1), SETTINGS, no_progress)
    assert "HTTP 500" in str(found.error)
    with pytest.raises(EngineError, match="failed on 1 of 1 requests"):
        engine.sample(requests(1), SETTINGS, no_progress)


def test_servers_that_cannot_serve_are_named(pool: EnginePool, policy: Path) -> None:
    with pytest.raises(EngineError, match=r"no vLLM server answers: http://127.0.0.1:9 \("):
        pool.engine(external("http://127.0.0.1:9"), policy, COMPUTE)


def test_a_server_of_other_kind_is_told_how_to_start(pool: EnginePool, policy: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(EngineError, match=r"HTTP 404.*\n.*VLLM_SERVER_DEV_MODE=1"):
            pool.engine(external(f"http://127.0.0.1:{server.server_address[1]}"), policy, COMPUTE)
    finally:
        server.shutdown()
        server.server_close()


def test_what_the_server_refuses_is_an_error_not_a_retry(managed: Any) -> None:
    """Longer than the model reads; the engine itself asks for no such thing."""
    with pytest.raises(EngineError, match="refused: HTTP 400"):
        managed._backend.score([([5] * 200, 1)], 3, lambda _: None)
    assert managed.score(SCORED[:1], 3, 1.0, no_progress)


def test_a_server_that_cannot_start_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(program: str) -> None:
        started = [sys.executable, "-c", program]
        monkeypatch.setattr(managed_module, "server_command", lambda *_: started)

    command("import sys; sys.exit('no such device')")
    with pytest.raises(EngineError, match=r"(?s)ended while starting.*no such device.*code 1"):
        ManagedServer(OPTIONS, COMPUTE, tmp_path)
    command("import time; print('loading', flush=True); time.sleep(600)")
    impatient = OPTIONS.model_copy(update={"start_timeout_s": 5.0})
    with pytest.raises(EngineError, match=r"(?s)not ready within 5 s \(start_timeout_s\).*loading"):
        ManagedServer(impatient, COMPUTE, tmp_path)


def members(group: int) -> list[int]:
    """Processes of a group that live, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, pgrp = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(entry.name))
    return found


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + 30
    while members(group):
        assert time.monotonic() < deadline, members(group)
        time.sleep(0.05)


PARENT = """
import sys, time
from pathlib import Path
from distil_core.config.models import ComputeParams
from distil_core.engines.vllm import managed
from distil_core.engines.vllm.options import Options
managed.server_command = lambda *_: [sys.executable, "-c", {server!r}]
managed.ManagedServer._wait_until_healthy = lambda *_: None
server = managed.ManagedServer(
    Options(mode="managed_server"),
    ComputeParams(device="cpu", dtype="float32", num_threads=1), Path("."))
print(server.process_group, server.socket.parent, flush=True)
time.sleep(600)
"""
SERVER_WITH_WORKER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_is_killed(how: signal.Signals) -> None:
    """With a stand-in for the server's command, so that the starts take seconds."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(server=SERVER_WITH_WORKER)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    number, folder = parent.stdout.readline().split()
    group = int(number)
    deadline = time.monotonic() + 60
    while len(members(group)) < 3:
        assert time.monotonic() < deadline, members(group)
        time.sleep(0.05)
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    wait_until_gone(group)
    assert not Path(folder).exists()


def test_closing_ends_the_real_servers_whole_group(pool: EnginePool, managed: Any) -> None:
    """Last: the others' server. First its workers lose their server, as when it is out of
    memory; what is left of the group goes too."""
    server = managed._backend._own
    group = server.process_group
    living = members(group)
    assert len(living) >= 3
    (api_server,) = [
        pid
        for pid in living
        if b"api_server" in Path(f"/proc/{pid}/cmdline").read_bytes() and pid != group
    ][:1]
    os.kill(api_server, signal.SIGKILL)
    wait_until_gone(group)
    with pytest.raises(EngineError, match=r"(?s)no vLLM server answers.*end of its log"):
        managed.sample(requests(2), SETTINGS, no_progress)
    pool.close()
    pool.close()
    assert not server.socket.parent.exists()
