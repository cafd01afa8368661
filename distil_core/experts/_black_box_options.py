"""Settings of the black-box expert: what it is asked, how often, and what that may cost."""

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config.models import Positive
from distil_core.credentials import may_carry_key, plain_address, secrets_in
from distil_core.experts._endpoint import Limits
from distil_core.experts.base import ExpertOptions
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.feedback.sources import known_kinds

RESPONSE_FIELD = "response"


class Options(ExpertOptions):
    """An expert that gives text: an OpenAI-compatible endpoint (docs/experts.md)."""

    base_url: str
    """Such as https://host/v1."""
    api: Literal["completions", "chat"]
    """'completions' continues a text, 'chat' a message."""
    model: str
    """The model's name at the endpoint."""
    template: str
    """What is asked, with the fields of context.expert_template and {response}, what the student
    wrote so far. A template for 'completions' ends in {response}. For 'chat' it is the user's
    message; without {response} in it, the response so far is sent as the assistant's own unfinished
    message, which the endpoint must know how to continue (vLLM does with extra_body
    {continue_final_message: true, add_generation_prompt: false})."""
    num_samples: PositiveInt
    """Answers at each state."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Of the endpoint's sampler."""
    max_new_tokens: Annotated[int, Field(ge=2)]
    """In the endpoint's tokens. The last token of a text cut there is not trusted, so that at least
    2 are needed, and about 8 where its tokens are not the student's."""
    max_requests: PositiveInt | None
    """Requests of one iteration; null for no limit."""
    max_tokens: PositiveInt | None
    """Tokens of one iteration; null for no limit."""
    needs_feedback: bool = True
    """Whether rollouts without feedback are left out."""
    states_per_rollout: PositiveInt | None = None
    """How many of a rollout's states are asked about, chosen at random; null for all. The others
    stay without label."""
    continuations_per_rollout: Annotated[int, Field(ge=0)] = 0
    """Of how many of these states the answer becomes a row of its own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the mass that is spread evenly over the vocabulary."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request; null leaves one of ours out, which some models refuse
    (temperature, seed). Some ask for max_completion_tokens instead of max_tokens: that is
    noticed."""
    api_key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; null for none."""
    allow_key_over_http: bool = False
    """Send the key unencrypted to another machine, for all on the way to read."""
    max_response_bytes: PositiveInt = 4 * 2**20
    """Of one answer, unpacked."""
    concurrency: PositiveInt = 8
    """Requests under way."""
    requests_per_second: Positive | None = None
    """Most requests in a second; null for no limit."""
    timeout_s: Positive = 60.0
    """Of one request."""
    max_attempts: PositiveInt = 6
    """Tries of one request that fails for a reason that may pass."""
    backoff_s: Positive = 1.0
    """The pause before the second try, doubled for each further one. A random half to whole of it
    is waited."""
    max_pause_s: Positive = 120.0
    """The longest pause between two tries; an endpoint that asks for a longer one is an error."""

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
        known = ATTEMPT_FIELDS | known_kinds() | {RESPONSE_FIELD}
        if unknown := sorted(set(fields) - known):
            raise ValueError(
                f"template: unknown field {unknown}; known: {', '.join(sorted(known))}"
            )
        if self.api == "completions" and not self.template.endswith("{response}"):
            raise ValueError("template: for api 'completions' it must end in {response}")
        return self

    def limits(self) -> Limits:
        """The limits that the endpoint's client must keep."""
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
