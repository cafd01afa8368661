"""How a checkpoint begins and ends a text, by its own files."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import MARKERS, chat_tokenizer, edit_json, make_checkpoint

from distil_core.config.models import ComputeParams
from distil_core.errors import CheckpointError
from distil_core.policy.conventions import beginning, end_token_ids, read_conventions
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.tokenizer import decode, encode_text, load_tokenizer

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = chat_tokenizer()
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    folder = tmp_path_factory.mktemp("chat") / "model"
    return make_checkpoint(folder, tokenizer, {"eos_token_id": ends})


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": 7}, {"eos_token_id": 3}, (7,)),
        ({"eos_token_id": [9, 7]}, {}, (9, 7)),
        ({}, {"eos_token_id": [4, 5]}, (4, 5)),
        (None, {"eos_token_id": 3}, (3,)),
        ({"eos_token_id": None}, {"text_config": {"eos_token_id": [1, 106]}}, (1, 106)),
        ({"eos_token_id": [-1, 2]}, {}, (2,)),
        ({"eos_token_id": []}, {}, ()),
        (None, {}, ()),
    ],
)
def test_where_ends_are_named(
    tmp_path: Path, generation: dict[str, Any] | None, config: dict[str, Any], expected: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert read_conventions(tmp_path).end_token_ids == expected


@pytest.mark.parametrize("named", ["</s>", [1, "2"], 1.5, True, [[3]], {"id": 1}])
def test_ends_that_are_no_token_ids(tmp_path: Path, named: Any) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    with pytest.raises(CheckpointError, match="eos_token_id must be a token id or a list"):
        read_conventions(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "{", "", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_file_that_is_no_object(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "generation_config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        read_conventions(tmp_path)


@given(text=st.text(st.characters(codec="ascii"), max_size=12), end=st.sampled_from(MARKERS[:2]))
def test_no_end_token_reaches_a_verifier(chat: Path, text: str, end: str) -> None:
    tokenizer = load_tokenizer(chat)
    ended = [*encode_text(tokenizer, text), tokenizer.convert_tokens_to_ids(end)]
    assert decode(tokenizer, ended) == text
    # Another special token, or an end within, is spelled out.
    assert decode(tokenizer, [*ended, *ended]) == f"{text}{end}{text}"


def test_a_tokenizer_without_an_end_takes_the_models(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    folder = make_checkpoint(tmp_path / "model", tokenizer, {"eos_token_id": end})
    content = json.loads((folder / "tokenizer_config.json").read_text())
    del content["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    assert end_token_ids(load_tokenizer(folder)) == (end,)


def test_ends_are_kept_when_a_policy_is_saved(chat: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(chat)
    assert len(end_token_ids(tokenizer)) == 2
    save_policy(load_model(chat, COMPUTE), tokenizer, tmp_path / "policy")
    assert end_token_ids(load_tokenizer(tmp_path / "policy")) == end_token_ids(tokenizer)


@pytest.mark.parametrize(
    ("writes_bos", "tokenizer_config", "config", "expected"),
    [
        (False, {}, {}, ""),
        # A first token that the model's configuration merely has asks for nothing.
        (False, {}, {"bos_token_id": 3}, ""),
        (True, {}, {}, "<s>"),
        (False, {"add_bos_token": True}, {}, "<s>"),
        (False, {"add_bos_token": False}, {}, ""),
        (False, {}, {"model_type": "gemma3_text"}, "<s>"),
        (False, {"add_bos_token": False}, {"model_type": "gemma2"}, ""),
    ],
)
def test_what_a_text_begins_with(
    tmp_path: Path,
    writes_bos: bool,
    tokenizer_config: dict[str, Any],
    config: dict[str, Any],
    expected: str,
) -> None:
    folder = make_checkpoint(tmp_path / "model", chat_tokenizer(writes_bos))
    edit_json(folder / "tokenizer_config.json", tokenizer_config)
    # Of the whole file only this is read: the tokenizer is loaded before.
    tokenizer = load_tokenizer(folder)
    edit_json(folder / "config.json", config)
    if config:
        from distil_core.policy.conventions import register_conventions

        register_conventions(tokenizer, read_conventions(folder))
    assert beginning(tokenizer) == expected
    if not config:
        save_policy(load_model(folder, COMPUTE), tokenizer, tmp_path / "saved")
        assert beginning(load_tokenizer(tmp_path / "saved")) == expected
