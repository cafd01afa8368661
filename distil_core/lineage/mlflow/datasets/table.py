"""Tables that DVC stores, as MLflow's datasets: by path and digest, never copied."""

import json
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema

from distil_core.errors import LineageError
from distil_core.lineage.dvc.config import content_url
from distil_core.lineage.evidence.inputs import Artifact
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.datasets.source import SOURCE_TYPE, DvcDatasetSource
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def dataset_input(
    workspace: Workspace, artifact: Artifact, name: str, context: str, remote: str | None
) -> DatasetInput:
    """The table as a run's input. context: what the run used it for, shown beside it.

    Schema and row count come from the Parquet footers. Raises `LineageError` when the table on disk
    is missing, or by its size not the recorded one.
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
        source_type=SOURCE_TYPE,
        source=source.to_json(),
        schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag(_internals.CONTEXT_TAG, context)])


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
