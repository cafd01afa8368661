"""MLflow's store in workspaces whose path means something to a parser of addresses (about 20 s)."""

import stat
from pathlib import Path
from urllib.parse import unquote

import pytest

from distil_core.lineage.mlflow.address import own_uri
from distil_core.lineage.mlflow.store import artifact_root, open_store
from distil_core.workspace import Workspace

NAMES = ["feature%2Fx", "what? really", "100%", "a?b=c%", "c#", "br{y}", "it's", "plain ü", "a@b;c"]


@pytest.mark.parametrize("name", NAMES)
def test_the_store_lies_in_the_workspace_and_nothing_beside_it(name: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / name)
    workspace.root.mkdir()
    (tmp_path / "note.txt").write_text("kept")
    with open_store(workspace) as client:
        root = artifact_root(workspace, own_uri(workspace))
        run = client.create_run(client.create_experiment("campaign", artifact_location=root))
        client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
        client.set_terminated(run.info.run_id)
    assert workspace.mlflow_database.is_file()
    [logged] = (workspace.root / "mlruns").rglob("note.txt")
    assert logged.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "note.txt"])
    # Opened again, it is the same one.
    with open_store(workspace) as client:
        [found] = client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()]
        )
        local = client.download_artifacts(found.info.run_id, "note.txt", str(tmp_path))
    assert Path(unquote(local)).name == "note.txt"


def test_the_record_is_its_owners_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with open_store(workspace):
        pass
    modes = [workspace.mlflow_database, workspace.scratch_dir, workspace.root / "mlruns"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in modes] == [0o600, 0o700, 0o700]
    # One that was made before, for all to read, is closed.
    workspace.mlflow_database.chmod(0o644)
    with open_store(workspace):
        pass
    assert stat.S_IMODE(workspace.mlflow_database.stat().st_mode) == 0o600


def test_a_root_from_the_current_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("campaign"))
    monkeypatch.chdir("/")
    assert workspace == Workspace(tmp_path / "campaign")
    assert workspace.params_file == tmp_path / "campaign" / "params.yaml"
