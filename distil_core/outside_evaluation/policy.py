"""A policy with the context, the sampler and the end tokens that the campaign evaluates it with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from distil_core.campaign.extends import read_mapping
from distil_core.campaign.load import load_iteration_params, parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import SampleRequest
from distil_core.errors import ExportError
from distil_core.export.chosen import chosen_policy
from distil_core.export.evidence import SETTINGS_FILE
from distil_core.feedback.chat_template import render_chat
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import decode, load_tokenizer
from distil_core.problems.messages import ROLES, Message
from distil_core.seeds import derive_seed
from distil_core.workspace import Workspace


class EvaluatedPolicy:
    """params: of the iteration that the policy is of; they decide everything that a task does not
    ask for."""

    def __init__(self, policy_dir: Path, params: IterationParams):
        self.params = params
        self.engine = build_engine(params.sample.engine, policy_dir, params.compute)
        self._tokenizer = load_tokenizer(policy_dir)
        self._renderer = ContextRenderer(params.context, self._tokenizer)
        self._asked: Counter[tuple[int, ...]] = Counter()

    def context(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids for a conversation. A user's message alone becomes the very context of the
        campaign; more only where the campaign uses the model's chat template.

        Raises `ExportError` for a conversation that the policy was never trained to read, and
        `DataError` for one that is too long.
        """
        if len(messages) == 1 and messages[0]["role"] == "user":
            return self._renderer.student(messages[0]["content"], "of the task").token_ids
        if not self.params.context.chat:
            roles = ", ".join(message["role"] for message in messages)
            raise ExportError(
                f"this policy was trained on one message of a user, the task has {roles}: use a "
                "task, or a solver, that puts all of it into one message"
            )
        return self._conversation(messages)

    def _conversation(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        context, template = self.params.context, self.params.context.student_template
        trained_on = self.params.problems.source.options.get("prompt_messages")
        if not isinstance(template, str) or trained_on == "turns":
            prompt = tuple(map(_message, messages))
            if prompt[-1].role != "user":
                raise ExportError(
                    f"the task's last message is of {prompt[-1].role!r}: this policy was trained "
                    "to answer a user's"
                )
            return self._renderer.student(prompt, "of the task").token_ids
        turns = [
            message
            if message["role"] != "user"
            else {
                "role": "user",
                "content": template.format(prompt=message["content"]),
            }
            for message in messages
        ]
        text = render_chat(
            self._tokenizer, turns, True, context.chat_date, context.chat_template_kwargs
        )
        found = list(self._tokenizer.encode(text, add_special_tokens=False))
        if len(found) > context.max_context_tokens:
            raise ExportError(
                f"a conversation has {len(found)} tokens, context.max_context_tokens allows "
                f"{context.max_context_tokens}"
            )
        return found

    def request(self, context_ids: Sequence[int], seed: int) -> SampleRequest:
        """A rollout to draw. The same context asked again (another epoch) draws other numbers, and
        the whole evaluation the same ones again with the same seed."""
        key = tuple(context_ids)
        number = self._asked[key]
        self._asked[key] += 1
        return SampleRequest(context_ids, derive_seed(seed, "inspect_ai", repr(key), number))

    def text(self, token_ids: Sequence[int]) -> str:
        """What verifiers read too: without the end token, other special tokens spelled out."""
        return decode(self._tokenizer, token_ids)

    def token_text(self, token_id: int) -> str:
        """One token, for a list of log-probabilities."""
        return str(self._tokenizer.convert_ids_to_tokens(token_id))


def _message(each: Mapping[str, str]) -> Message:
    role = ROLES.get(each["role"])
    if role is None:
        raise ExportError(
            f"the task has a message of {each['role']!r}: expected system, user or assistant, as "
            "this policy was trained on"
        )
    return Message(role, each["content"])


def evaluated_policy(workspace: Workspace, wanted: str) -> EvaluatedPolicy:
    """A policy of the workspace (champion, newest, policy-003), or an exported folder's."""
    folder = Path(wanted).expanduser()
    if (folder / SETTINGS_FILE).is_file():
        settings = folder / SETTINGS_FILE
        values = read_mapping(settings, str(settings))
        params = parse_iteration_params(values, str(settings), with_components=False)
        return EvaluatedPolicy(folder, params)
    if folder.is_dir():
        raise ExportError(
            f"{folder} has no {SETTINGS_FILE}: expected a folder that `distil export` wrote, or "
            "champion, newest or policy-003 in a workspace"
        )
    iteration = max(chosen_policy(workspace, wanted))
    params = load_iteration_params(workspace, iteration, with_components=False)
    return EvaluatedPolicy(workspace.policy_dir(iteration), params)
