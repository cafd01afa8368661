"""Chat templates in a process of their own: what transformers writes, within limits, each day."""

import datetime
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from distil_core.errors import ConfigError
from distil_core.feedback.chat_template import render_chat, response_end_id
from distil_core.policy.conventions import Conventions, register_conventions

DAY = datetime.date(2026, 1, 1)
USER = [{"role": "user", "content": 'Say "<b>é & \ue0000\ue001</b>"\n\n  twice. '}]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PUBLISHED = {
    "chatml": CHATML,
    "default system": (
        "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}\n"
        "    {{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}\n{%- endif %}\n" + CHATML
    ),
    "bos and trim": (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' "
        "else m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
        "{%- if add_generation_prompt -%}<|im_start|>model\n{%- endif -%}"
    ),
    "tools and namespaces": (
        "{%- set ns = namespace(last=-1) %}{%- if tools is not none %}{{ tools | tojson }}"
        "{% endif %}"
        "{%- for m in messages %}{%- if loop.index0 > 99 %}{% break %}{% endif %}\n"
        "{%- set ns.last = loop.index0 %}[INST] {{ m.content | tojson(indent=1) }} [/INST]"
        "{%- endfor %}{{ ns.last }}{{ messages | tojson }}{{ eos_token }}"
    ),
    "generation marks": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\n"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{{ documents is none }}{{ unknown_variable }}{{ messages[1:] | length }}"
    ),
    "macros": (
        "{%- macro turn(role, text) -%}<|im_start|>{{ role }}: {{ text }}{%- endmacro -%}"
        "{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}"
        "{{ ('a b'.split() | join('-')) ~ (1 if add_generation_prompt else 0) }}"
    ),
}


def tokenizer_with(template: Any) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", PUBLISHED.values(), ids=PUBLISHED)
@pytest.mark.parametrize("answered", [False, True])
def test_it_writes_what_transformers_writes(template: str, answered: bool) -> None:
    tokenizer = tokenizer_with(template)
    messages = [*USER, {"role": "assistant", "content": "It's\tdone"}] if answered else USER
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=not answered
    )
    assert render_chat(tokenizer, messages, not answered, DAY) == expected


def test_the_default_of_several_templates() -> None:
    tokenizer = tokenizer_with({"tool_use": "no", "default": CHATML})
    assert "<|im_start|>assistant" in render_chat(tokenizer, USER, True, DAY)
    with pytest.raises(ConfigError, match=r"cannot be used .*no default"):
        render_chat(tokenizer_with({"rag": CHATML, "tool_use": CHATML}), USER, True, DAY)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}{{ m.content }}", "TemplateSyntaxError"),
        ("{{ raise_exception('a system message must come first') }}", "must come first"),
        ("{{ messages[7].content.x }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "CPU"),
        ("{% for a in range(999999999) %}{% endfor %}", "Range too big"),
        ("{{ 9 ** (9 ** 9) }}", "CPU"),
        ("{% set x = 'a' * 2000000000 %}{{ messages[0].content }}", "512 MiB of memory"),
        ("{{ 'a' * 2000000 }}", "writes 2000000 characters, 1048576 are allowed"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{{ raise_exception.__globals__['json'] }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "SecurityError"),
        ("{{ '{0.__class__.__mro__}'.format(messages) }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ messages.append(1) }}", "SecurityError"),
    ],
)
def test_templates_that_are_refused(template: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        render_chat(tokenizer_with(template), USER, True, DAY)
    assert "context.chat: false" in str(error.value)


def test_no_template_at_all() -> None:
    with pytest.raises(ConfigError, match="has no chat template"):
        render_chat(tokenizer_with(None), USER, True, DAY)


def test_the_date_is_a_setting_and_chance_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_with("{{ strftime_now('%d %b %Y %H:%M') }} {{ range(10**4) | random }}")
    found = set()
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        monkeypatch.setenv("TZ", zone)
        # Messages differ, so that nothing is answered from memory.
        found.add(render_chat(tokenizer, [{"role": "user", "content": zone}], True, DAY))
    (text,) = found
    assert text.startswith("01 Jan 2026 00:00 ")
    other = render_chat(tokenizer, USER, True, datetime.date(2024, 7, 26))
    assert other.startswith("26 Jul 2024")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, "<|im_end|>"),
        (None, "<|endoftext|>"),
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "<|endoftext|>"),
        ("{{ raise_exception('no') }}", "<|endoftext|>"),
    ],
)
def test_a_response_of_someone_else_ends_as_a_turn_does(template: Any, expected: str) -> None:
    tokenizer = tokenizer_with(template)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    register_conventions(tokenizer, Conventions(tuple(ends)))
    assert response_end_id(tokenizer) == tokenizer.convert_tokens_to_ids(expected)


def test_with_one_end_there_is_no_choice() -> None:
    tokenizer = tokenizer_with(CHATML)
    assert response_end_id(tokenizer) == tokenizer.eos_token_id
