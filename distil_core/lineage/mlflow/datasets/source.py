"""The source of a dataset in MLflow for a table that DVC stores: a path and a digest, never a
copy."""

from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from distil_core.errors import LineageError
from distil_core.lineage.dvc.digest import content_md5

SOURCE_TYPE = "dvc"
"""By which MLflow finds the class, as pyproject.toml names it."""


class DvcDatasetSource(DatasetSource):
    """A file or folder that DVC stores. md5: as in dvc.lock. remote: URL of the content on the
    workspace's default DVC remote (without credentials); None where there is no remote."""

    def __init__(self, path: str, md5: str, size_bytes: int, stage: str, remote: str | None):
        self.path = path
        self.md5 = md5
        self.size_bytes = size_bytes
        self.stage = stage
        self.remote = remote

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @property
    def uri(self) -> str:
        """The address in the remote if there is one, otherwise the path in the workspace."""
        return self.remote or self.path

    def load(self, dst_path: str | None = None) -> str:
        """The path of the artifact in the workspace that is the current directory (or `dst_path`).

        Raises `LineageError` when it is missing or is another version.
        """
        path = Path(dst_path or ".") / self.path
        found = content_md5(path)
        if found != self.md5:
            raise LineageError(
                f"{path}: expected md5 {self.md5}, found {found or 'nothing'}. In the workspace's "
                f"root: `dvc checkout {self.path}` or `dvc pull {self.path}`, at the git commit "
                "whose dvc.lock names this md5."
            )
        return str(path)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, DvcDatasetSource)

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DvcDatasetSource":
        return cls.from_dict(raw_source.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """`uri` and all that the constructor takes."""
        return {
            "uri": self.uri,
            "path": self.path,
            "md5": self.md5,
            "size_bytes": self.size_bytes,
            "stage": self.stage,
            "remote": self.remote,
        }

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "DvcDatasetSource":
        """The source that `to_dict` described."""
        return cls(**{name: value for name, value in source_dict.items() if name != "uri"})
