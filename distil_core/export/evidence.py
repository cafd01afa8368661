"""distil.json: what is known of an exported policy, for programs."""

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from distil_core.lineage.dvc.lock import lock_digest
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.snapshot.recorded import snapshot_of
from distil_core.lineage.snapshot.take import Snapshot, snapshot_notes
from distil_core.workspace import Workspace

EVIDENCE_FILE = "distil.json"
SETTINGS_FILE = "distil-settings.yaml"
"""The iteration's frozen settings, as the workspace has them."""


def evidence_text(workspace: Workspace, this: Evidence) -> str:
    """A JSON object: the policy's place in the campaign, its scores, its gate's decision, the
    digests of all that its iteration read and wrote, and its snapshot."""
    content: dict[str, Any] = {
        "campaign": this.campaign,
        "iteration": this.iteration,
        "parent": this.parent,
        "expert": this.expert,
        "policy": asdict(this.policy),
        "metrics": this.metrics,
        "decision": asdict(this.decision) if this.decision else None,
        "artifacts": {role: asdict(artifact) for role, artifact in this.artifacts.items()},
        "lock_digest": lock_digest(workspace, this.iteration),
        "snapshot": _snapshot(workspace, this),
        "exported_with": f"distil {version('distil')}",
    }
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def snapshot_of_policy(workspace: Workspace, this: Evidence) -> Snapshot | None:
    """The git ref with code, settings and `dvc.lock` of this very policy, if there is one."""
    digest = lock_digest(workspace, this.iteration)
    return snapshot_of(workspace, this.campaign, this.iteration, digest)


def _snapshot(workspace: Workspace, this: Evidence) -> dict[str, str] | None:
    snapshot = snapshot_of_policy(workspace, this)
    if snapshot is None:
        return None
    return {**snapshot_notes(workspace, snapshot), **asdict(snapshot)}
