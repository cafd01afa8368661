"""The black-box expert against a real HTTP server (about 6 s)."""

import json
import math
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pytest
from local_endpoint import LocalEndpoint

from distil_core.errors import ConfigError, DataError, ExpertError
from distil_core.experts import EXPERTS, build_expert
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery, RecordingExpert
from distil_core.experts.response_record import restore_responses
from distil_core.policy.tokenizer import encode_text
from distil_core.progress import no_progress

SOLUTION = "0612"
KEY = "sk-very-secret"


def continues_solution(body: dict[str, Any]) -> tuple[str, str]:
    """Writes on from what the student wrote, towards the solution, whatever that was."""
    written = body["prompt"].partition(" so far: ")[2]
    return SOLUTION[len(written) :], "stop"


@pytest.fixture
def endpoint() -> Any:
    with LocalEndpoint(continues_solution) as local:
        yield local


@pytest.fixture
def ask(endpoint: LocalEndpoint, policy_dir: Path, compute: Any, tmp_path: Path) -> Any:
    """Build the expert anew, with options changed, as another run of the stage would."""
    from distil_core.config.models import Component, TabulateParams

    def build(**changed: Any) -> Expert:
        options = {
            "base_url": endpoint.url,
            "api": "completions",
            "model": "local",
            "template": "{prompt} feedback {execution_trace} so far: {response}",
            "num_samples": 1,
            "temperature": 1.0,
            "max_new_tokens": 8,
            "max_requests": None,
            "max_tokens": None,
            "backoff_s": 0.01,
            "max_pause_s": 2.0,
            "timeout_s": 20.0,
        } | changed
        params = TabulateParams(
            expert=Component(name="black_box", options=options),
            top_k=16,
            top_p=1.0,
            rows_per_shard=8,
        )
        return build_expert(params, policy_dir, compute, 64, tmp_path / "record", seed=5)

    return build


def query(tokenizer: Any, response: str = "0712", prompt: str = "1+2=") -> ExpertQuery:
    ids = [*encode_text(tokenizer, response), tokenizer.eos_token_id]
    values = {"prompt": prompt, "attempt": response, "execution_trace": "06{prompt}"}
    return ExpertQuery([], ids, f"001/{prompt}/{response}", values=values)


def labels(tokenizer: Any, answer: ExpertAnswer) -> list[dict[str, float]]:
    """Each position's stored tokens and their mass."""
    scored, start, states = answer.distribution, 0, []
    for count in scored.counts_t:
        stored = slice(start, start + count)
        states.append(
            {
                tokenizer.convert_ids_to_tokens(int(token)): round(math.exp(logprob), 6)
                for token, logprob in zip(
                    scored.token_ids[stored], scored.logprobs[stored], strict=True
                )
            }
        )
        start += count
    return states


def test_it_keeps_the_contract_of_experts() -> None:
    from distil_core.testing import check_expert

    def answer(body: dict[str, Any]) -> tuple[str, str]:
        return "42"[len(body["prompt"].rpartition(":")[2]) :] or "7", "stop"

    with LocalEndpoint(answer) as local:
        options = {
            "base_url": local.url,
            "api": "completions",
            "model": "local",
            "template": "{prompt} {execution_trace}:{response}",
            "num_samples": 1,
            "temperature": 1.0,
            "max_new_tokens": 8,
            "max_requests": None,
            "max_tokens": None,
            "continuations_per_rollout": 1,
        }
        check_expert("black_box", options)


def answer_one(expert: Expert, asked: ExpertQuery) -> ExpertAnswer:
    [answer] = expert.answer([asked], no_progress)
    return answer


def test_labels_are_what_the_expert_writes_next_at_the_students_own_states(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    answer = answer_one(ask(), query(tokenizer))
    # The state after the wrong 7 is the student's own, and so is the one after its last token.
    assert labels(tokenizer, answer) == [
        {"0": 1.0},
        {"6": 1.0},
        {"1": 1.0},
        {"2": 1.0},
        {"<|end|>": 1.0},
    ]
    assert answer.context_ids == []
    assert not np.isfinite(answer.distribution.tail_logprobs_t).any()
    prompts = sorted(body["prompt"] for _, _, body, _ in endpoint.seen)
    # Content is filled in once: braces in it are no fields.
    assert prompts[2] == "1+2= feedback 06{prompt} so far: 07"
    assert {path for path, *_ in endpoint.seen} == {"/v1/completions"}
    assert "Authorization" not in endpoint.seen[0][1]


def test_several_samples_make_the_empirical_distribution(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.answer = lambda body: ("5" if body["seed"] % 2 else "3", "stop")
    expert = ask(num_samples=40, states_per_rollout=1, label_smoothing=0.1)
    answer = answer_one(expert, query(tokenizer))
    odd = [body["seed"] % 2 for _, _, body, _ in endpoint.seen]
    assert len(odd) == 40
    assert len({body["seed"] for _, _, body, _ in endpoint.seen}) == 40
    share, even = sum(odd) / 40, 0.1 / len(tokenizer)
    [position] = np.flatnonzero(answer.distribution.counts_t)
    state = labels(tokenizer, answer)[position]
    expected = {"5": 0.9 * share + even, "3": 0.9 * (1 - share) + even}
    assert state == {token: round(mass, 6) for token, mass in expected.items()}
    tail = math.exp(answer.distribution.tail_logprobs_t[position])
    assert tail == pytest.approx(even * (len(tokenizer) - 2), rel=1e-5)
    # The other states were not asked about: no ids and no tail there.
    silent = np.delete(answer.distribution.tail_logprobs_t, position)
    assert (silent == -math.inf).all()


def test_faults_are_retried_until_there_is_an_answer(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.faults = [
        (500, {}),
        (503, {}),
        "disconnect",
        "half",
        "slow",
        "not gzip",
        "{not json",
        '{"choices": []}',
        '{"choices": [{"text": 5, "finish_reason": "stop"}]}',
        '{"choices": [{"text": "5", "finish_reason": null}]}',
    ]
    expert = ask(max_attempts=12, concurrency=1, backoff_s=0.001, timeout_s=2.0)
    answer = answer_one(expert, query(tokenizer, "0"))
    assert labels(tokenizer, answer) == [{"0": 1.0}, {"6": 1.0}]
    assert len(endpoint.seen) == 10 + 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any, as_date: bool
) -> None:
    value = formatdate(time() + 2, usegmt=True) if as_date else "0.4"
    endpoint.faults = [(429, {"Retry-After": value})]
    answer_one(ask(concurrency=1, max_pause_s=5), query(tokenizer, "0"))
    waited = endpoint.seen[1][3] - endpoint.seen[0][3]
    # A date has whole seconds.
    assert waited >= (0.9 if as_date else 0.4)


def test_a_wait_longer_than_allowed_ends_the_run(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.faults = [(429, {"Retry-After": "3600"})]
    with pytest.raises(ExpertError, match=r"asks to wait 3600 s \(Retry-After\), max_pause_s is 2"):
        answer_one(ask(concurrency=1), query(tokenizer))


def test_an_endpoint_that_stays_down_is_an_error_that_says_the_last_failure(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.faults = [(500, {})] * 50
    with pytest.raises(ExpertError, match=r"no answer in 3 attempts; .*HTTP 500"):
        answer_one(ask(max_attempts=3, concurrency=1), query(tokenizer))
    assert len(endpoint.seen) == 3


def test_the_key_is_sent_and_appears_nowhere_else(
    ask: Any,
    endpoint: LocalEndpoint,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expert = ask(api_key_variable="DISTIL_TEST_KEY", concurrency=1)
    monkeypatch.delenv("DISTIL_TEST_KEY", raising=False)
    with pytest.raises(ExpertError, match="environment variable DISTIL_TEST_KEY"):
        answer_one(expert, query(tokenizer))
    monkeypatch.setenv("DISTIL_TEST_KEY", KEY)
    endpoint.faults = [(500, {})]
    answer_one(expert, query(tokenizer))
    assert {headers["Authorization"] for _, headers, _, _ in endpoint.seen} == {f"Bearer {KEY}"}
    expert.save_record(tmp_path / "saved")
    # The server quotes the key in its refusals, as some do.
    endpoint.faults = [(401, {})]
    with pytest.raises(ExpertError, match=r"HTTP 401: 'no: Bearer \*\*\*'") as refused:
        answer_one(expert, query(tokenizer, "9"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not any(KEY in path.read_text() for path in files)
    assert KEY not in caplog.text + str(refused.value)


def test_a_rerun_costs_nothing_and_is_bit_exact(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any, tmp_path: Path
) -> None:
    endpoint.answer = lambda body: (str(body["seed"] % 7), "stop")
    queries = [query(tokenizer), query(tokenizer, "0612", "2+2=")]
    first = ask(num_samples=3)
    answers = first.answer(queries, no_progress)
    first.save_record(tmp_path / "first")
    num_sent = len(endpoint.seen)
    assert num_sent == 3 * 2 * 5
    # Another answer would be given now, and the queries come in another order.
    endpoint.answer = lambda body: ("x", "stop")
    second = ask(num_samples=3)
    again = second.answer(queries[::-1], no_progress)[::-1]
    second.save_record(tmp_path / "second")
    assert len(endpoint.seen) == num_sent
    for one, other in zip(answers, again, strict=True):
        for name in ("counts_t", "token_ids", "logprobs", "tail_logprobs_t"):
            np.testing.assert_array_equal(
                getattr(one.distribution, name), getattr(other.distribution, name)
            )
    for name in ("responses.jsonl", "expert_counts.json"):
        first_bytes = (tmp_path / "first" / name).read_bytes()
        assert first_bytes == (tmp_path / "second" / name).read_bytes()


def test_equal_states_of_several_rollouts_are_asked_once(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    values = {"prompt": "1+2="}
    ids = encode_text(tokenizer, "061")
    queries = [ExpertQuery([], ids, f"001/a/{i}", values=values) for i in range(4)]
    ask().answer(queries, no_progress)
    assert len(endpoint.seen) == 3


def test_the_budget_stops_the_run_and_raising_it_goes_on_from_there(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    with pytest.raises(ExpertError, match=r"max_requests 3 is spent: 3 requests and \d+ tokens"):
        answer_one(ask(max_requests=3, concurrency=1), query(tokenizer))
    assert len(endpoint.seen) == 3
    # The cap is of the table, so that a rerun alone does not get round it.
    with pytest.raises(ExpertError, match="max_requests 3 is spent"):
        answer_one(ask(max_requests=3, concurrency=1), query(tokenizer))
    assert len(endpoint.seen) == 3
    answer_one(ask(max_requests=5), query(tokenizer))
    assert len(endpoint.seen) == 5


def test_the_budget_in_tokens(ask: Any, endpoint: LocalEndpoint, tokenizer: Any) -> None:
    with pytest.raises(ExpertError, match="max_tokens 25 is spent: 3 requests and 30 tokens"):
        answer_one(ask(max_tokens=25, concurrency=1), query(tokenizer))
    endpoint.tokens_per_answer = None
    with pytest.raises(ExpertError, match=r"does not say how many tokens .* max_requests instead"):
        answer_one(ask(max_tokens=1000, concurrency=1), query(tokenizer))


def test_retries_count_as_requests(ask: Any, endpoint: LocalEndpoint, tokenizer: Any) -> None:
    endpoint.faults = [(500, {})] * 20
    with pytest.raises(ExpertError, match="max_requests 4 is spent"):
        answer_one(ask(max_requests=4, max_attempts=20, concurrency=1), query(tokenizer))
    assert len(endpoint.seen) == 4


def test_requests_start_evenly_spaced(ask: Any, endpoint: LocalEndpoint, tokenizer: Any) -> None:
    answer_one(ask(requests_per_second=2.5, concurrency=8), query(tokenizer))
    times = sorted(at for *_, at in endpoint.seen)
    assert len(times) == 5
    assert times[-1] - times[0] >= 4 / 2.5 * 0.8


def test_no_more_requests_at_once_than_allowed(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.delay_s = 0.15
    answer_one(ask(concurrency=2, timeout_s=5.0), query(tokenizer))
    assert endpoint.most_at_once == 2


def test_an_answer_that_drips_in_is_given_up(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    """Each byte comes in time, the whole never would."""
    endpoint.faults = ["drip"]
    answer = answer_one(ask(concurrency=1, timeout_s=0.5), query(tokenizer, "0"))
    assert labels(tokenizer, answer) == [{"0": 1.0}, {"6": 1.0}]
    # The drip would go on for 30 s.
    assert endpoint.seen[1][3] - endpoint.seen[0][3] < 15


def test_chat_continues_the_assistants_own_message(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.answer = lambda body: (SOLUTION[len(body["messages"][1]["content"]) :], "stop")
    expert = ask(
        api="chat",
        template="Solve {prompt}",
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    answer = answer_one(expert, query(tokenizer, "07"))
    assert labels(tokenizer, answer) == [{"0": 1.0}, {"6": 1.0}, {"1": 1.0}]
    path, _, body, _ = max(endpoint.seen, key=lambda seen: len(str(seen[2])))
    assert path == "/v1/chat/completions"
    assert body["continue_final_message"] is True
    assert body["messages"] == [
        {"role": "user", "content": "Solve 1+2="},
        {"role": "assistant", "content": "07"},
    ]


def test_chat_can_be_asked_in_words(ask: Any, endpoint: LocalEndpoint, tokenizer: Any) -> None:
    endpoint.answer = lambda body: ("12", "stop")
    answer_one(ask(api="chat", template="{prompt} goes on from: {response}"), query(tokenizer, "0"))
    assert sorted(str(body["messages"]) for _, _, body, _ in endpoint.seen) == [
        "[{'role': 'user', 'content': '1+2= goes on from: '}]",
        "[{'role': 'user', 'content': '1+2= goes on from: 0'}]",
    ]


def test_answers_that_cannot_be_used_leave_the_state_silent_and_are_counted(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any, tmp_path: Path
) -> None:
    answers = [(None, "content_filter"), ("6", "length"), ("\u4e2d", "stop"), ("61", "length")]
    endpoint.answer = lambda body: answers[len(body["prompt"].partition("far: ")[2])]
    expert = ask()
    asked = query(tokenizer, "071")
    answer = answer_one(expert, asked)
    assert labels(tokenizer, answer) == [{}, {}, {}, {"6": 1.0}]
    expert.save_record(tmp_path)
    counts = json.loads((tmp_path / "expert_counts.json").read_text())
    assert counts == {
        "cut": 1,
        "misaligned": 0,
        "refused": 1,
        "requests": 4,
        "silent_rollouts": 0,
        "tokens": 40,
        "unencodable": 1,
        "unwritable_states": 0,
    }


def test_samples_that_cannot_be_used_leave_the_mass_to_the_others(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    endpoint.answer = lambda body: (
        (None, "content_filter") if body["seed"] % 2 else ("35"[body["seed"] // 2 % 2], "stop")
    )
    expert = ask(num_samples=12, states_per_rollout=1)
    answer = answer_one(expert, query(tokenizer))
    used = [body["seed"] // 2 % 2 for _, _, body, _ in endpoint.seen if body["seed"] % 2 == 0]
    assert 0 < len(used) < 12
    [position] = np.flatnonzero(answer.distribution.counts_t)
    expected = {"3": used.count(0) / len(used), "5": used.count(1) / len(used)}
    assert labels(tokenizer, answer)[position] == {
        token: round(mass, 6) for token, mass in expected.items() if mass
    }


def test_continuations_are_the_experts_own_rows(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any
) -> None:
    asked = query(tokenizer)
    answer = answer_one(ask(continuations_per_rollout=2), asked)
    assert len(answer.continuations) == 2
    for continuation in answer.continuations:
        expected = [*encode_text(tokenizer, SOLUTION[continuation.position :])]
        assert continuation.token_ids == [*expected, tokenizer.eos_token_id]
        assert continuation.distribution.token_ids.tolist() == continuation.token_ids
        assert continuation.distribution.logprobs.tolist() == [0.0] * len(continuation.token_ids)


def test_the_saved_answers_make_the_table_again_elsewhere(
    ask: Any, endpoint: LocalEndpoint, tokenizer: Any, tmp_path: Path
) -> None:
    expert = ask()
    assert isinstance(expert, RecordingExpert)
    answer_one(expert, query(tokenizer))
    expert.save_record(tmp_path / "feedback")
    (tmp_path / "record").rename(tmp_path / "lost")
    assert restore_responses(tmp_path / "feedback", tmp_path / "record") == 5
    answer_one(ask(), query(tokenizer))
    assert len(endpoint.seen) == 5
    (tmp_path / "feedback" / "responses.jsonl").write_text('{"request": ')
    with pytest.raises(DataError, match=r"responses\.jsonl, line 1 is damaged"):
        restore_responses(tmp_path / "feedback", tmp_path / "record")


def test_a_damaged_record_is_named(ask: Any, tokenizer: Any, tmp_path: Path) -> None:
    answer_one(ask(), query(tokenizer))
    for path in (tmp_path / "record").rglob("*.json"):
        path.write_text("{")
    with pytest.raises(DataError, match=r"\.json is damaged .* delete it to ask again"):
        answer_one(ask(), query(tokenizer))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"base_url": "host/v1"}, "expected http"),
        ({"base_url": "https://me:secret@host/v1"}, "must hold no user"),
        ({"template": "{prompt}"}, "must end in {response}"),
        ({"template": "{answer}{response}"}, "unknown field"),
        ({"max_new_tokens": 1}, "greater than or equal to 2"),
        ({"api": "messages"}, "'completions' or 'chat'"),
    ],
)
def test_options_that_cannot_work_are_refused(changed: dict[str, Any], expected: str) -> None:
    options = {
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
    EXPERTS.options("black_box", options)
    with pytest.raises(ConfigError, match=expected):
        EXPERTS.options("black_box", options | changed)
