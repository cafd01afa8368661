"""Apply a tokenizer's chat template, which is a program by whoever made the checkpoint.

jinja2's sandbox keeps it from the process around it, but not from running for ever or filling the
memory. So it runs in its own process, with limits on both. The date that it may ask for is a
setting, so that the same settings give the same tokens tomorrow.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from distil_core.errors import ConfigError
from distil_core.policy.conventions import end_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_CPU_S, _MEMORY_BYTES, _MAX_CHARACTERS = 1.0, 512 * 2**20, 2**20
# A loose backstop; the limit on CPU time decides.
_WALL_S = 120.0
_TOOLS = "tools"
ADVICE = "write the turns into the templates and set context.chat: false"
MARK = "\ue000a\ue001"
"""An answer that no template writes by itself."""


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    add_generation_prompt: bool,
    today: date,
    kwargs: Mapping[str, Any] = _NO_OPTIONS,
    chat_template: str | None = None,
) -> str:
    """The conversation in the tokenizer's chat template, as text with its special tokens.

    today: the date that the template gets. kwargs: further variables, its options, and `tools`
    where there are any. chat_template: in place of the tokenizer's own. Raises `ConfigError` where
    there is no template, or it is broken, refuses this conversation, has no such option, or exceeds
    its limits.
    """
    template = _template(tokenizer) if chat_template is None else chat_template
    for name in kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            if name == _TOOLS:
                raise ConfigError(
                    "context.environment.declare_tools: the chat template has no place for tools: "
                    "leave it out, and say in a system turn which there are"
                )
            raise ConfigError(
                f"chat_template_kwargs: the chat template has no option {name!r}: it does not name "
                "it anywhere. Leave it out, or correct its name"
            )
    variables = {
        **tokenizer.special_tokens_map,
        **kwargs,
        "messages": [dict(message) for message in messages],
        _TOOLS: kwargs.get(_TOOLS),
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    try:
        written = json.dumps(variables)
    except TypeError as error:
        raise ConfigError(f"the tokenizer's special tokens are no text ({error})") from error
    roles = [message["role"] for message in messages]
    return _rendered(template, written, today.isoformat(), ", ".join(roles))


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise ConfigError(
            f"context.chat is true, but the policy's tokenizer has no chat template: {ADVICE}"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise ConfigError(f"the tokenizer's chat template cannot be used ({error})") from error


def response_end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a response which someone else wrote: the end token that the chat template
    writes after an assistant's turn, or else the tokenizer's own."""
    ends = end_token_ids(tokenizer)
    if len(ends) == 1 or not tokenizer.chat_template:
        return ends[0]
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    try:
        text = render_chat(tokenizer, turns, False, date(2026, 1, 1))
    except ConfigError:
        # Such a template is refused when it is used for contexts; here it just has no answer.
        return ends[0]
    after = tokenizer.encode(text.rpartition(MARK)[2], add_special_tokens=False)
    return next((token_id for token_id in after if token_id in ends), ends[0])


@lru_cache(maxsize=256)
def _rendered(template: str, variables: str, today: str, roles: str) -> str:
    jinja2 = find_spec("jinja2")
    if jinja2 is None or jinja2.origin is None:
        raise ConfigError("context.chat needs the package jinja2, which is not installed")
    request = {
        "template": template,
        "variables": json.loads(variables),
        "date": today,
        "packages": str(Path(jinja2.origin).parents[1]),
        "cpu_s": _CPU_S,
        "memory_bytes": _MEMORY_BYTES,
        "max_characters": _MAX_CHARACTERS,
    }
    script = Path(__file__).with_name("_render_template.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(script)],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            env=_environment(),
            timeout=_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"it did not end within {_WALL_S:.0f} s", roles) from None
    if done.returncode:
        raise _refused(_ending(done), roles)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise _refused(answer["error"], roles)
    return str(answer["text"])


def _environment() -> dict[str, str]:
    """Only the variables that the interpreter may need to start."""
    name = "LD_LIBRARY_PATH"
    return {name: os.environ[name]} if name in os.environ else {}


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGPROF:
        return f"it needs more than {_CPU_S:g} s of CPU time"
    return f"its process ended with {done.returncode}: {done.stderr.strip()[-300:]}"


def _refused(reason: str, roles: str) -> ConfigError:
    if "system" in roles:
        taken = f"these turns ({roles})"
        advice = (
            "where it takes no system turn, say what that says in the user's message instead (of "
            "the templates, or with prompt_messages: joined of the problems); or write the turns "
            "into the templates and set context.chat: false"
        )
    elif roles == "user":
        taken, advice = "a user's message alone", ADVICE
    else:
        taken, advice = f"these turns ({roles})", ADVICE
    return ConfigError(
        f"the tokenizer's chat template cannot be used for {taken} ({reason}): {advice}"
    )
