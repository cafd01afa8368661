"""Compose a problem, an attempt and its feedback into the contexts of student and expert.

Templates name fields in braces. Content is inserted as data: braces in it stay braces, and special
tokens in it are encoded as plain text, so that it can neither open a field nor end a turn. The
templates of student and expert must end alike: both then see the same token before the first
response token, and the response keeps the student's own tokens, which are never encoded again.
"""

from collections.abc import Collection, Mapping, Sequence
from string import Formatter

from distil_core.config.models import Template, TemplateMessage
from distil_core.errors import ConfigError
from distil_core.policy.text_segments import Segment
from distil_core.validation import did_you_mean
from distil_core.verifiers.base import FeedbackItem

STUDENT_FIELDS = frozenset({"prompt"})
ATTEMPT_FIELDS = frozenset({"prompt", "attempt", "verdict"})
"""Of the expert's template, besides the kinds of feedback that there are."""
SYSTEM = "system"
"""In the system's turn of either: the system turn of a problem that has one."""

TemplatePart = tuple[str, str | None]


def check_templates(
    student_template: Template,
    expert_template: Template,
    kinds: Collection[str],
    chat: bool = False,
) -> None:
    """Raise `ConfigError` for an unknown field, a student template that could leak feedback, or
    templates that end differently (a chat template makes all contexts end alike). kinds: the
    possible kinds of feedback (`known_kinds`)."""
    for name, template, known in (
        ("context.student_template", student_template, STUDENT_FIELDS),
        ("context.expert_template", expert_template, ATTEMPT_FIELDS.union(kinds)),
    ):
        if isinstance(template, str):
            _require_fields(name, template, known)
        else:
            _check_messages(name, template, known)
    if chat or not isinstance(student_template, str) or not isinstance(expert_template, str):
        return
    endings = (_ending(student_template), _ending(expert_template))
    if not all(endings) or endings[0][-1] != endings[1][-1]:
        raise ConfigError(
            "context.student_template and context.expert_template must end in the same literal "
            "text, so that both contexts end in the same token before the response; found "
            f"{endings[0]!r} and {endings[1]!r}"
        )


def _require_fields(name: str, template: str, known: Collection[str]) -> None:
    _require_known(name, template, known)
    if "prompt" not in _fields(name, template):
        raise ConfigError(f"{name}: must contain {{prompt}}, found {template!r}")


def _require_known(name: str, template: str, known: Collection[str]) -> None:
    if unknown := _fields(name, template).difference(known):
        raise ConfigError(
            f"{name}: unknown field {sorted(unknown)}; known: {', '.join(sorted(known))}"
            f"{did_you_mean(min(unknown), sorted(known))}"
        )


def _check_messages(name: str, messages: Sequence[TemplateMessage], known: Collection[str]) -> None:
    for place, message in enumerate(messages):
        own = {*known, SYSTEM} if message.role == "system" else known
        _require_known(f"{name}.{place}.content", message.content, own)
    asking = [message for message in messages if "prompt" in _fields(name, message.content)]
    if [message.role for message in asking] != ["user"]:
        raise ConfigError(
            f"{name}: {{prompt}} must stand in one message, of the user, found it in "
            f"{', '.join(message.role for message in asking) or 'none'}"
        )


def as_messages(template: Template) -> Sequence[TemplateMessage]:
    """The template's turns; a text is the user's."""
    if isinstance(template, str):
        return [TemplateMessage(role="user", content=template)]
    return template


def template_text(template: Template) -> str:
    """A template for a policy without a chat template. Raises `ConfigError` for messages."""
    if not isinstance(template, str):
        raise ConfigError(
            "a template of messages needs a chat template: write the turns into a text"
        )
    return template


def fields_of(template: Template) -> set[str]:
    """The names in braces, of all its messages."""
    contents = [message.content for message in as_messages(template)]
    return set[str]().union(*(_fields("a template", content) for content in contents))


def render_student(template: Template, prompt: str) -> list[Segment]:
    """The student's context, without a chat template."""
    return render(template_parts(template_text(template)), {"prompt": prompt})


def render_expert(
    template: Template, prompt: str, attempt: str, verdict: str, feedback: Sequence[FeedbackItem]
) -> list[Segment]:
    """The expert's context, without a chat template."""
    values = expert_values(prompt, attempt, verdict, feedback)
    return render(template_parts(template_text(template)), values)


def expert_values(
    prompt: str, attempt: str, verdict: str, feedback: Sequence[FeedbackItem]
) -> dict[str, str]:
    """The text of each field of the expert's template. Items of one kind are joined by newlines; a
    kind without items is missing."""
    values = {"prompt": prompt, "attempt": attempt, "verdict": verdict}
    for item in feedback:
        values[item.kind] = (
            f"{values[item.kind]}\n{item.text}" if item.kind in values else item.text
        )
    return values


def has_feedback(template: Template, feedback: Sequence[FeedbackItem]) -> bool:
    """Whether the expert's context has any feedback; if not, the expert has nothing to say."""
    fields = fields_of(template)
    return any(item.kind in fields and item.text for item in feedback)


def template_parts(template: str) -> list[TemplatePart]:
    """The template as literal texts, each with the field that follows it."""
    return [(literal, field) for literal, field, _, _ in Formatter().parse(template)]


def render(parts: Sequence[TemplatePart], values: Mapping[str, str]) -> list[Segment]:
    """The filled template. Contexts of student and expert are both made here. A field without a
    value is empty."""
    segments = []
    for literal, field in parts:
        segments.append(Segment(literal, is_template=True))
        if field is not None:
            segments.append(Segment(values.get(field, ""), is_template=False))
    return [segment for segment in segments if segment.text]


def _fields(name: str, template: str) -> set[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{name}: {error} (write a literal brace twice)") from error
    for _, field, format_spec, conversion in parts:
        if format_spec or conversion:
            raise ConfigError(
                f"{name}: field {field!r} has a conversion or format, which content never gets: "
                f"write {{{field}}}"
            )
    return {field for _, field, _, _ in parts if field is not None}


def _ending(template: str) -> str:
    *_, (literal, field, _, _) = Formatter().parse(template)
    return literal if field is None else ""
