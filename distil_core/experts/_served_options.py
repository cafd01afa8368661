"""Settings of the expert behind a server: where it is, and which tokens it reads."""

from string import Formatter
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config.models import Positive
from distil_core.credentials import may_carry_key, plain_address
from distil_core.experts._endpoint import Limits
from distil_core.experts.base import ExpertOptions
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.feedback.sources import known_kinds


class Options(ExpertOptions):
    """A model behind vLLM's OpenAI-compatible server, which gives the most likely tokens at each
    state (docs/experts.md#behind-a-server)."""

    base_url: str
    """Such as http://host:8000/v1."""
    model: str
    """The model's name at the server."""
    tokenizer: str | None = None
    """A folder with the server's tokenizer, absolute or from the workspace's root; null where it is
    the student's. With the same tokens in it, only the end tokens may differ. With others, the
    expert reads `template`, and its distributions are mapped onto the student's tokens."""
    template: str | None = None
    """What an expert with other tokens reads before the response, with the fields of
    context.expert_template. One with the student's tokens reads context.expert_template."""
    chat: bool = False
    """Whether `template` is a user's message in the chat template of `tokenizer`."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Options of that chat template, such as enable_thinking."""
    samples_per_state: Annotated[int, Field(ge=0)] = 0
    """Of an expert with other tokens: answers sampled at each state at which its distribution does
    not say what the student's next token is. Each is a request."""
    max_new_tokens: Annotated[int, Field(ge=2)] = 8
    """Of each of these, in the expert's tokens. The last of a text cut there is not trusted."""
    needs_feedback: bool = True
    """Whether rollouts without feedback are left out."""
    api_key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; null for none."""
    allow_key_over_http: bool = False
    """Send the key unencrypted to another machine, for all on the way to read."""
    max_response_bytes: PositiveInt = 2**28
    """Of one answer, unpacked. vLLM lists the tokens of the context too, 70 bytes for each."""
    concurrency: PositiveInt = 8
    """Requests under way."""
    requests_per_second: Positive | None = None
    """Most requests in a second; null for no limit."""
    timeout_s: Positive = 600.0
    """Of one request."""
    max_attempts: PositiveInt = 6
    """Tries of one request that fails for a reason that may pass."""
    backoff_s: Positive = 1.0
    """The pause before the second try, doubled for each further one. A random half to whole of it
    is waited."""
    max_pause_s: Positive = 120.0
    """The longest pause between two tries; a server that asks for a longer one is an error."""

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        return plain_address(url)

    @model_validator(mode="after")
    def _key_stays_secret(self) -> Self:
        if self.api_key_variable and not (self.allow_key_over_http or may_carry_key(self.base_url)):
            raise ValueError(
                f"base_url {self.base_url} is not encrypted, so that anyone on the way could read "
                "the key of api_key_variable: use https, or set allow_key_over_http on a network "
                "that you trust"
            )
        return self

    @model_validator(mode="after")
    def _usable_template(self) -> Self:
        if self.chat_template_kwargs and not self.chat:
            raise ValueError("chat_template_kwargs are about chat: true, which is not set")
        if self.template is None:
            if self.chat or self.samples_per_state:
                raise ValueError(
                    "chat and samples_per_state are about an expert that reads template, which is "
                    "not given"
                )
            return self
        if self.tokenizer is None:
            raise ValueError(
                "template is what an expert with other tokens reads: name the folder of its "
                "tokenizer as tokenizer, or leave template out"
            )
        fields = {field for _, field, _, _ in Formatter().parse(self.template) if field is not None}
        known = ATTEMPT_FIELDS | known_kinds()
        if unknown := sorted(fields - known):
            raise ValueError(
                f"template: unknown field {unknown}; known: {', '.join(sorted(known))}"
            )
        return self

    def limits(self) -> Limits:
        """The limits that the server's client must keep."""
        return Limits(
            timeout_s=self.timeout_s,
            max_attempts=self.max_attempts,
            backoff_s=self.backoff_s,
            max_pause_s=self.max_pause_s,
            requests_per_second=self.requests_per_second,
            max_requests=None,
            max_tokens=None,
            max_response_bytes=self.max_response_bytes,
        )
