"""Settings that experts behind an endpoint share: its address, its key, and how it is asked."""

import os
from collections.abc import Set
from string import Formatter
from typing import Annotated, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config.models import Positive
from distil_core.credentials import may_carry_key, plain_address
from distil_core.errors import ExpertError
from distil_core.experts._endpoint import Limits
from distil_core.experts.base import ExpertOptions
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.feedback.sources import known_kinds


class EndpointOptions(ExpertOptions):
    """Of an OpenAI-compatible endpoint."""

    base_url: str
    """Such as https://host/v1."""
    model: str
    """The model's name at the endpoint."""
    needs_feedback: bool = True
    """Whether rollouts without feedback are left out."""
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

    @model_validator(mode="after")
    def _key_stays_secret(self) -> Self:
        if self.api_key_variable and not (self.allow_key_over_http or may_carry_key(self.base_url)):
            raise ValueError(
                f"base_url {self.base_url} is not encrypted, so that anyone on the way could read "
                "the key of api_key_variable: use https, or set allow_key_over_http on a network "
                "that you trust"
            )
        return self

    def limits(self) -> Limits:
        """The limits that the endpoint's client must keep."""
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

    def api_key(self) -> str | None:
        """The key, from the environment; None where none is needed. Raises `ExpertError`."""
        name = self.api_key_variable
        if name is None:
            return None
        key = os.environ.get(name)
        if not key:
            raise ExpertError(
                f"the environment variable {name}, which tabulate.expert.options.api_key_variable "
                "names, is not set: put the endpoint's key there"
            )
        # Refused here, naming the variable: the HTTP library's error would quote the key.
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ExpertError(
                f"the environment variable {name} holds no key: expected printable ASCII without "
                "blanks or line ends"
            )
        return key


def require_known_fields(template: str, more: Set[str] = frozenset()) -> None:
    """Raise `ValueError` where a template of an expert has a field that is no part of the feedback,
    and none of `more`."""
    fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    known = ATTEMPT_FIELDS | known_kinds() | more
    if unknown := sorted(fields - known):
        raise ValueError(f"template: unknown field {unknown}; known: {', '.join(sorted(known))}")
