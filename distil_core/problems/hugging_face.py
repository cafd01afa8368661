"""Problems from a dataset of the Hugging Face hub, pinned to a commit.

Its Parquet or JSON Lines files are read as they are. The `datasets` library is not needed, and no
code of the dataset is run.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, field_validator

from distil_core.errors import DataError
from distil_core.problems._pinned_files import jsonl_rows, parquet_rows, read_content
from distil_core.problems._row_options import RowOptions
from distil_core.problems._rows import LocatedRow, RowSource

_READERS = {".parquet": parquet_rows, ".jsonl": jsonl_rows}

FileNames = tuple[str, ...]


class Options(RowOptions):
    """Rows of a dataset of the Hugging Face hub."""

    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """Such as openai/gsm8k."""
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """A commit of it, which pins the content."""
    train: FileNames = Field(min_length=1)
    """Paths of files in the dataset's repository."""
    eval: FileNames | None = Field(default=None, min_length=1)
    """Likewise, of the held-out problems; or none, with an eval_fraction."""
    allow_download: bool = False
    """Ask the hub for what is not in the local cache."""

    @property
    def has_eval_file(self) -> bool:
        """As named."""
        return self.eval is not None

    @field_validator("train", "eval")
    @classmethod
    def _readable(cls, names: FileNames | None) -> FileNames | None:
        for name in names or ():
            if Path(name).suffix not in _READERS:
                raise ValueError(
                    f"expected files that end in {' or '.join(_READERS)}, found {name!r}"
                )
        return names


def build(options: Options) -> RowSource:
    """The source, by name from the registry."""

    def read_rows(split: str) -> Iterator[LocatedRow]:
        names = options.eval if split == "eval" else options.train
        assert names is not None, "checked when the options were read"
        for name in names:
            content = read_content(_fetched(options, name))
            yield from _READERS[Path(name).suffix](content, f"{options.dataset}/{name}")

    return RowSource(options, read_rows)


def _fetched(options: Options, name: str) -> Path:
    """The file in the hub's local cache, downloaded first where that is allowed."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where = f"{name} of the dataset {options.dataset!r} at commit {options.revision}"
    try:
        return Path(
            hf_hub_download(
                options.dataset,
                name,
                repo_type="dataset",
                revision=options.revision,
                local_files_only=not options.allow_download,
            )
        )
    except LocalEntryNotFoundError as error:
        if options.allow_download:
            raise DataError(
                f"cannot reach the Hugging Face hub for {where}, and it is not in the local cache "
                f"({error}): check the network and HF_ENDPOINT, or use a copy of the file with "
                "the source jsonl or parquet"
            ) from error
        raise DataError(
            f"{where} is not in the local cache, and allow_download is false: set it in "
            "problems.source.options, or fetch the file before with `hf download "
            f"{options.dataset} {name} --repo-type dataset --revision {options.revision}`"
        ) from error
    except Exception as error:  # the hub's client raises many unrelated types
        raise DataError(
            f"the Hugging Face hub does not give {where} ({type(error).__name__}: {error}): check "
            "the dataset's name, the commit, the file's path, and your access to it"
        ) from error
