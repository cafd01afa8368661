"""`distil track`: write what is not in a tracker yet, and note what is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distil_core.errors import ExportError
from distil_core.files import write_text
from distil_core.lineage.trackers.base import open_tracker
from distil_core.lineage.trackers.runs import TrackedCampaign, tracked_campaign
from distil_core.workspace import Workspace


def track(workspace: Workspace, name: str, project: str | None) -> tuple[int, str]:
    """Write the finished iterations that this workspace has not written into this project yet;
    returns their number and where they are.

    A store need not be able to say what it holds (a tracker's offline folder is not), so a note
    below .distil/ keeps it. Raises `ExportError` as the tracker does.
    """
    campaign = tracked_campaign(workspace)
    project = project or campaign.name
    note_file = workspace.scratch_dir / "tracked" / f"{name}-{_file_name(project)}.json"
    note = _read(note_file)
    tracker = open_tracker(name, workspace, project)
    new = [run for run in campaign.iterations if run.id not in note["runs"]]
    for run in new:
        tracker.write(run)
        note["runs"].append(run.id)
        write_text(note_file, json.dumps(note, indent=1) + "\n")
    run_id, first = _learning_run(note["learning"], campaign)
    if first < len(campaign.digests):
        tracker.write(campaign.learning_run(run_id, first))
        note["learning"][run_id] = campaign.digests
        write_text(note_file, json.dumps(note, indent=1) + "\n")
    return len(new), tracker.where()


def _learning_run(known: dict[str, Sequence[str]], campaign: TrackedCampaign) -> tuple[str, int]:
    """The campaign's own run that these iterations continue, with the first one that it lacks; a
    run of its own, from the base on, where they continue none."""
    continued = [
        (len(digests), run_id)
        for run_id, digests in known.items()
        if list(digests) == campaign.digests[: len(digests)]
    ]
    if continued:
        count, run_id = max(continued)
        return run_id, count
    return f"{campaign.name}-learning-{campaign.digests[-1][:8]}", 0


def _read(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {"runs": list(note["runs"]), "learning": dict(note["learning"])}
    except FileNotFoundError:
        return {"runs": [], "learning": {}}
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"{path}: expected a note of what was tracked ({error}): delete it, and everything is "
            "written once more"
        ) from error


def _file_name(project: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in project)
