"""The program expert with real processes (about 40 s)."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs_lab import write_lab

from distil_core.errors import ConfigError, DataError, ExpertError
from distil_core.experts import EXPERTS
from distil_core.experts._program_record import restore_answers
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.experts.programs import PROGRAMS
from distil_core.experts.programs.base import Text, texts_of
from distil_core.policy.tokenizer import encode_text
from distil_core.problems.base import Problem
from distil_core.progress import no_progress


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def ask(lab: str, policy_dir: Path, compute: Any, tmp_path: Path) -> Any:
    """Build the expert anew, as another run of the stage would. how: what its program does."""

    def build(how: str = "one", **changed: Any) -> Expert:
        program = {"how": how, "log": str(tmp_path / "log")} | changed.pop("program", {})
        options = {"program": {"name": lab, "options": program}, "num_workers": 1} | changed
        setting = ExpertSetting(policy_dir, compute, 64, 16, 1.0, tmp_path / "record", 5)
        return EXPERTS.build("program", options, setting=setting)

    return build


def query(tokenizer: Any, response: str, prompt: str = "12+30=", rollout: str = "") -> ExpertQuery:
    ids = [*encode_text(tokenizer, response), tokenizer.eos_token_id]
    values = {"prompt": prompt, "execution_trace": "says"}
    return ExpertQuery([], ids, rollout or f"001/{prompt}/{response}", Problem(prompt, "?"), values)


def labels(tokenizer: Any, answer: ExpertAnswer) -> list[dict[str, float]]:
    """Each position's stored tokens and their mass."""
    scored, start, states = answer.distribution, 0, []
    for count in scored.counts_t:
        stored = slice(start, start + count)
        ids, masses = scored.token_ids[stored], np.exp(scored.logprobs[stored])
        names = tokenizer.convert_ids_to_tokens(ids.tolist())
        states.append({n: round(float(m), 6) for n, m in zip(names, masses, strict=True)})
        start += count
    return states


def answer_one(expert: Expert, asked: ExpertQuery) -> ExpertAnswer:
    [answer] = expert.answer([asked], no_progress)
    return answer


def counts(expert: Any, folder: Path) -> dict[str, int]:
    expert.save_record(folder)
    found: dict[str, int] = json.loads((folder / "expert_counts.json").read_text())
    return found


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_labels_are_what_the_program_says_next_at_the_students_own_states(
    ask: Any, tokenizer: Any, tmp_path: Path
) -> None:
    answer = answer_one(ask(), query(tokenizer, "472"))
    # After the wrong 7 it says how the response gets right again; the end is a label as well.
    assert labels(tokenizer, answer) == [{"4": 1.0}, {"2": 1.0}, {"\n": 1.0}, {"\n": 1.0}]
    assert answer.context_ids == []
    right = answer_one(ask(), query(tokenizer, "42"))
    assert labels(tokenizer, right) == [{"4": 1.0}, {"2": 1.0}, {"<|end|>": 1.0}]
    assert sorted(calls(tmp_path)) == [
        f"12+30='{so_far}'" for so_far in ("", "4", "42", "47", "472")
    ]


def test_several_texts_are_a_mixture(ask: Any, tokenizer: Any) -> None:
    mixed = labels(tokenizer, answer_one(ask("mixture"), query(tokenizer, "4")))
    assert mixed == [{"4": 0.75, "x": 0.25}, {"2": 0.75, "x": 0.25}]
    # A text that does not end has no certain token here, and the others share the mass.
    uniform = labels(tokenizer, answer_one(ask("uniform"), query(tokenizer, "4")))
    assert uniform == [{"4": 0.5, "y": 0.5}, {"2": 0.5, "y": 0.5}]
    smoothed = answer_one(ask("one", label_smoothing=0.1), query(tokenizer, ""))
    even = 0.1 / len(tokenizer)
    assert labels(tokenizer, smoothed) == [{"4": round(0.9 + even, 6)}]
    tail = math.exp(smoothed.distribution.tail_logprobs_t[0])
    assert tail == pytest.approx(even * (len(tokenizer) - 1), rel=1e-5)


def test_it_reads_the_feedback(ask: Any, tokenizer: Any) -> None:
    assert labels(tokenizer, answer_one(ask("feedback"), query(tokenizer, ""))) == [{"s": 1.0}]


def test_what_the_program_writes_on_becomes_a_row(ask: Any, tokenizer: Any) -> None:
    expert = ask(continuations_per_rollout=1, max_new_tokens=3)
    [row] = answer_one(expert, query(tokenizer, "47", "99+1=")).continuations
    assert (row.position, tokenizer.decode(row.token_ids)) == (0, "100")
    assert row.distribution.counts_t.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("how", "reason", "said"),
    [
        ("raise_after_7", "raised", "KeyError: 'seven' (line "),
        ("hang_after_7", "timed_out", "no answer within 2 s"),
        ("die_after_7", "died", "ended with status 3 on this question, twice"),
    ],
)
def test_a_state_at_which_it_fails_has_no_label_and_is_recorded(
    ask: Any, tokenizer: Any, tmp_path: Path, how: str, reason: str, said: str
) -> None:
    expert = ask(how, timeout_s=2.0)
    answers = expert.answer([query(tokenizer, "47"), query(tokenizer, "42")], no_progress)
    assert labels(tokenizer, answers[0]) == [{"4": 1.0}, {"2": 1.0}, {}]
    assert labels(tokenizer, answers[1])[2] == {"<|end|>": 1.0}
    assert answers[0].distribution.tail_logprobs_t[2] == -math.inf
    found = counts(expert, tmp_path / "saved")
    assert (found["failed_questions"], found["questions"]) == (1, 4)
    [row] = (tmp_path / "saved" / "expert_failures.jsonl").read_text().splitlines()
    row = json.loads(row)
    assert (row["rollout_id"], row["reason"]) == ("001/12+30=/47", reason)
    assert (row["failed_states"], row["asked_states"]) == ([2], 3)
    assert said in row["error"]
    # A failure is no answer: it is asked again, and answers are not.
    before = len(calls(tmp_path))
    ask(how, timeout_s=2.0).answer([query(tokenizer, "47")], no_progress)
    assert len(calls(tmp_path)) == before + (2 if reason == "died" else 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "answered none of 3 questions. The first: KeyError: 'always'"),
        ("type", "ValueError: int 3, expected a text or"),
        ("say_why", "the calculator is not connected"),
        ("no_build", "no licence"),
    ],
)
def test_a_program_that_answers_nothing_is_an_error(
    ask: Any, tokenizer: Any, how: str, said: str
) -> None:
    with pytest.raises(ExpertError) as raised:
        answer_one(ask(how), query(tokenizer, "47"))
    assert said in str(raised.value)


def test_a_program_that_always_hangs_ends_the_stage_soon(ask: Any, tokenizer: Any) -> None:
    started = time.monotonic()
    with pytest.raises(ExpertError, match="answered none of 4 questions"):
        answer_one(ask("hang", timeout_s=0.2), query(tokenizer, "1" * 30))
    # Thirty hours of questions, were it not given up.
    assert time.monotonic() - started < 300
    with pytest.raises(ExpertError, match="too long on more than 1 questions"):
        answer_one(ask("hang_after_7", timeout_s=0.2, max_timeouts=1), query(tokenizer, "4777"))


def test_nothing_to_say_is_no_failure(ask: Any, tokenizer: Any, tmp_path: Path) -> None:
    expert = ask("nothing")
    assert answer_one(expert, query(tokenizer, "47")).distribution.is_silent
    found = counts(expert, tmp_path / "saved")
    assert (found["failed_questions"], found["silent_states"], found["silent_rollouts"]) == (
        0,
        3,
        1,
    )


def test_a_rerun_asks_nothing_and_is_bit_exact(ask: Any, tokenizer: Any, tmp_path: Path) -> None:
    queries = [query(tokenizer, "472"), query(tokenizer, "42"), query(tokenizer, "9", "5+4=")]
    first = ask("mixture")
    answers = first.answer(queries, no_progress)
    first.save_record(tmp_path / "first")
    num_calls = len(calls(tmp_path))
    assert num_calls == len(set(calls(tmp_path))) == 7
    again = ask("mixture")
    others = again.answer(queries[::-1], no_progress)[::-1]
    again.save_record(tmp_path / "again")
    # Elsewhere, from what was saved with the table.
    (tmp_path / "record").rename(tmp_path / "lost")
    assert restore_answers(tmp_path / "first", tmp_path / "record") == num_calls
    restored = ask("mixture").answer(queries, no_progress)
    assert len(calls(tmp_path)) == num_calls
    for one, other, third in zip(answers, others, restored, strict=True):
        for name in ("counts_t", "token_ids", "logprobs", "tail_logprobs_t"):
            expected = getattr(one.distribution, name)
            np.testing.assert_array_equal(expected, getattr(other.distribution, name))
            np.testing.assert_array_equal(expected, getattr(third.distribution, name))
    for name in ("program_answers.jsonl", "expert_counts.json", "expert_failures.jsonl"):
        saved = (tmp_path / "first" / name).read_bytes()
        assert saved == (tmp_path / "again" / name).read_bytes()
    # Other options are another program.
    ask("mixture", program={"lead": "="}).answer(queries[:1], no_progress)
    assert len(calls(tmp_path)) == num_calls + 4


def test_a_damaged_record_is_said(ask: Any, tokenizer: Any, tmp_path: Path) -> None:
    ask().answer([query(tokenizer, "4")], no_progress)
    [file] = (tmp_path / "record" / "programs").glob("*.sqlite")
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="delete the file to ask the program again"):
        ask().answer([query(tokenizer, "4")], no_progress)
    (tmp_path / "program_answers.jsonl").write_text('{"digest": "d"}\n{"key": "no"}\n')
    with pytest.raises(DataError, match="damaged"):
        restore_answers(tmp_path, tmp_path / "record")


def test_states_at_line_starts_and_in_the_first_wrong_line(
    ask: Any, tokenizer: Any, tmp_path: Path
) -> None:
    asked = query(tokenizer, "47\n42")
    starts = labels(tokenizer, answer_one(ask(states="line_starts"), asked))
    assert [bool(state) for state in starts] == [True, False, False, True, False, False]
    assert len(calls(tmp_path)) == 2
    wrong = labels(tokenizer, answer_one(ask(states="first_wrong_line"), asked))
    assert wrong == [{"4": 1.0}, {"2": 1.0}, {"\n": 1.0}, {}, {}, {}]
    right = answer_one(ask(states="first_wrong_line"), query(tokenizer, "42"))
    assert right.distribution.is_silent
    some = labels(tokenizer, answer_one(ask(share_of_states=0.4), asked))
    assert sum(map(bool, some)) == 3


def test_the_oracle_of_a_source_is_a_program(
    tokenizer: Any, policy_dir: Path, compute: Any
) -> None:
    """Label by label what the expert `oracle` says, on responses right and wrong."""
    from distil_core.problems import PROBLEM_SOURCES

    options = {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0.5}
    component = {"name": "chain_arithmetic", "options": options}
    setting = ExpertSetting(policy_dir, compute, 64, 16, 1.0, None, 5)
    source = PROBLEM_SOURCES.build("chain_arithmetic", options)
    problems = [problem for _, problem in zip(range(6), source.problems("train", 3), strict=False)]
    random = np.random.default_rng(2)
    queries = []
    for problem in problems:
        for attempt in (problem.reference, source.corrupted_attempt(problem, random), "9", ""):
            ids = [*encode_text(tokenizer, attempt), tokenizer.eos_token_id]
            queries.append(ExpertQuery([], ids, f"{problem.prompt}/{attempt}", problem))
    oracle = EXPERTS.build(
        "oracle", {"source": component, "label_smoothing": 0.02}, setting=setting
    )
    program = {"name": "source_oracle", "options": {"source": component}}
    expert = EXPERTS.build(
        "program", {"program": program, "label_smoothing": 0.02}, setting=setting
    )
    for one, other in zip(
        oracle.answer(queries, no_progress), expert.answer(queries, no_progress), strict=True
    ):
        for name in ("counts_t", "token_ids", "logprobs", "tail_logprobs_t"):
            np.testing.assert_array_equal(
                getattr(one.distribution, name), getattr(other.distribution, name)
            )


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (None, ()),
        ([], ()),
        ("a", (Text("a"),)),
        (Text("a", 2), (Text("a", 2.0),)),
        (
            ["a", ("b", 3), Text("c", ends=False)],
            (Text("a"), Text("b", 3.0), Text("c", 1.0, False)),
        ),
    ],
)
def test_replies(reply: object, found: tuple[Text, ...]) -> None:
    assert texts_of(reply) == found


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (3, "int 3"),
        (b"a", "bytes"),
        ({"a": 1}, "dict"),
        (("a", 0.5), "float 0.5"),
        ([("a", -1)], "the weight -1"),
        ([("a", math.nan)], "the weight nan"),
        ([("a", True)], "the weight True"),
        ([("a", 0), ("b", 0)], "sum to 0"),
        (["\ud800"], "no valid text"),
    ],
)
def test_what_is_no_reply(reply: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        texts_of(reply)


def test_an_unknown_program_and_wrong_options_are_refused_when_read(lab: str) -> None:
    with pytest.raises(ConfigError, match="unknown program 'sums'"):
        EXPERTS.options("program", {"program": {"name": "sums"}})
    with pytest.raises(ConfigError, match="leed"):
        EXPERTS.options("program", {"program": {"name": lab, "options": {"leed": "x"}}})
    options = EXPERTS.options("program", {"program": {"name": lab, "options": {}}})
    assert options.components_used == (("program", lab),)


def test_the_expert_and_the_programs_keep_their_contracts(lab: str) -> None:
    from distil_core.testing import check_expert, check_program

    check_program(lab, {"lead": "= "}, responses=["= 47"])
    check_program("reference")
    options = {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0.5}
    source = {"name": "chain_arithmetic", "options": options}
    chain = [Problem("2-2-1-5=", "06")]
    assert PROGRAMS.names()[:2] == ["reference", "source_oracle"]
    check_program("source_oracle", {"source": source}, chain)
    check_expert(
        "program",
        {"program": {"name": lab, "options": {}}, "continuations_per_rollout": 1},
    )
