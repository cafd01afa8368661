"""Settings of the feedback that goes into contexts."""

import re
from string import Formatter
from typing import Any, Literal

from pydantic import (
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distil_core.config._base import Component, Positive, PositiveFraction, Settings


class SelfEvaluationParams(Settings):
    """The policy judges each of its attempts, before it hears of the tools' verdict."""

    template: str
    """What it is asked, with the fields {prompt} and {attempt}."""
    correct_pattern: str
    """A regular expression: where it is found in the answer, the policy holds its attempt
    correct."""
    on_disagreement: Literal["keep", "note", "drop"]
    """What becomes of an evaluation that the tools contradict: kept as it is ('keep'), kept with a
    note of their verdict ('note'), or not given to the expert ('drop')."""
    max_new_tokens: PositiveInt
    """The longest answer, in tokens."""
    temperature: Positive
    """Of the answer's sampler."""
    top_p: PositiveFraction
    """Share of the probability mass that the answer's tokens are sampled from."""

    @model_validator(mode="after")
    def _template_has_the_attempt(self) -> "SelfEvaluationParams":
        try:
            fields = {field for _, field, _, _ in Formatter().parse(self.template) if field}
        except ValueError as error:
            raise ValueError(f"template: {error} (write a literal brace twice)") from error
        if not {"attempt"} <= fields <= {"prompt", "attempt"}:
            raise ValueError(
                f"template: expected {{attempt}} and at most {{prompt}} besides, found {fields}"
            )
        return self

    @model_validator(mode="after")
    def _pattern_compiles(self) -> "SelfEvaluationParams":
        try:
            re.compile(self.correct_pattern)
        except re.error as error:
            raise ValueError(f"correct_pattern is no regular expression: {error}") from error
        return self


class ConsultParams(Settings):
    """Reward and feedback for each rollout. Which of the feedback the expert reads is up to
    context.expert_template."""

    verifier: Component
    """Gives reward and feedback."""
    reveal: Literal["nothing", "expected_outputs"]
    """Whether feedback may hold hidden answers: 'nothing' or 'expected_outputs'."""
    verify_timeout_s: Positive | None = 1800.0
    """Wall-clock limit of one response, after which it is a row with an error; null sets none. A
    verifier's own limits come first, this one is for a verifier that hangs: the default of half an
    hour is what 60 tests of a program take that each sleep through their 30 s. More tests, or
    longer limits of them, need more."""
    peer_solution: bool = False
    """Whether another, correct rollout of the same prompt is feedback."""
    reference_correction: bool = False
    """Whether the gold solution is feedback, as the expert's correction (needs reveal
    expected_outputs)."""
    self_evaluation: SelfEvaluationParams | None = None
    """The policy's own judgement as feedback; null for none."""
    feedback_sources: tuple[Component, ...] = ()
    """Further sources of feedback, after those above in this order."""

    @property
    def sources(self) -> tuple[Component, ...]:
        """All sources of feedback, the verifier first; what they say is joined in this order."""
        found = [Component(name="verifier")]
        if self.reference_correction:
            found.append(Component(name="reference_correction"))
        if self.peer_solution:
            found.append(Component(name="peer_solution"))
        if self.self_evaluation is not None:
            options = self.self_evaluation.model_dump()
            found.append(Component(name="self_evaluation", options=options))
        return (*found, *self.feedback_sources)

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Iterations without further sources are frozen as they always were."""
        values: dict[str, Any] = serialise(self)
        if not self.feedback_sources:
            values.pop("feedback_sources", None)
        return values

    @model_validator(mode="after")
    def _reference_may_be_revealed(self) -> "ConsultParams":
        if self.reference_correction and self.reveal != "expected_outputs":
            raise ValueError(
                "reference_correction shows the hidden answer: set reveal to expected_outputs too"
            )
        return self
