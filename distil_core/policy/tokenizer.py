"""The character tokenizer of new policies, and encoding that treats content as data.

A new policy has one token per character: there is no tokenizer to train, and each line of a
solution is one token, so that a rollout's credit map reads like the rollout.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from distil_core.errors import CheckpointError, DataError
from distil_core.policy.conventions import end_token_ids, read_conventions, register_conventions
from distil_core.policy.text_segments import Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Built once for each tokenizer, since a large vocabulary takes a second. Which: as in `_changed`.
_CHANGED: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[bool, bool], Tokenizer | None]] = (
    WeakKeyDictionary()
)
# Cached, as a campaign's few templates are part of every context.
_TEMPLATES: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[str, bool], list[int]]] = (
    WeakKeyDictionary()
)

_WRITES_SPACE = ("normalizer", "pre_tokenizer")
"""The parts of a tokenizer that may write a space before a text."""
END_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN = "<|end|>", "<|pad|>", "<|unknown|>"


def character_tokenizer(extra_alphabet: str) -> PreTrainedTokenizerFast:
    """One token for each printable ASCII character, newline, and each of `extra_alphabet`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = dict.fromkeys(string.printable[:95] + "\n" + extra_alphabet)
    vocabulary = {
        token: index for index, token in enumerate([PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, *alphabet])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(policy_dir: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a checkpoint folder, with the folder's conventions (see `end_token_ids`).
    Raises `CheckpointError` when it is missing or unusable. No code of the folder is run."""
    if not (policy_dir / "tokenizer_config.json").exists():
        raise CheckpointError(
            f"no tokenizer in {policy_dir}: expected tokenizer_config.json there; "
            "run the stage that makes this policy, or `dvc checkout`"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            policy_dir, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise many unrelated types
        raise CheckpointError(
            f"the tokenizer in {policy_dir} cannot be loaded ({type(error).__name__}: {error}); "
            "`dvc checkout --force` restores it from the cache"
        ) from error
    register_conventions(tokenizer, read_conventions(policy_dir))
    if not end_token_ids(tokenizer):
        raise CheckpointError(
            f"the policy in {policy_dir} has no end-of-sequence token: expected eos_token in its "
            "tokenizer_config.json, or eos_token_id in its generation_config.json"
        )
    return tokenizer


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of plain text: what looks like a special token is split like any other text."""
    if not tokenizer.is_fast:
        return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    # The same call as in transformers, without its overhead of 12 microseconds for each text.
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return list(backend.encode(text, add_special_tokens=False).ids)


def encode_context(tokenizer: PreTrainedTokenizerBase, segments: Sequence[Segment]) -> list[int]:
    """Token ids of a rendered context. Each segment is encoded on its own, so that content can
    neither end a turn nor merge with the template's text, and contexts with the same ending end in
    the same token. The space that some tokenizers write before a text is written once."""
    token_ids: list[int] = []
    begins = True
    for segment in segments:
        encode = encode_template if segment.is_template else encode_content
        token_ids += encode(tokenizer, segment.text, begins)
        # A tokenizer writes its first token before a text, not as a part of it.
        begins = begins and segment.text == tokenizer.bos_token
    return token_ids


def encode_content(tokenizer: PreTrainedTokenizerBase, text: str, begins: bool = True) -> list[int]:
    """Like `encode_text`, and also splits markers that a tokenizer added without declaring them
    special, such as <think> or <tool_call>: they steer a model as much as special tokens do.
    begins: whether no other text stands before it."""
    changed = _changed(tokenizer, is_content=True, begins=begins)
    if changed is None:
        return encode_text(tokenizer, text)
    return list(changed.encode(text, add_special_tokens=False).ids)


def encode_template(tokenizer: PreTrainedTokenizerBase, text: str, begins: bool) -> list[int]:
    """Token ids of a template's text, in which special tokens are what they say."""
    encoded = _TEMPLATES.setdefault(tokenizer, {})
    if (text, begins) not in encoded:
        changed = _changed(tokenizer, is_content=False, begins=begins)
        token_ids: list[int] = []
        rest = text
        if changed is not None:
            # What follows a special token is a text of its own for such a tokenizer.
            tokens = [re.escape(one.content) for one in tokenizer.added_tokens_decoder.values()]
            rest = re.sub(f"^.*?(?={'|'.join(tokens)}|\\Z)", "", text, count=1, flags=re.DOTALL)
            before = text[: len(text) - len(rest)]
            token_ids = list(changed.encode(before, add_special_tokens=False).ids)
        encoded[text, begins] = token_ids + tokenizer.encode(rest, add_special_tokens=False)
    return encoded[text, begins]


def _changed(
    tokenizer: PreTrainedTokenizerBase, *, is_content: bool, begins: bool
) -> Tokenizer | None:
    """The tokenizer as it is needed within a context; None where it is so itself. is_content: its
    visible added tokens are split like text; added runs of spaces, with which it writes
    indentation, stay. Unless it `begins` a text, it writes no space before it."""
    made = _CHANGED.setdefault(tokenizer, {})
    if (is_content, begins) not in made:
        made[is_content, begins] = _make_changed(tokenizer, is_content, begins)
    return made[is_content, begins]


def _make_changed(
    tokenizer: PreTrainedTokenizerBase, is_content: bool, begins: bool
) -> Tokenizer | None:
    added = tokenizer.added_tokens_decoder.values()
    splits = is_content and any(not one.special and one.content.strip() for one in added)
    if not tokenizer.is_fast or (begins and not splits):
        return None
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    cut = {} if begins else {part: _without_space(settings[part]) for part in _WRITES_SPACE}
    if not splits and all(settings[part] == found for part, found in cut.items()):
        return None
    from tokenizers import Tokenizer

    for entry in settings["added_tokens"] if splits else ():
        entry["special"] = entry["special"] or bool(entry["content"].strip())
    changed = Tokenizer.from_str(json.dumps(settings | cut))
    changed.encode_special_tokens = is_content
    changed.no_truncation()
    changed.no_padding()
    return changed


def _without_space(part: Any) -> Any:
    """A tokenizer's normalizer or pre-tokenizer, as in tokenizer.json, that writes no space before
    a text."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Sequence":
        name = "normalizers" if "normalizers" in part else "pretokenizers"
        kept = [_without_space(one) for one in part[name]]
        return part | {name: [one for one in kept if one is not None]}
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    return part | {"add_prefix_space": False} if "add_prefix_space" in part else part


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of a response, without its end token and with spaces unchanged.

    Any other special token is spelled out: hiding it from the verifier would make the response look
    like a different one.
    """
    ended = len(token_ids) > 0 and int(token_ids[-1]) in end_token_ids(tokenizer)
    kept_ids = list(token_ids[:-1] if ended else token_ids)
    if tokenizer.is_fast:
        # As in `encode_text`.
        return str(tokenizer.backend_tokenizer.decode(kept_ids, skip_special_tokens=False))
    text = tokenizer.decode(kept_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return str(text)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the vocabulary and special tokens. Tables store it, and readers compare it."""
    return _digest((_entries(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id))


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the vocabulary alone: which token each id is, whatever ends a text or pads it."""
    return _digest(_entries(tokenizer))


def _entries(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, int]]:
    return sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))


def _digest(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def check_same_tokenizer(found_digest: str, expected_digest: str, what: str) -> None:
    """Raise `DataError` when a table or policy was made with another tokenizer."""
    if found_digest != expected_digest:
        raise DataError(
            f"{what} was made with another tokenizer (digest {found_digest}, expected "
            f"{expected_digest}): token ids would mean other text. Use the policy it was made "
            "with, or sample again."
        )
