"""Whether a run would find nothing to do, told before a server is started and torch imported.

DVC is asked about each stage, git about the snapshots and MLflow about its record, as in a run.
What takes a run's imports to tell, whether code and settings differ from what the campaign was
frozen with, is kept from the last run, for as long as both are what they were then.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from distil_core.campaign.extends import read_settings
from distil_core.campaign.iterations import existing_iterations
from distil_core.errors import DistilError
from distil_core.files import private_folder, write_text
from distil_core.lineage.dvc.lock import lock_file
from distil_core.lineage.dvc.stage import are_up_to_date
from distil_core.lineage.environment import package
from distil_core.lineage.mlflow.record import is_recorded
from distil_core.lineage.snapshot.take import present_snapshot
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace


@dataclass(frozen=True)
class Notes:
    """What a run says beside "unchanged". code: lines about stages made with other code. settings:
    how params.yaml differs from what the iterations were frozen with; '' where it does not."""

    code: list[str]
    settings: str


def note_finished(workspace: Workspace, notes: Notes) -> None:
    """Keep that a run has finished all there is, with what it said."""
    private_folder(workspace.scratch_dir)
    noted = {"state": _state(workspace), **asdict(notes)}
    write_text(_file(workspace), json.dumps(noted, indent=1) + "\n")


def finished(workspace: Workspace) -> Notes | None:
    """What the last run said, where everything is as it left it; None where there is something to
    do, or that cannot be told: a run then says why."""
    try:
        noted = json.loads(_file(workspace).read_text(encoding="utf-8"))
        iterations = existing_iterations(workspace)
        if noted["state"] != _state(workspace) or not workspace.report_file.exists():
            return None
        addresses = [address for number in iterations for address in stage_addresses(number)]
        is_done = (
            are_up_to_date(workspace, addresses)
            and all(present_snapshot(workspace, number) for number in iterations)
            and is_recorded(workspace)
        )
        return Notes(noted["code"], noted["settings"]) if is_done else None
    except (OSError, ValueError, KeyError, TypeError, DistilError):
        return None


def _state(workspace: Workspace) -> str:
    """Digest of the code, the settings, what is recorded and the list of iterations."""
    digest = hashlib.blake2b(package().encode(), digest_size=16)
    # With what params.yaml extends.
    settings = read_settings(workspace.params_file, workspace.params_file.name).values
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in (workspace.iterations_file, lock_file(workspace)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _file(workspace: Workspace) -> Path:
    return workspace.scratch_dir / "finished.json"
