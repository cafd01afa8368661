"""Policies by MLflow's own calls, out of DVC. 40 s, to import MLflow and transformers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distil_core.errors import LineageError
from distil_core.lineage.dvc.content import stored_content
from distil_core.lineage.dvc.digest import content_md5
from distil_core.workspace import Workspace

NAME = "scratch"


@pytest.fixture
def workspace(tmp_path: Path, policy_dir: Path) -> Workspace:
    """Its only policy is in DVC's cache and no longer in the folder."""
    root = tmp_path / "a workspace%20"
    root.mkdir()
    dvc(root, "init", "--no-scm", "-q")
    (root / "iterations.yaml").touch()
    shutil.copytree(policy_dir, root / "policy")
    (root / "policy" / "average").mkdir()
    shutil.copy(policy_dir / "config.json", root / "policy" / "average")
    dvc(root, "add", "-q", "policy")
    shutil.rmtree(root / "policy")
    return Workspace(root)


@pytest.fixture
def md5(workspace: Workspace) -> str:
    listing = next((workspace.root / ".dvc/cache/files/md5").rglob("*.dir"))
    return listing.parent.name + listing.name


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True)


def add_remote(workspace: Workspace) -> None:
    dvc(workspace.root, "remote", "add", "-q", "--default", "store", "../store")
    dvc(workspace.root, "push", "-q")


def empty_cache(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / ".dvc" / "cache" / "files")


def registered(workspace: Workspace, md5: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The policy as the champion of a registered model, in a store of its own."""
    from mlflow.tracking import MlflowClient

    from distil_core.lineage.mlflow.policy_repository import policy_uri

    uri = f"sqlite:///{workspace.root.parent}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, policy_uri(workspace, "policy", md5, "m-0123"))
    client.set_registered_model_alias(NAME, "champion", "1")
    return f"models:/{NAME}@champion"


def test_a_version_is_downloaded_and_loaded(
    workspace: Workspace, md5: str, policy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = registered(workspace, md5, monkeypatch)
    folder = Path(mlflow.artifacts.download_artifacts(model))
    cache = workspace.root / ".dvc" / "cache"
    stored = {file.stat().st_ino for file in cache.rglob("*")}
    for file in policy_dir.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
        assert (folder / file.name).stat().st_ino not in stored
    assert not (folder / "average").exists()
    config = Path(mlflow.artifacts.download_artifacts(f"{model}/config.json"))
    assert config.read_bytes() == (policy_dir / "config.json").read_bytes()
    expected = AutoModelForCausalLM.from_pretrained(policy_dir)
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    pipeline = mlflow.transformers.load_model(model)
    for loaded in (pipeline.model, AutoModelForCausalLM.from_pretrained(folder)):
        weights = loaded.state_dict()
        assert weights.keys() == expected.state_dict().keys()
        assert all(torch.equal(weights[k], v) for k, v in expected.state_dict().items())
    assert pipeline.tokenizer("1+2=").input_ids == tokenizer("1+2=").input_ids


def test_what_the_cache_lacks_comes_from_the_remote(
    workspace: Workspace, md5: str, policy_dir: Path
) -> None:
    add_remote(workspace)
    empty_cache(workspace)
    with stored_content(workspace, md5, "policy") as policy:
        assert content_md5(policy) == md5
        assert (policy / "average").is_dir()
    assert not policy.exists()


def test_what_neither_has_is_told(workspace: Workspace, md5: str) -> None:
    empty_cache(workspace)
    message = r"lacks .* no remote to pull it from: name one with `dvc remote add"
    with pytest.raises(LineageError, match=message), stored_content(workspace, md5, "policy"):
        pass
    dvc(workspace.root, "remote", "add", "-q", "--default", "store", "../store")
    message = "the remote store .* did not give it"
    with pytest.raises(LineageError, match=message), stored_content(workspace, md5, "policy"):
        pass


def test_the_workspace_of_a_policy_may_be_elsewhere(
    workspace: Workspace, md5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distil_core.lineage.mlflow.policy_repository import DvcPolicyRepository, policy_uri

    uri = policy_uri(workspace, "policy", md5, "m-0123")
    moved = tmp_path / "moved"
    workspace.root.rename(moved)
    target = tmp_path / "target"
    target.mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LineageError, match=r"is not on this machine.*DISTIL_WORKSPACE"):
        DvcPolicyRepository(uri).download_artifacts("", str(target))
    monkeypatch.setenv("DISTIL_WORKSPACE", str(moved))
    DvcPolicyRepository(uri).download_artifacts("", str(target))
    assert (target / "model.safetensors").exists()
    monkeypatch.delenv("DISTIL_WORKSPACE")
    (moved / "below").mkdir()
    monkeypatch.chdir(moved / "below")
    assert len(DvcPolicyRepository(uri).list_artifacts()) == len(list(target.iterdir()))


def test_policies_are_not_written_through_mlflow(workspace: Workspace, md5: str) -> None:
    from distil_core.lineage.mlflow.policy_repository import DvcPolicyRepository, policy_uri

    repository = DvcPolicyRepository(policy_uri(workspace, "policy", md5, "m-0123"))
    with pytest.raises(LineageError, match="only be read"):
        repository.log_artifacts(str(workspace.root))
    with pytest.raises(LineageError, match="only be read"):
        repository.delete_artifacts()
    with pytest.raises(LineageError, match=r"has no file pytorch_model\.bin"):
        repository._download_file("pytorch_model.bin", "here")
