"""inspect_ai's model provider `distil`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from distil_core.engines.base import SampledResponse, SamplingSettings
from distil_core.errors import EngineError, ExportError
from distil_core.outside_evaluation.batches import BatchedSampling
from distil_core.outside_evaluation.policy import evaluated_policy
from distil_core.workspace import Workspace

_MAX_CONNECTIONS = 256
_GREEDY_TOP_P = 1e-12
"""The fewest tokens that hold it are the most likely one."""

_NOT_SAMPLED_WITH = (
    "best_of",
    "frequency_penalty",
    "logit_bias",
    "presence_penalty",
    "prompt_logprobs",
    "response_schema",
    "stop_seqs",
    "top_k",
    "top_logprobs",
)
"""What would give another figure if it were passed over."""


class DistilModel(ModelAPI):
    """A policy in its campaign's own engine and context. What a task does not set is as in the
    campaign's evaluation: temperature, top-p, the longest response."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as the base class has it
        workspace: str = ".",
        **unknown: Any,
    ):
        super().__init__(model_name, base_url, api_key, [], config)
        if unknown:
            raise ExportError(
                f"unknown model arguments {', '.join(sorted(unknown))}: distil has `workspace`, "
                "the folder of a campaign"
            )
        self._policy = evaluated_policy(Workspace(Path(workspace).expanduser()), model_name)
        self._sampling = BatchedSampling(self._policy.engine)

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 - as the base class names it
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One response, or `num_choices` of them. Raises `ExportError` where the task asks for
        what a policy is never sampled with, and `EngineError` where the engine failed."""
        if tools:
            raise ExportError("the task offers tools, which a policy of distil does not call")
        _require_plain(config)
        messages = [{"role": message.role, "content": message.text} for message in input]
        context_ids = self._policy.context(messages)
        settings = self._settings(config)
        responses = [
            await self._sampling.sample(
                self._policy.request(context_ids, config.seed or 0), settings
            )
            for _ in range(config.num_choices or 1)
        ]
        errors = [response.error for response in responses if response.error is not None]
        if errors:
            raise EngineError(f"the engine has no response: {errors[0]}")
        count = sum(len(response.token_ids) for response in responses)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(response, bool(config.logprobs)) for response in responses],
            usage=ModelUsage(
                input_tokens=len(context_ids),
                output_tokens=count,
                total_tokens=len(context_ids) + count,
            ),
        )

    def max_connections(self) -> int:
        """Samples that may ask at once, which become batches of the engine."""
        return _MAX_CONNECTIONS

    def _settings(self, config: GenerateConfig) -> SamplingSettings:
        usual = self._policy.params.evaluate
        length = usual.max_new_tokens if config.max_tokens is None else config.max_tokens
        temperature = usual.temperature if config.temperature is None else config.temperature
        if temperature == 0.0:
            return SamplingSettings(length, 1.0, _GREEDY_TOP_P)
        top_p = usual.top_p if config.top_p is None else config.top_p
        return SamplingSettings(length, temperature, top_p)

    def _choice(self, response: SampledResponse, with_logprobs: bool) -> ChatCompletionChoice:
        logprobs = [
            Logprob(token=self._policy.token_text(token_id), logprob=logprob)
            for token_id, logprob in zip(
                response.token_ids, response.behaviour_logprobs, strict=True
            )
        ]
        return ChatCompletionChoice(
            message=ChatMessageAssistant(
                content=self._policy.text(response.token_ids),
                model=self.model_name,
                source="generate",
            ),
            stop_reason="stop" if response.finish_reason == "stop" else "max_tokens",
            logprobs=Logprobs(content=logprobs) if with_logprobs else None,
        )


def _require_plain(config: GenerateConfig) -> None:
    asked = [name for name in _NOT_SAMPLED_WITH if getattr(config, name) not in (None, [], {})]
    if asked:
        raise ExportError(
            f"the task sets {', '.join(asked)}, which a policy of distil is not sampled with"
        )
