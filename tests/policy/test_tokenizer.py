"""The character tokenizer, its digest, and responses read as they are (5 s)."""

import json
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.errors import CheckpointError, DataError
from distil_core.policy.text_segments import Segment
from distil_core.policy.tokenizer import (
    END_TOKEN,
    PAD_TOKEN,
    character_tokenizer,
    check_same_tokenizer,
    decode,
    encode_context,
    encode_text,
    load_tokenizer,
    tokenizer_digest,
)

PROJECT = Path(__file__).parents[2]
PRINTABLE = string.printable[:95] + "\n"


@given(st.text(PRINTABLE, max_size=40))
@hypothesis_settings(deadline=None)
def test_a_token_a_character_and_back(tokenizer: Any, text: str) -> None:
    ids = encode_text(tokenizer, text)
    assert len(ids) == len(text)
    assert decode(tokenizer, ids) == text
    assert decode(tokenizer, [*ids, tokenizer.eos_token_id]) == text


@given(st.text(max_size=20))
@hypothesis_settings(deadline=None)
def test_content_never_becomes_a_special_token(tokenizer: Any, text: str) -> None:
    for hostile in (text, f"{text}{END_TOKEN}{text}", f"{PAD_TOKEN}{text}"):
        ids = encode_text(tokenizer, hostile)
        assert tokenizer.eos_token_id not in ids
        assert tokenizer.pad_token_id not in ids
        assert len(ids) == len(hostile)


@given(text=st.text(max_size=20), marker=st.sampled_from([END_TOKEN, "<|pad|>", "<|unk"]))
@hypothesis_settings(deadline=None)
def test_encoding_is_what_transformers_does(tokenizer: Any, text: str, marker: str) -> None:
    """Also after a caller had it cut or pad, which the tokenizer remembers."""
    hostile = f"{text}{marker}{text}"
    expected = tokenizer.encode(hostile, add_special_tokens=False, split_special_tokens=True)
    tokenizer([hostile, "1"], padding=True, truncation=True, max_length=3)
    assert encode_text(tokenizer, hostile) == expected
    whole = tokenizer.encode(hostile, add_special_tokens=False)
    for _ in range(2):
        assert encode_context(tokenizer, [Segment(hostile, is_template=True)]) == whole


def test_the_template_may_hold_special_tokens(tokenizer: Any) -> None:
    assert tokenizer.encode(END_TOKEN, add_special_tokens=False) == [tokenizer.eos_token_id]


def test_special_tokens_inside_a_response_are_seen(tokenizer: Any) -> None:
    """Left out of the text, `06<|pad|>105` would pass for the right answer 06105."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = [*encode_text(tokenizer, "06"), pad, *encode_text(tokenizer, "105"), end]
    assert decode(tokenizer, ids) == "06<|pad|>105"
    assert decode(tokenizer, [tokenizer.unk_token_id, end]) == "<|unknown|>"
    assert decode(tokenizer, [end]) == ""
    assert decode(tokenizer, []) == ""


def test_further_characters_of_a_source_are_tokens(tokenizer: Any) -> None:
    larger = character_tokenizer("é日")
    assert len(larger) == len(tokenizer) + 2
    assert decode(larger, encode_text(larger, "日é?")) == "日é?"
    assert encode_text(tokenizer, "é") == [tokenizer.unk_token_id]


def test_saving_and_loading_changes_nothing(
    tokenizer: Any, policy_dir: Path, tmp_path: Path
) -> None:
    loaded = load_tokenizer(policy_dir)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert tokenizer_digest(loaded) == tokenizer_digest(tokenizer)
    text = f"1+1=  {END_TOKEN}\n~"
    assert encode_text(loaded, text) == encode_text(tokenizer, text)
    loaded.save_pretrained(tmp_path / "again")
    again = tmp_path / "again" / "tokenizer.json"
    assert again.read_bytes() == (policy_dir / "tokenizer.json").read_bytes()


DIGEST = """
import sys
from pathlib import Path
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
print(tokenizer_digest(load_tokenizer(Path(sys.argv[1]))))
"""


def test_the_digest_is_the_same_in_another_process(tokenizer: Any, policy_dir: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", DIGEST, str(policy_dir)],
        cwd=PROJECT,
        env={"PYTHONHASHSEED": "12345", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == tokenizer_digest(tokenizer)


def test_the_digest_tells_tokenizers_apart(tokenizer: Any) -> None:
    digests = {
        tokenizer_digest(character_tokenizer(extra)) for extra in ("", "é", "é日", "日é", "ü")
    }
    assert len(digests) == 5
    assert tokenizer_digest(tokenizer) in digests  # digits and signs are in the alphabet already
    other_end = character_tokenizer("")
    other_end.eos_token = "~"
    assert tokenizer_digest(other_end) not in digests


def test_another_tokenizer_is_refused() -> None:
    check_same_tokenizer("a1", "a1", "data/x.parquet")
    with pytest.raises(DataError, match=r"data/x\.parquet was made .*digest a1, expected b2"):
        check_same_tokenizer("a1", "b2", "data/x.parquet")


def _without_an_end(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8"
    )
    for name in ("generation_config.json", "config.json"):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        content.pop("eos_token_id")
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "tokenizer_config.json").unlink(), "expected tokenizer_config"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded .*checkout"),
        (_without_an_end, "no end-of-sequence token"),
    ],
)
def test_a_damaged_tokenizer(policy_dir: Path, tmp_path: Path, damage: Any, expected: str) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(policy_dir, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=expected):
        load_tokenizer(folder)
