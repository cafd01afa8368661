"""DVC's tables as MLflow's datasets. About 8 s, most of it importing MLflow."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow_scratch import PROJECT, make_campaign

from distil_core.errors import LineageError
from distil_core.lineage.dvc.config import content_url, default_remote_url
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.evidence.inputs import Artifact
from distil_core.lineage.evidence.iteration import History
from distil_core.workspace import Workspace

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def source() -> Any:
    from distil_core.lineage.mlflow.datasets.source import DvcDatasetSource

    return DvcDatasetSource("data/a.parquet", MD5, 12, "sample@001", None)


def test_source_round_trip(source: Any) -> None:
    from mlflow.data.dataset_source_registry import (
        get_dataset_source_from_json,
        resolve_dataset_source,
    )

    again = get_dataset_source_from_json(source.to_json(), "dvc")
    assert again.to_dict() == source.to_dict()
    assert json.loads(source.to_json())["uri"] == "data/a.parquet"
    assert resolve_dataset_source(source).to_dict() == source.to_dict()


@pytest.mark.parametrize(
    "first",
    [
        "distil_core.lineage.mlflow.datasets.source",
        "distil_core.lineage.mlflow.datasets.table",
        "mlflow",
        "mlflow.data.dataset_source_registry",
    ],
)
def test_mlflow_knows_the_source_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    """By the entry point as pyproject.toml has it, in a process of its own."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    installed = tmp_path / "distil-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: distil\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in _sources(project).items()]
    (installed / "entry_points.txt").write_text("\n".join(["[mlflow.dataset_source]", *lines]))
    program = (
        "import importlib, json, warnings\n"
        "warnings.filterwarnings('error', message='Failure attempting to register')\n"
        f"importlib.import_module({first!r})\n"
        "from mlflow.data.dataset_source_registry import get_dataset_source_from_json\n"
        "described = {'path': 'a', 'md5': 'b', 'size_bytes': 1, 'stage': 'c', 'remote': None}\n"
        "source = get_dataset_source_from_json(json.dumps(described), 'dvc')\n"
        "from distil_core.lineage.mlflow.datasets.source import DvcDatasetSource\n"
        "assert type(source) is DvcDatasetSource\n"
        "assert source.to_dict() == {'uri': 'a', **described}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _sources(project: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = project["entry-points"]["mlflow.dataset_source"]
    return found


def test_load_only_the_recorded_version(source: Any, tmp_path: Path) -> None:
    path = tmp_path / source.path
    with pytest.raises(LineageError, match=r"found nothing.*dvc checkout data/a.parquet"):
        source.load(str(tmp_path))
    path.parent.mkdir()
    path.write_text("something")
    with pytest.raises(LineageError, match=f"expected md5 {MD5}"):
        source.load(str(tmp_path))
    source.md5 = content_md5(path)
    assert source.load(str(tmp_path)) == str(path)


def test_digests_are_those_of_dvc(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b" / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "b/c.txt", "b/deep/é.txt"):
        (folder / name).write_text(name)
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "folder", "folder.copy"]):
        (tmp_path / "folder.copy").write_text("one file")
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    for name in ("folder", "folder.copy"):
        recorded = yaml.safe_load((tmp_path / f"{name}.dvc").read_text())["outs"][0]["md5"]
        assert content_md5(tmp_path / name) == recorded
    assert content_md5(tmp_path / "absent") is None


def test_remote_without_credentials(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert default_remote_url(workspace) is None
    (tmp_path / ".dvc").mkdir()
    config = tmp_path / ".dvc/config"
    config.write_text("[core]\n    analytics = false\n")
    assert default_remote_url(workspace) is None
    config.write_text(
        "[core]\n    remote = store\n"
        "['remote \"store\"']\n    url = https://user:secret@example.org/dvc/\n"
    )
    remote = default_remote_url(workspace)
    assert remote == "https://example.org/dvc"
    assert content_url(remote, MD5) == f"https://example.org/dvc/files/md5/01/{MD5[2:]}"
    config.write_text("[core]\n    remote = absent\n")
    with pytest.raises(LineageError, match="dvc remote list"):
        default_remote_url(workspace)
    config.write_text("[nonsense]\n    a = b\n")
    with pytest.raises(LineageError, match="dvc remote list"):
        default_remote_url(workspace)


def test_table_that_is_not_the_recorded_one(tmp_path: Path) -> None:
    from distil_core.lineage.mlflow.datasets.table import dataset_input

    workspace = make_campaign(tmp_path / "campaign", 1)
    feedback = History(workspace)[1].artifacts["feedback"]
    shard = workspace.feedback_dir(1) / "00001.parquet"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(LineageError, match=r"not the table tabulate@001 wrote.*dvc checkout"):
        dataset_input(workspace, feedback, "feedback", "training", None)
    shard.write_bytes(b"x" * len(content))
    with pytest.raises(LineageError, match="feedback cannot be read"):
        dataset_input(workspace, feedback, "feedback", "training", None)


def test_column_types(tmp_path: Path) -> None:
    from mlflow.types.schema import Schema

    from distil_core.lineage.mlflow.datasets.table import dataset_input

    types = {
        "ids": pa.list_(pa.int32()),
        "nested": pa.large_list(pa.list_(pa.float32())),
        "meta": pa.struct(
            [("seconds", pa.float64()), ("kind", pa.dictionary(pa.int8(), pa.utf8()))]
        ),
        "tags": pa.map_(pa.string(), pa.int64()),
        "when": pa.timestamp("us"),
        "flag": pa.bool_(),
        "count": pa.uint32(),
        "blob": pa.binary(),
        "void": pa.null(),
    }
    path = tmp_path / "table.parquet"
    pq.write_table(pa.schema(list(types.items())).empty_table(), path)
    artifact = Artifact("table.parquet", MD5, path.stat().st_size, "sample@001")
    dataset = dataset_input(Workspace(tmp_path), artifact, "t", "c", "s3://bucket/dvc").dataset
    columns = json.loads(dataset.schema)["mlflow_colspec"]
    assert Schema.from_json(json.dumps(columns)).input_names() == list(types)
    assert {column["name"]: column["type"] for column in columns} == {
        "ids": "array", "nested": "array", "meta": "object", "tags": "map", "when": "datetime",
        "flag": "boolean", "count": "long", "blob": "binary", "void": "any",
    }  # fmt: skip
    assert json.loads(dataset.source)["remote"] == f"s3://bucket/dvc/files/md5/01/{MD5[2:]}"
