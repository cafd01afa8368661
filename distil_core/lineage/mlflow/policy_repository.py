"""Policies for MLflow's own way of loading: their files come out of DVC, by digest.

`mlflow.artifacts.download_artifacts` and `mlflow.transformers.load_model` ask for the files of a
registered version. MLflow has none, as DVC stores them; so a version's source is an address of the
scheme `dvc`, for which MLflow finds this class by the entry point in pyproject.toml.
"""

import json
import os
import shutil
import weakref
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from distil_core.errors import LineageError
from distil_core.files import link_or_copy
from distil_core.lineage.dvc.content import stored_content
from distil_core.policy.checkpoint_files import describing_files
from distil_core.workspace import Workspace

SCHEME = "dvc"
WORKSPACE_VARIABLE = "DISTIL_WORKSPACE"

_DESCRIPTION = "MLmodel"
_TOKENIZER = "components/tokenizer"


def policy_uri(workspace: Workspace, path: str, md5: str, model_id: str) -> str:
    """The address of a policy in MLflow. path: in the workspace, for people; md5: of its folder."""
    root = quote(str(workspace.root.resolve()))
    return f"{SCHEME}://{root}?{urlencode({'path': path, 'md5': md5, 'model_id': model_id})}"


class DvcPolicyRepository(ArtifactRepository):
    """A policy's files as MLflow's transformers flavor expects them: the checkpoint, its tokenizer
    once more where that flavor looks for it, and a description. For reading only.

    They are fetched at the first use, from the workspace that recorded the policy. Where that is
    not on this machine: from the one that DISTIL_WORKSPACE names, or the one around the current
    folder, whose DVC remote has them.
    """

    def __init__(self, artifact_uri: str, tracking_uri: Any = None, registry_uri: Any = None):
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        parts = urlsplit(artifact_uri)
        fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._root = Path(unquote(parts.path))
        self._md5, self._model_id = fields["md5"], fields["model_id"]
        self._fetched = ExitStack()
        weakref.finalize(self, self._fetched.close)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files and folders in the folder `path`; none where it is a file."""
        if path == _DESCRIPTION:
            return []
        folder = f"{path.rstrip('/')}/" if path else ""
        inside = {
            name[len(folder) :].partition("/")[0]
            for name in (*self._files, _DESCRIPTION)
            if name.startswith(folder)
        }
        return [self._info(f"{folder}{name}") for name in sorted(inside)]

    def _info(self, name: str) -> FileInfo:
        if name == _DESCRIPTION:
            return FileInfo(name, False, len(self._description()))
        file = self._files.get(name)
        return FileInfo(name, file is None, file.stat().st_size if file else None)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        if remote_file_path == _DESCRIPTION:
            Path(local_path).write_bytes(self._description())
            return
        if remote_file_path not in self._files:
            raise LineageError(
                f"the policy has no file {remote_file_path}: expected one of "
                f"{', '.join((_DESCRIPTION, *self._files))}"
            )
        source = self._files[remote_file_path]
        # The fetched weights are nobody else's and may be linked; small files lie in two places.
        place = link_or_copy if source.suffix == ".safetensors" else shutil.copy2
        place(str(source), local_path)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The policy's files by name. The moving average beside the weights is left out."""
        policy = self._fetched.enter_context(stored_content(self._workspace(), self._md5, "policy"))
        files = {file.name: file for file in sorted(policy.iterdir()) if file.is_file()}
        tokenizer = {f"{_TOKENIZER}/{file.name}": file for file in describing_files(policy)}
        return files | tokenizer

    def _workspace(self) -> Workspace:
        here = Path.cwd()
        named = os.environ.get(WORKSPACE_VARIABLE)
        candidates = [self._root, *([Path(named)] if named else []), here, *here.parents]
        for root in candidates:
            if (root / ".dvc").is_dir() and (root / "iterations.yaml").exists():
                return Workspace(root)
        raise LineageError(
            f"the policy {self._md5} was recorded by the workspace {self._root}, which is not on "
            "this machine. Go to a clone of it whose DVC remote has the policy, or name one in "
            f"{WORKSPACE_VARIABLE}"
        )

    def _description(self) -> bytes:
        """What MLflow reads first: how the files are to be loaded."""
        flavor = {
            "task": "text-generation",
            "instance_type": "TextGenerationPipeline",
            "framework": "pt",
            "pipeline_model_type": "AutoModelForCausalLM",
            "model_binary": ".",
            "components": ["tokenizer"],
            "tokenizer_type": "AutoTokenizer",
            "transformers_version": version("transformers"),
        }
        description = {
            "flavors": {"transformers": flavor},
            "model_id": self._model_id,
            "model_uuid": self._model_id,
            "metadata": {"dvc_md5": self._md5},
        }
        return json.dumps(description, indent=2).encode()

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Refused: DVC stores policies, and only a stage makes them."""
        raise _read_only()

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Refused, likewise."""
        raise _read_only()

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refused: `dvc gc` deletes what no version needs."""
        raise _read_only()


def _read_only() -> LineageError:
    return LineageError("policies are stored by DVC; through MLflow they can only be read")
