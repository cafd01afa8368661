"""A chat model and prompts of several messages, from the file to the expert's labels."""

import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from preview_scratch import session, write_own_data
from rich.console import Console

from distil_core.campaign.inputs import require_inputs
from distil_core.campaign.load import load_params
from distil_core.campaign.new_workspace import write_workspace
from distil_core.errors import ConfigError
from distil_core.policy.model import save_policy
from distil_core.preview.page import render_page
from distil_core.preview.terminal import rendered
from distil_core.workspace import Workspace

BOS = "<|unknown|>"
TEMPLATE = (
    "{% for m in messages %}{% if loop.index0 % 2 != (m.role == 'assistant') | int %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role[0] }}{{ m.content }}]"
    "{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)
CONTEXT = {
    "chat": True,
    "student_template": "{prompt}!",
    "expert_template": [
        {"role": "user", "content": "{prompt}"},
        {"role": "assistant", "content": "{attempt}"},
        {"role": "user", "content": "{tool_output}"},
    ],
    "shorten": [{"field": "tool_output", "keep": "start"}],
    "max_context_tokens": 60,
}
VERIFIER = {"name": "final_number", "options": {}}


def talk(*contents: str, roles: str = "uauau") -> list[dict[str, str]]:
    names = {"u": "user", "a": "assistant"}
    return [
        {"role": names[role], "content": content}
        for role, content in zip(roles, contents, strict=False)
    ]


@pytest.fixture
def workspace(
    tmp_path: Path, tokenizer: Any, new_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    workspace = write_workspace(tmp_path, campaign="chat")
    model = tmp_path / "model"
    save_policy(new_model(), tokenizer, model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token": BOS}))
    monkeypatch.chdir(tmp_path)
    return workspace


def write(workspace: Workspace, roles: str = "uauau", **context: Any) -> None:
    rows = [
        {"question": talk("1?", "1", f"and {n}?", roles=roles), "answer": f"#### {n + 1}"}
        for n in range(20)
    ]
    write_own_data(workspace, rows, VERIFIER, **CONTEXT | context)
    text = workspace.params_file.read_text()
    workspace.params_file.write_text(
        text.replace("prompt_field:", "prompt_messages: turns\n      prompt_field:")
    )


def test_a_conversation_goes_through_everything(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace)
    require_inputs(workspace, load_params(workspace))
    view = session(workspace, tmp_path / "scratch").try_once()
    (number,) = {re.search(r"and (\d+)\?", one.prompt) for one in view.problems[:1]}
    assert number is not None
    shown = view.problems[0]
    assert shown.prompt == f"User: 1?\n\nAssistant: 1\n\nUser: and {number[1]}?"
    assert shown.student.text == f"[u1?][a1][uand {number[1]}?!]>"
    attempt = shown.telling
    assert attempt.expert is not None
    start = f"[u1?][a1][uand {number[1]}?][a{attempt.response}][u"
    assert attempt.expert.text.startswith(start)
    assert attempt.expert.text.endswith("]>")
    assert any(token for one in view.problems for each in one.attempts for token in each.tokens)


@pytest.mark.parametrize(("bos", "with_bos"), [("auto", False), ("always", True)])
def test_it_says_whether_contexts_begin_with_the_first_token(
    workspace: Workspace, tmp_path: Path, bos: str, with_bos: bool
) -> None:
    write(workspace, bos=bos)
    file = workspace.root / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"add_bos_token": True}))
    view = session(workspace, tmp_path / "scratch").try_once()
    words = f"begins with {BOS}" if with_bos else f"does not begin with {BOS}"
    assert {one.student.beginning for one in view.problems} == {words}
    (row,) = (row for row in view.rows if row[0] == "first token")
    assert re.fullmatch(r"(\d+) of \1" if with_bos else r"0 of \d+", row[1])
    warned = [one.text for one in view.findings if "context.bos: always" in one.text]
    assert len(warned) == (not with_bos)
    written = io.StringIO()
    Console(width=200, file=written).print(rendered(view))
    assert f"tokens, {words}" in written.getvalue()
    assert f"tokens, {html.escape(words)}" in render_page(view)


def test_turns_that_the_template_refuses_are_said_before_anything_is_frozen(
    workspace: Workspace,
) -> None:
    write(workspace, roles="uuu")
    with pytest.raises(ConfigError, match=r"\(user, user, user\) .*must alternate.*the prompt 'Us"):
        require_inputs(workspace, load_params(workspace))
