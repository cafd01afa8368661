"""Tables that DVC keeps, as MLflow's datasets: by path and digest, never copied."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mlflow.data.dataset_source import DatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema

from distil_core.errors import LineageError
from distil_core.lineage.evidence.inputs import Artifact, content_md5
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


class DvcDatasetSource(DatasetSource):
    """A file or folder that DVC keeps. md5: as in dvc.lock. remote: URL of the content on the
    workspace's default DVC remote (without credentials), None where there is no remote."""

    def __init__(self, path: str, md5: str, size_bytes: int, stage: str, remote: str | None):
        self.path = path
        self.md5 = md5
        self.size_bytes = size_bytes
        self.stage = stage
        self.remote = remote

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    @property
    def uri(self) -> str:
        """The remote's address where there is one, otherwise the path in the workspace."""
        return self.remote or self.path

    def load(self, dst_path: str | None = None) -> str:
        """Path of the artifact in the workspace that is the current directory (or `dst_path`).

        Raises `LineageError` when another version of it lies there, or none.
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


def dataset_input(
    workspace: Workspace, artifact: Artifact, name: str, context: str, remote: str | None
) -> DatasetInput:
    """The table as a run's input. context: what the run used it for, shown beside it.

    Schema and row count come from the Parquet footers. Raises `LineageError` when the table on
    disk is missing or not the recorded one (by size).
    """
    source = DvcDatasetSource(
        artifact.path,
        artifact.md5,
        artifact.size_bytes,
        artifact.stage,
        content_url(remote, artifact.md5) if remote else None,
    )
    profile, schema = _describe(workspace, artifact)
    dataset = Dataset(
        name=name,
        digest=artifact.md5,
        source_type=source._get_source_type(),
        source=source.to_json(),
        schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def default_remote(workspace: Workspace) -> str | None:
    """URL of the workspace's default DVC remote, without credentials; None when it has none."""
    dvc_dir = workspace.root / ".dvc"
    if not dvc_dir.is_dir():
        return None
    from dvc.config import Config, ConfigError

    try:
        config = Config(str(dvc_dir))
    except ConfigError as error:
        raise LineageError(f"{dvc_dir / 'config'}: {error}; see `dvc remote list`") from error
    name = config["core"].get("remote")
    if not name:
        return None
    if name not in config["remote"]:
        raise LineageError(
            f"{dvc_dir / 'config'}: the default remote {name!r} is not defined; see `dvc remote "
            "list`, then `dvc remote default` or `dvc remote add`"
        )
    url = urlsplit(str(config["remote"][name]["url"]))
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])).rstrip("/")


def content_url(remote: str, md5: str) -> str:
    """Where a DVC remote keeps the content (for a folder: the listing of its files)."""
    return f"{remote}/files/md5/{md5[:2]}/{md5[2:]}"


def _describe(workspace: Workspace, artifact: Artifact) -> tuple[dict[str, Any], Schema]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = workspace.root / artifact.path
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    remedy = (
        f"bring it back with `dvc checkout {artifact.path}` (or `dvc pull {artifact.path}`), or "
        f"make it anew with `dvc repro {artifact.stage}`"
    )
    try:
        stored = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        found_bytes = sum(file.stat().st_size for file in stored)
        if found_bytes != artifact.size_bytes or not files:
            raise LineageError(
                f"{artifact.path} is not the table {artifact.stage} wrote (expected "
                f"{artifact.size_bytes} bytes, found {found_bytes}): {remedy}"
            )
        footers = [pq.read_metadata(file) for file in files]
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise LineageError(f"{artifact.path} cannot be read ({error}): {remedy}") from error
    columns = footers[0].schema.to_arrow_schema()
    profile = {
        # MLflow shows the source of datasets of its own kinds only, but any profile.
        "dvc_path": artifact.path,
        "dvc_stage": artifact.stage,
        "num_rows": sum(footer.num_rows for footer in footers),
        "num_files": len(files),
        "size_bytes": artifact.size_bytes,
    }
    return profile, Schema([ColSpec(_mlflow_type(f.type), f.name) for f in columns])


def _mlflow_type(arrow_type: "pa.DataType") -> Any:
    """The nearest of MLflow's column types."""
    from pyarrow import types

    if types.is_list(arrow_type) or types.is_large_list(arrow_type):
        return Array(_mlflow_type(arrow_type.value_type))
    if types.is_struct(arrow_type):
        return Object([Property(f.name, _mlflow_type(f.type)) for f in arrow_type])
    if types.is_map(arrow_type):
        return Map(_mlflow_type(arrow_type.item_type))
    if types.is_dictionary(arrow_type):
        return _mlflow_type(arrow_type.value_type)
    scalars = (
        (types.is_boolean, DataType.boolean),
        (types.is_int64, DataType.long),
        (types.is_unsigned_integer, DataType.long),
        (types.is_integer, DataType.integer),
        (types.is_float64, DataType.double),
        (types.is_floating, DataType.float),
        (types.is_string, DataType.string),
        (types.is_large_string, DataType.string),
        (types.is_temporal, DataType.datetime),
        (types.is_binary, DataType.binary),
        (types.is_large_binary, DataType.binary),
    )
    return next((mlflow for matches, mlflow in scalars if matches(arrow_type)), AnyType())
