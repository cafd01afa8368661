"""Settings of the black-box expert: what it is asked, how often, and what that may cost."""

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config.models import Positive
from distil_core.credentials import may_carry_key, plain_address, secrets_in
from distil_core.experts._endpoint import Limits
from distil_core.experts.base import ExpertOptions
from distil_core.feedback.compose import EXPERT_FIELDS

RESPONSE_FIELD = "response"


class Options(ExpertOptions):
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
    extra_body: more fields of the request; null leaves one of ours out, which some models refuse
    (temperature, seed). Some ask for max_completion_tokens instead of max_tokens: that is noticed.
    api_key_variable: name of the environment variable that holds the key; null for none.
    allow_key_over_http: send it unencrypted to another machine, for all on the way to read.
    max_response_bytes: of one answer, unpacked.
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
    api_key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    allow_key_over_http: bool = False
    max_response_bytes: PositiveInt = 4 * 2**20
    concurrency: PositiveInt = 8
    requests_per_second: Positive | None = None
    timeout_s: Positive = 60.0
    max_attempts: PositiveInt = 6
    backoff_s: Positive = 1.0
    max_pause_s: Positive = 120.0

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        return plain_address(url)

    @field_validator("extra_body")
    @classmethod
    def _no_credentials(cls, body: dict[str, Any]) -> dict[str, Any]:
        if places := list(secrets_in(body, strict=True)):
            raise ValueError(
                f"{', '.join(places)} looks like a credential, and settings and requests are "
                "recorded: name the environment variable that holds it as api_key_variable"
            )
        return body

    @model_validator(mode="after")
    def _key_stays_secret(self) -> "Options":
        if self.api_key_variable and not (self.allow_key_over_http or may_carry_key(self.base_url)):
            raise ValueError(
                f"base_url {self.base_url} is not encrypted, so that anyone on the way could read "
                "the key of api_key_variable: use https, or set allow_key_over_http on a network "
                "that you trust"
            )
        return self

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
            max_response_bytes=self.max_response_bytes,
        )
