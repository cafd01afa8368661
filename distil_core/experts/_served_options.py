"""Settings of the expert behind a server: where it is, and which tokens it reads."""

from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from distil_core.config.models import Positive
from distil_core.experts._endpoint_options import EndpointOptions, require_known_fields


class Options(EndpointOptions):
    """A model behind vLLM's OpenAI-compatible server, which gives the most likely tokens at each
    state (docs/experts.md#behind-a-server)."""

    base_url: str
    """Such as http://host:8000/v1."""
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
    max_response_bytes: PositiveInt = 2**28
    """Of one answer, unpacked. vLLM lists the tokens of the context too, 70 bytes for each."""
    timeout_s: Positive = 600.0
    """Of one request."""

    @property
    def follows_turns(self) -> bool:
        """Whether it reads the student's tokens, and so those of a rollout before a turn."""
        return self.template is None

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
        require_known_fields(self.template)
        return self
