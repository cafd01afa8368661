"""Settings of contexts and of the feedback that goes into them."""

import re
from datetime import date
from string import Formatter
from typing import Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distil_core.config._base import Component, Positive, PositiveFraction, Settings


class ShorteningRule(Settings):
    """A field whose content may be shortened where a context is too long."""

    field: str
    """The field of a template whose content is shortened: prompt, attempt, or a kind of
    feedback."""
    keep: Literal["start", "end", "both"]
    """Which part of the content stays."""


_PARTS_OF_CORRECTION = {"expression", "value", "stated"}


class WordingParams(Settings):
    """How what tools say reads in the expert's context. What a verifier stores stays as it is, so
    that other words need no other verdicts."""

    keep: Literal["all", "corrections"] = "all"
    """Which lines the expert reads. 'corrections' keeps those that name a checked expression with
    the value that it really has (docs/feedback-tools.md#corrections): where there is none, the
    tools have said nothing."""
    correction: str | None = None
    """The words of a correction, with the fields {expression}, {value} and {stated}, such as
    'Calculator: {expression} = {value}'; null leaves the tool's own."""
    separator: str = "\n"
    """Stands between lines; a blank or '; ' makes one line of them."""
    kinds: tuple[str, ...] = ("execution_trace", "tool_output")
    """The kinds of feedback that this is about; others, such as a peer's solution, stay as they
    are."""
    verdicts: dict[Literal["correct", "wrong", "malformed", "truncated"], str] = Field(
        default_factory=dict
    )
    """Other words for verdicts, for the field {verdict}."""

    @model_validator(mode="after")
    def _correction_has_known_fields(self) -> "WordingParams":
        try:
            pieces = list(Formatter().parse(self.correction or ""))
        except ValueError as error:
            raise ValueError(f"correction: {error} (write a literal brace twice)") from error
        fields = {field for _, field, _, _ in pieces if field is not None}
        if not fields <= _PARTS_OF_CORRECTION or any(form or how for _, _, form, how in pieces):
            raise ValueError(
                "correction: expected the fields {expression}, {value} and {stated} alone, found "
                f"{self.correction!r}"
            )
        return self


class ContextParams(Settings):
    """How a problem and its feedback become text. docs/feedback-tools.md lists the fields in
    braces."""

    student_template: str
    """What the student reads before it answers, with the field {prompt}."""
    expert_template: str
    """What the expert reads before it scores the same answer: {prompt}, and fields of the feedback
    such as {attempt} and {execution_trace}."""
    max_context_tokens: PositiveInt
    """The longest context, in tokens. A longer one is shortened by the rules of `shorten`, or is an
    error."""
    chat: bool = False
    """Whether the templates are a user's message in the tokenizer's own chat template."""
    shorten: tuple[ShorteningRule, ...] = ()
    """What to shorten where a context exceeds max_context_tokens, in this order, each field to
    nothing before the next. With none, such a context is an error."""
    shortening_marker: str = "[...]"
    """Stands where content was left out."""
    bos: Literal["auto", "never", "always"] = "auto"
    """Whether contexts begin with the model's first token where the template does not write it.
    'auto': as the checkpoint's own files say, and with chat as its chat template does. 'never' adds
    none, 'always' does."""
    chat_date: date = date(2026, 1, 1)
    """What a chat template is told that asks for today's date, so that the same settings give the
    same tokens on another day."""
    wording: WordingParams = WordingParams()
    """How what tools say reads in the expert's context."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Iterations whose expert reads the tools' own words are frozen as they always were."""
        values: dict[str, Any] = serialise(self)
        if self.wording == WordingParams():
            values.pop("wording", None)
        return values

    @model_validator(mode="after")
    def _each_field_once(self) -> "ContextParams":
        fields = [rule.field for rule in self.shorten]
        if len(set(fields)) < len(fields):
            raise ValueError(f"shorten names a field twice: {', '.join(fields)}")
        return self


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
