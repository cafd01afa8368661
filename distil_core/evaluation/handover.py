"""What a gate passes to the next iteration: a policy's folder, or the reason why there is none.

The folder is an artifact like any other, so that DVC knows which weights the next iteration starts
from, and makes that iteration again if and only if they change. Its files are hard links where the
file system has them, so that handing over a large policy takes no space.
"""

import json
import shutil
from pathlib import Path

from distil_core.errors import GateError
from distil_core.files import atomic_path, link_or_copy, write_text
from distil_core.training.table_list import TABLE_LIST_FILE
from distil_core.workspace import CHAMPION_FOLDER

STOP_FILE = "stopped.json"


def hand_over(
    policy_dir: Path, newest_dir: Path, handover_dir: Path, champion_dir: Path | None = None
) -> None:
    """Make `policy_dir` the start of the next iteration.

    newest_dir: the policy trained last. If it has a list of the tables learned from so far, the
    list is handed over too: the tables stay useful when the policy trained on them is dropped.
    champion_dir: another policy that is taken along, as a checkpoint alone.
    """
    with atomic_path(handover_dir) as temporary:
        shutil.copytree(policy_dir, temporary, copy_function=link_or_copy)
        listed = newest_dir / TABLE_LIST_FILE
        if listed.exists() and newest_dir != policy_dir:
            (temporary / TABLE_LIST_FILE).unlink(missing_ok=True)
            link_or_copy(str(listed), str(temporary / TABLE_LIST_FILE))
        if champion_dir is not None:
            shutil.copytree(
                champion_dir,
                temporary / CHAMPION_FOLDER,
                copy_function=link_or_copy,
                ignore=shutil.ignore_patterns("average", CHAMPION_FOLDER, TABLE_LIST_FILE),
            )


def forbid_next(iteration: int, reasons: str, handover_dir: Path) -> None:
    """Hand over no policy; an iteration that tries to start from it is told why."""
    shutil.rmtree(handover_dir, ignore_errors=True)
    values = {"iteration": iteration, "reasons": reasons}
    write_text(handover_dir / STOP_FILE, json.dumps(values, indent=1) + "\n")


def require_policy(handover_dir: Path) -> None:
    """Raise `GateError` where the gate before this iteration ended the campaign."""
    path = handover_dir / STOP_FILE
    if not path.exists():
        return
    stopped = json.loads(path.read_text(encoding="utf-8"))
    raise GateError(
        f"the gate of iteration {stopped['iteration']} ended the campaign: {stopped['reasons']}. "
        "To go on all the same, set gate.on_regression to keep (from the policy before) or "
        "continue (from this one), or widen gate.margins, in that iteration's frozen settings "
        f"iterations/{stopped['iteration']:03d}.yaml, or in params.yaml and `distil restart`"
    )
