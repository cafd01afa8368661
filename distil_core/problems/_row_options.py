"""Settings that all sources of stored rows share: what a row becomes, and which split it is of."""

from string import Formatter
from typing import Literal, Self

from pydantic import Field, model_validator

from distil_core.problems.base import ProblemSourceOptions
from distil_core.problems.row_formats import ROW_FORMATS


class RowOptions(ProblemSourceOptions):
    """How a row becomes a problem: by naming its fields, or by `row_format`.

    A field is a column, or a path to what lies inside one: `reward_model.ground_truth`,
    `answers.0`; a text on the way is read as JSON. NaN and infinities are refused.
    """

    prompt_field: str | None = None
    """What the student sees: text, or chat messages. Either this or prompt_template."""
    prompt_template: str | None = None
    """What the student sees, from several fields, such as "{system}\\n\\n{prompt}"; a field that is
    null, blank or absent from the row is empty, and takes the blanks that set it apart with it, but
    not all of them may be; one that is neither text nor messages becomes JSON."""
    prompt_messages: Literal["joined", "turns"] = "joined"
    """What becomes of chat messages in prompt_field: 'joined', a user's message as text, after a
    system's and a blank line; 'turns', a conversation that ends with a user's message, which the
    model's chat template writes (needs context.chat)."""
    reference_field: str | None = None
    """The gold solution; a number as people write it, other values as JSON."""
    metadata_fields: tuple[str, ...] | None = None
    """Kept for verifiers, what lies inside a column by its last name; null keeps all but
    prompt_field and reference_field."""
    id_field: str | None = None
    """The row's own id, which must not occur with another prompt."""
    row_format: str | None = None
    """Of a published data set (built in, of an installed package, or the dotted path of a module),
    in place of all fields but id_field."""
    eval_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of one file's problems that is held out, by hash of id or prompt, where there is no
    second file."""
    on_leak: Literal["refuse", "drop"] = "refuse"
    """What to do about training problems that the eval split holds too, letter case, blanks and
    punctuation aside: refuse them all, or drop them from the training problems."""
    on_unreadable: Literal["refuse", "drop"] = "refuse"
    """What to do about problems whose reference or metadata the campaign's verifier cannot read:
    refuse them all, or drop them."""

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The row format."""
        return (("row format", self.row_format),) if self.row_format else ()

    @property
    def has_eval_file(self) -> bool:
        """Whether the held-out problems have a file of their own."""
        return False

    @model_validator(mode="after")
    def _one_way_to_read_a_row(self) -> Self:
        fields = {
            "prompt_field": self.prompt_field,
            "prompt_template": self.prompt_template,
            "prompt_messages": None if self.prompt_messages == "joined" else self.prompt_messages,
            "reference_field": self.reference_field,
            "metadata_fields": self.metadata_fields,
        }
        named = [name for name, value in fields.items() if value is not None]
        if self.row_format is not None:
            if named:
                raise ValueError(f"row_format takes the place of {', '.join(named)}: name only one")
            ROW_FORMATS.options(self.row_format, {})
            return self
        if ("prompt_field" in named) == ("prompt_template" in named):
            raise ValueError("expected one of prompt_field, prompt_template and row_format")
        if self.prompt_messages == "turns" and self.prompt_field is None:
            raise ValueError(
                "prompt_messages: turns needs prompt_field, which holds the messages: "
                "prompt_template makes a text"
            )
        if self.reference_field is None:
            raise ValueError("expected reference_field, or a row_format")
        self._check_metadata_names()
        if self.prompt_field is not None and _overlap(self.prompt_field, self.reference_field):
            raise ValueError(
                f"prompt_field {self.prompt_field!r} and reference_field {self.reference_field!r} "
                "lie inside each other: the student would read the solution"
            )
        if self.prompt_template is not None:
            self._check_template(self.prompt_template, self.reference_field)
        return self

    def _check_metadata_names(self) -> None:
        names = [name.rpartition(".")[2] for name in self.metadata_fields or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"metadata_fields would keep more than one field as {', '.join(twice)}: keep one, "
                "or the column that both lie in"
            )

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if self.has_eval_file == (self.eval_fraction is not None):
            raise ValueError(
                "expected one of eval, the held-out problems' own file, and eval_fraction"
            )
        return self

    @staticmethod
    def _check_template(template: str, reference_field: str) -> None:
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"prompt_template: {error} (write a literal brace twice)") from error
        fields = [field for _, field, _, _ in parts if field is not None]
        if any(spec or conversion for _, _, spec, conversion in parts) or not all(fields):
            raise ValueError("prompt_template: expected plain fields such as {prompt}")
        if not fields or any(_overlap(field, reference_field) for field in fields):
            raise ValueError(
                f"prompt_template: expected fields other than the reference {reference_field!r}, "
                f"found {fields}"
            )


def _overlap(one: str, other: str) -> bool:
    """Whether one field is the other, or lies inside it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
