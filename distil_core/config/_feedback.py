"""Settings of contexts and of the feedback that goes into them."""

import re
from datetime import date
from string import Formatter
from typing import Literal

from pydantic import PositiveInt, model_validator

from distil_core.config._base import Component, Positive, PositiveFraction, Settings


class ShorteningRule(Settings):
    """A field whose content may be shortened where a context is too long, and which part stays."""

    field: Literal[
        "prompt",
        "attempt",
        "execution_trace",
        "tool_output",
        "expert_correction",
        "self_evaluation",
        "peer_solution",
    ]
    keep: Literal["start", "end", "both"]


class ContextParams(Settings):
    """How a problem and its feedback become text. Fields in braces: see distil_core/feedback.

    chat: the templates are a user's message in the tokenizer's own chat template.
    shorten: what to shorten where a context exceeds max_context_tokens, in this order, each field
    to nothing before the next; with none, such a context is an error. shortening_marker: stands
    where content was left out.

    bos: whether contexts begin with the model's first token where the template does not write it.
    'auto': as the checkpoint's own files say, and with chat as its chat template does. 'never'
    adds none, 'always' does. chat_date: what a chat template is told that asks for today's date,
    so that the same settings give the same tokens on another day.
    """

    student_template: str
    expert_template: str
    max_context_tokens: PositiveInt
    chat: bool = False
    shorten: tuple[ShorteningRule, ...] = ()
    shortening_marker: str = "[...]"
    bos: Literal["auto", "never", "always"] = "auto"
    chat_date: date = date(2026, 1, 1)

    @model_validator(mode="after")
    def _each_field_once(self) -> "ContextParams":
        fields = [rule.field for rule in self.shorten]
        if len(set(fields)) < len(fields):
            raise ValueError(f"shorten names a field twice: {', '.join(fields)}")
        return self


class SelfEvaluationParams(Settings):
    """The policy judges each of its attempts, before it hears of the tools' verdict.

    template: what it is asked, with the fields {prompt} and {attempt}. correct_pattern: a regular
    expression; where it is found in the answer, the policy holds its attempt correct.
    on_disagreement: an evaluation that the tools contradict is kept as it is, kept with a note of
    their verdict, or not given to the expert.
    """

    template: str
    correct_pattern: str
    on_disagreement: Literal["keep", "note", "drop"]
    max_new_tokens: PositiveInt
    temperature: Positive
    top_p: PositiveFraction

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
    """verifier: gives reward and feedback. reveal: whether feedback may hold hidden answers.
    verify_timeout_s: wall-clock limit of one response, after which it is a row with an error;
    null sets none. A verifier's own limits come first, this one is for a verifier that hangs: by
    default half an hour, which is what 60 tests of a program take that each sleep through their
    30 s. More tests, or longer limits of them, need more.

    Feedback besides the verifier's, all off unless set; which of it the expert reads is up to
    context.expert_template. peer_solution: another, correct rollout of the same prompt.
    reference_correction: the gold solution as the expert's correction (needs reveal
    expected_outputs). self_evaluation: the policy's own judgement.
    """

    verifier: Component
    reveal: Literal["nothing", "expected_outputs"]
    verify_timeout_s: Positive | None = 1800.0
    peer_solution: bool = False
    reference_correction: bool = False
    self_evaluation: SelfEvaluationParams | None = None

    @model_validator(mode="after")
    def _reference_may_be_revealed(self) -> "ConsultParams":
        if self.reference_correction and self.reveal != "expected_outputs":
            raise ValueError(
                "reference_correction shows the hidden answer: set reveal to expected_outputs too"
            )
        return self
