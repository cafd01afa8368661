"""Settings of the black-box expert: what it is asked, how often, and what that may cost."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.credentials import secrets_in
from distil_core.experts._endpoint import Limits
from distil_core.experts._endpoint_options import EndpointOptions, require_known_fields

RESPONSE_FIELD = "response"


class Options(EndpointOptions):
    """An expert that gives text: an OpenAI-compatible endpoint (docs/experts.md)."""

    api: Literal["completions", "chat"]
    """'completions' continues a text, 'chat' a message."""
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
    def _usable_template(self) -> "Options":
        require_known_fields(self.template, {RESPONSE_FIELD})
        if self.api == "completions" and not self.template.endswith("{response}"):
            raise ValueError("template: for api 'completions' it must end in {response}")
        return self

    def limits(self) -> Limits:
        """The limits that the endpoint's client must keep."""
        return replace(super().limits(), max_requests=self.max_requests, max_tokens=self.max_tokens)
