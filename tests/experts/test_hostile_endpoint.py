"""Endpoints that cost, stall, or tell on their users, as real HTTP servers (about 10 s)."""

import gzip
import json
import os
import stat
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from local_endpoint import LocalEndpoint

from distil_core.errors import ConfigError, DataError, ExpertError, ExpertUnavailableError
from distil_core.experts import EXPERTS
from distil_core.experts._answers import read_text
from distil_core.experts._endpoint import Budget, Endpoint, Limits
from distil_core.experts.response_record import Completion, Request, ResponseRecord
from distil_core.registry import refuse_secrets

KEY = "sk-very-secret-0123456789"
OPTIONS: dict[str, Any] = {
    "base_url": "https://host/v1",
    "api": "completions",
    "model": "m",
    "template": "{prompt}{response}",
    "num_samples": 1,
    "temperature": 1.0,
    "max_new_tokens": 8,
    "max_requests": 10,
    "max_tokens": None,
}


def limits(**changed: Any) -> Limits:
    values: dict[str, Any] = {
        "timeout_s": 5.0,
        "max_attempts": 2,
        "backoff_s": 0.001,
        "max_pause_s": 1.0,
        "requests_per_second": None,
        "max_requests": None,
        "max_tokens": None,
        "max_response_bytes": 100_000,
    }
    return Limits(**(values | changed))


def ask(local: LocalEndpoint, api_key: str | None = None, **changed: Any) -> Completion:
    """One question, with a client of its own."""
    held = limits(**changed)
    endpoint = Endpoint(local.url, held, Budget(held), api_key, 1)
    try:
        body = {"model": "m", "prompt": "1+1=", "max_tokens": 8}
        return endpoint.complete(Request(f"{local.url}/completions", body), read_text)
    finally:
        endpoint.close()


@pytest.fixture
def local() -> Any:
    with LocalEndpoint(lambda body: ("2", "stop")) as endpoint:
        yield endpoint


def packed(content: bytes, encoding: str, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


ANSWER = json.dumps(
    {"choices": [{"text": "2", "finish_reason": "stop"}], "usage": {"total_tokens": 3}}
).encode()


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Unavailable"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_is_not_unpacked(local: LocalEndpoint, status: str, layers: int) -> None:
    bomb = gzip.compress(b" " * 300_000_000 if layers == 1 else gzip.compress(b" " * 10**8), 1)
    encoding = "gzip" if layers == 1 else "gzip, gzip"
    local.faults = [packed(bomb, encoding, status)] * 2
    expected = "more than 100000 bytes" if layers == 1 else "content encoding"
    with pytest.raises(ExpertUnavailableError, match=expected):
        ask(local)


def test_packed_answers_are_read_though_none_was_asked_for(local: LocalEndpoint) -> None:
    for content, encoding in ((gzip.compress(ANSWER), "gzip"), (zlib.compress(ANSWER), "deflate")):
        local.faults = [packed(content, encoding)]
        assert ask(local) == Completion("2", "stop", 3)
    assert {headers["Accept-Encoding"] for _, headers, _, _ in local.seen} == {"identity"}


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress"])
def test_what_cannot_be_bounded_is_not_unpacked(local: LocalEndpoint, encoding: str) -> None:
    local.faults = [packed(b"anything", encoding)]
    assert ask(local) == Completion("2", "stop", 10)


def test_a_cut_or_endless_answer_is_given_up(local: LocalEndpoint) -> None:
    local.faults = [
        packed(gzip.compress(ANSWER)[:-9], "gzip"),
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 90_000,
    ]
    assert ask(local, max_attempts=4) == Completion("2", "stop", 10)
    assert len(local.seen) == 4


def test_a_head_that_drips_in_is_given_up(local: LocalEndpoint) -> None:
    """Each byte comes in time; the whole head would take 30 s."""
    local.faults = ["drip of headers"]
    assert ask(local, timeout_s=0.5) == Completion("2", "stop", 10)
    assert local.seen[1][3] - local.seen[0][3] < 15


@pytest.mark.parametrize("count", [-1, -(10**9), 2.5, "3", True, [3]])
@pytest.mark.parametrize("reason", ["stop", "content_filter"])
def test_counts_that_would_give_budget_back_are_not_believed(
    local: LocalEndpoint, count: Any, reason: str
) -> None:
    answer = {
        "choices": [{"text": "2", "finish_reason": reason}],
        "usage": {"total_tokens": count},
    }
    local.faults = [json.dumps(answer)] * 2
    with pytest.raises(ExpertUnavailableError, match=r"usage\.total_tokens is"):
        ask(local)


def test_a_recorded_count_cannot_be_negative_either(tmp_path: Path) -> None:
    record, request = ResponseRecord(tmp_path), Request("http://host", {})
    record.add(request, Completion("2", "stop", 3))
    [file] = tmp_path.rglob("*.json")
    file.write_text(file.read_text().replace('"total_tokens": 3', '"total_tokens": -3'))
    with pytest.raises(DataError, match="total_tokens from 0 on, found -3"):
        record.find(request)


def test_a_model_that_refuses_max_tokens_is_asked_in_its_own_words(local: LocalEndpoint) -> None:
    refusal = (
        b"Unsupported parameter: 'max_tokens' is not supported with this model. "
        b"Use 'max_completion_tokens' instead."
    )
    local.faults = [b"HTTP/1.1 400 Bad Request\r\n\r\n" + refusal]
    assert ask(local, max_attempts=1) == Completion("2", "stop", 10)
    first, second = (body for _, _, body, _ in local.seen)
    assert first["max_tokens"] == second["max_completion_tokens"] == 8
    assert "max_tokens" not in second
    # One that refuses both is refused for good.
    local.faults = [b"HTTP/1.1 400 Bad Request\r\n\r\n" + refusal] * 2
    with pytest.raises(ExpertError, match=r"refused: HTTP 400.*null in extra_body"):
        ask(local, max_attempts=1)


def test_redirects_carry_no_key_anywhere() -> None:
    with LocalEndpoint(lambda body: ("2", "stop")) as elsewhere:
        with LocalEndpoint(lambda body: ("2", "stop")) as local:
            local.faults = [(307, {"Location": f"{elsewhere.url}/completions"})]
            with pytest.raises(ExpertError, match="refused: HTTP 307"):
                ask(local, KEY)
        assert elsewhere.seen == []


def test_an_answer_that_quotes_the_key_is_recorded_without_it() -> None:
    with LocalEndpoint(lambda body: (f"you sent {KEY}", "stop")) as local:
        assert ask(local, KEY).text == "you sent ***"


def test_a_key_with_a_line_end_is_named_not_quoted(
    monkeypatch: pytest.MonkeyPatch, policy_dir: Path, compute: Any, tmp_path: Path
) -> None:
    from distil_core.config.models import Component, TabulateParams
    from distil_core.experts import build_expert
    from distil_core.experts.base import ExpertQuery
    from distil_core.progress import no_progress

    component = Component(
        name="black_box", options=OPTIONS | {"api_key_variable": "DISTIL_TEST_KEY"}
    )
    expert = build_expert(
        TabulateParams(
            expert=component,
            top_k=4,
            top_p=1.0,
            rows_per_shard=8,
        ),
        policy_dir,
        compute,
        64,
        tmp_path / "record",
        seed=5,
    )
    monkeypatch.setenv("DISTIL_TEST_KEY", f"{KEY}\n")
    with pytest.raises(ExpertError, match="DISTIL_TEST_KEY holds no key") as caught:
        expert.answer([ExpertQuery([], [5], "001/a/0", values={"prompt": "1"})], no_progress)
    assert KEY not in str(caught.value)


def test_a_proxy_does_not_swallow_an_endpoint_of_this_machine(
    local: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(local) == Completion("2", "stop", 10)


def test_time_bounds_hold_behind_a_proxy_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary of what `Deadline.bind` reaches into."""
    seen = []

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20:
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:
                    return
                stopped.wait(0.1)

        def log_message(self, *_: Any) -> None:
            pass

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    held = limits(timeout_s=0.5, max_attempts=1)
    endpoint = Endpoint("http://expert.invalid/v1", held, Budget(held), None, 1)
    try:
        with pytest.raises(ExpertUnavailableError, match="ReadTimeout"):
            endpoint.complete(Request("http://expert.invalid/v1/completions", {}), read_text)
    finally:
        stopped.set()
        endpoint.close()
        server.shutdown()
        server.server_close()
    assert seen == ["http://expert.invalid/v1/completions"]


def test_records_are_their_owners_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        record = ResponseRecord(tmp_path / "record")
        record.add(Request("http://host", {}), Completion("2", "stop", 3))
        (tmp_path / "record").chmod(0o755)
        record.add(Request("http://host", {"a": 1}), Completion("2", "stop", 3))
    finally:
        os.umask(former)
    files = [path for path in (tmp_path / "record").rglob("*") if path.is_file()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "changed",
    [
        {"extra_body": {"api_key": "abc"}},
        {"extra_body": {"headers": {"Authorization": "Bearer abc"}}},
        {"extra_body": {"provider": [{"clientSecret": "abc"}]}},
        {"extra_body": {"key": "abc"}},
        {"extra_body": {"note": f"uses {KEY}"}},
        {"extra_body": {"callback": "https://me:abc@host/x"}},
        {"extra_body": {"callback": "https://host/x?sig=abc"}},
        {"template": f"{KEY} {{prompt}}{{response}}"},
        {"model": "https://host/model?token=abc"},
        {"base_url": "https://host/v1?key=abc"},
        {"base_url": "https://host/v1#abc"},
        {"base_url": "https://abc@host/v1"},
        {"base_url": "ftp://me:abc@host/v1"},
        {"api_key": "abc"},
        {"api_key_variable": KEY},
    ],
)
def test_credentials_in_settings_are_refused_and_not_repeated(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        EXPERTS.options("black_box", OPTIONS | changed)
    assert "abc" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_ordinary_fields_are_no_credentials() -> None:
    body = {
        "stop_token_ids": [1],
        "prompt_cache_key": "campaign",
        "min_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": False},
        "stop": ["key: value", "token"],
        "seed": None,
    }
    EXPERTS.options("black_box", OPTIONS | {"extra_body": body})
    refuse_secrets({"field": "key", "columns": {"key": "answer", "token": "text"}}, "params.yaml")


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://host/v1", True),
        ("http://host/v1", False),
        ("http://127.0.0.1.example.org/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://10.0.0.7/v1", False),
    ],
)
def test_a_key_goes_over_plain_http_to_this_machine_alone(url: str, fits: bool) -> None:
    options = OPTIONS | {"base_url": url, "api_key_variable": "EXPERT_API_KEY"}
    if fits:
        EXPERTS.options("black_box", options)
    else:
        with pytest.raises(ConfigError, match="is not encrypted"):
            EXPERTS.options("black_box", options)
    EXPERTS.options("black_box", options | {"allow_key_over_http": True})
    EXPERTS.options("black_box", OPTIONS | {"base_url": url})


def test_fields_that_are_null_are_left_out(policy_dir: Path, tmp_path: Path) -> None:
    from distil_core.experts.base import ExpertQuery, ExpertSetting
    from distil_core.experts.black_box import build

    options: Any = EXPERTS.options(
        "black_box", OPTIONS | {"extra_body": {"seed": None, "temperature": None, "top_p": 0.5}}
    )
    expert = build(options, _setting(ExpertSetting, policy_dir, tmp_path))
    [request] = expert._requests(ExpertQuery([], [5], "001/a/0", values={"prompt": "1"}), "2")
    assert request.body == {"model": "m", "max_tokens": 8, "prompt": "12", "top_p": 0.5}


def _setting(setting_type: Any, policy_dir: Path, record_dir: Path) -> Any:
    names = setting_type.__dataclass_fields__
    values = {
        "policy_dir": policy_dir,
        "record_dir": record_dir,
        "top_k": 4,
        "top_p": 1.0,
        "seed": 5,
    }
    return setting_type(**{name: values.get(name) for name in names})
