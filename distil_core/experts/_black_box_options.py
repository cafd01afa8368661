"""Settings of the black-box expert: what it is asked, how often, and what that may cost."""

from string import Formatter
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config.models import Positive
from distil_core.experts._endpoint import Limits
from distil_core.feedback.compose import EXPERT_FIELDS
from distil_core.registry import ComponentOptions

RESPONSE_FIELD = "response"


class Options(ComponentOptions):
    """base_url: such as https://host/v1. api: 'completions' continues a text, 'chat' a message.

    template: what is asked, with the fields of context.expert_template and {response}, what the
    student wrote so far. A template for 'completions' ends in {response}. For 'chat' it is the
    user's message; without {response} in it, the response so far is sent as the assistant's own
    unfinished message, which the endpoint must know how to continue (vLLM does with extra_body
    {continue_final_message: true, add_generation_prompt: false}).
    max_new_tokens: in the endpoint's tokens. The last token of a text cut there is not trusted, so
    that at least 2 are needed, and about 8 where its tokens are not the student's.
    num_samples: answers at each state. states_per_rollout: how many of a rollout's states are
    asked about, chosen at random; null for all. The others stay without label.
    continuations_per_rollout: of how many of these states the answer becomes a row of its own.
    api_key_variable: name of the environment variable that holds the key; null for none.
    max_requests, max_tokens: of one iteration. requests_per_second: null for no limit.
    """

    base_url: str
    api: Literal["completions", "chat"]
    model: str
    template: str
    num_samples: PositiveInt
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    max_new_tokens: Annotated[int, Field(ge=2)]
    max_requests: PositiveInt | None
    max_tokens: PositiveInt | None
    needs_feedback: bool = True
    states_per_rollout: PositiveInt | None = None
    continuations_per_rollout: Annotated[int, Field(ge=0)] = 0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    extra_body: dict[str, Any] = Field(default_factory=dict)
    api_key_variable: str | None = None
    concurrency: PositiveInt = 8
    requests_per_second: Positive | None = None
    timeout_s: Positive = 60.0
    max_attempts: PositiveInt = 6
    backoff_s: Positive = 1.0
    max_pause_s: Positive = 120.0

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http(s)://host/v1, found {url!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query: settings are recorded")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _usable_template(self) -> "Options":
        fields = [field for _, field, _, _ in Formatter().parse(self.template) if field is not None]
        known = EXPERT_FIELDS | {RESPONSE_FIELD}
        if unknown := sorted(set(fields) - known):
            raise ValueError(
                f"template: unknown field {unknown}; known: {', '.join(sorted(known))}"
            )
        if self.api == "completions" and not self.template.endswith("{response}"):
            raise ValueError("template: for api 'completions' it must end in {response}")
        return self

    def limits(self) -> Limits:
        """What the endpoint's client is held to."""
        return Limits(
            timeout_s=self.timeout_s,
            max_attempts=self.max_attempts,
            backoff_s=self.backoff_s,
            max_pause_s=self.max_pause_s,
            requests_per_second=self.requests_per_second,
            max_requests=self.max_requests,
            max_tokens=self.max_tokens,
        )
