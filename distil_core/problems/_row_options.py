"""Settings that all sources of stored rows share: what a row becomes, and which split it is of."""

from string import Formatter
from typing import Literal, Self

from pydantic import Field, model_validator

from distil_core.registry import ComponentOptions


class RowOptions(ComponentOptions):
    """How a row becomes a problem: by naming its fields, or by `row_format`.

    prompt_field: what the student sees. prompt_template: the same from several fields, such as
    "{system}\\n\\n{prompt}", where a field that is no text becomes JSON; one of the two.
    reference_field: the gold solution; what is no text is kept as JSON. metadata_fields: kept for
    verifiers; null keeps all but prompt_field and reference_field. id_field: the row's own id,
    which must not occur with another prompt. row_format: a module of
    distil_core/problems/row_formats, in place of all fields but id_field.

    eval_fraction: of one file's problems, by hash of id or prompt, where there is no second file.
    on_leak: what to do about training problems that the eval split holds too, letter case, blanks
    and punctuation aside: refuse them all, or drop them from the training problems.
    """

    prompt_field: str | None = None
    prompt_template: str | None = None
    reference_field: str | None = None
    metadata_fields: tuple[str, ...] | None = None
    id_field: str | None = None
    row_format: str | None = None
    eval_fraction: float | None = Field(default=None, gt=0, lt=1)
    on_leak: Literal["refuse", "drop"] = "refuse"

    @model_validator(mode="after")
    def _one_way_to_read_a_row(self) -> Self:
        named = {
            name: getattr(self, name)
            for name in ("prompt_field", "prompt_template", "reference_field", "metadata_fields")
            if getattr(self, name) is not None
        }
        if self.row_format is not None:
            if named:
                raise ValueError(f"row_format takes the place of {', '.join(named)}: name only one")
            return self
        if ("prompt_field" in named) == ("prompt_template" in named):
            raise ValueError("expected one of prompt_field, prompt_template and row_format")
        if self.reference_field is None:
            raise ValueError("expected reference_field, or a row_format")
        if self.prompt_template is not None:
            self._check_template(self.prompt_template, self.reference_field)
        return self

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if (getattr(self, "eval", None) is None) == (self.eval_fraction is None):
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
        if not fields or reference_field in fields:
            raise ValueError(
                f"prompt_template: expected fields other than the reference {reference_field!r}, "
                f"found {fields}"
            )
