"""Problems from JSON Lines files: one object a line, such as GSM8K's `{"question", "answer"}`.

The files are outside the campaign, so the settings pin their content: each has its SHA-256, and
an iteration frozen with other bytes is refused instead of silently becoming another one.
"""

from collections.abc import Iterator

from distil_core.problems._pinned_files import PinnedFile, jsonl_rows, pinned_content
from distil_core.problems._row_options import RowOptions
from distil_core.problems._rows import LocatedRow, RowSource


class Options(RowOptions):
    """Rows of JSON Lines files."""

    train: PinnedFile
    """The file of training problems."""
    eval: PinnedFile | None = None
    """The file of held-out problems; or none, with an eval_fraction."""

    @property
    def has_eval_file(self) -> bool:
        """As named."""
        return self.eval is not None


def build(options: Options) -> RowSource:
    """The source, by name from the registry."""

    def read_rows(split: str) -> Iterator[LocatedRow]:
        file = options.eval if split == "eval" else options.train
        assert file is not None, "checked when the options were read"
        return jsonl_rows(pinned_content(file), file.path)

    return RowSource(options, read_rows)
