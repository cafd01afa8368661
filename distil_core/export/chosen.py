"""Which policy is meant: the champion, the newest one, or that of an iteration."""

import re

from distil_core.errors import ExportError
from distil_core.lineage.evidence.inputs import require_unchanged
from distil_core.lineage.evidence.iteration import Evidence, History
from distil_core.workspace import Workspace, iteration_key

CHAMPION, NEWEST = "champion", "newest"

_NUMBER = re.compile(r"(?:policy-)?(\d{1,3})")


def chosen_policy(workspace: Workspace, wanted: str) -> dict[int, Evidence]:
    """The evidence of the policy's iteration, the last one of the answer, and of all before it.

    wanted: 'champion', 'newest', both also as NAME@champion with the campaign's name; or an
    iteration, as 3, 003 or policy-003. Raises `ExportError` where there is no such policy, and
    `LineageError` where its files are not here as they were recorded.
    """
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        raise ExportError(
            "there is no policy to export yet: no iteration is finished "
            f"({history.why_no_more() or 'the campaign has no iterations'})"
        )
    iteration = _iteration(history, last, wanted)
    evidence = {number: history[number] for number in range(iteration + 1)}
    require_unchanged(workspace, evidence[iteration].policy)
    return evidence


def _iteration(history: History, last: int, wanted: str) -> int:
    campaign = history.settings(0)["campaign"]
    name = wanted.removeprefix(f"{campaign}@")
    if name == CHAMPION:
        return history[last].champion
    if name == NEWEST:
        return last
    match = _NUMBER.fullmatch(wanted)
    if match is None:
        raise ExportError(
            f"{wanted!r} names no policy: expected champion, newest, or an iteration's, such as "
            f"policy-{iteration_key(last)} or {last}"
        )
    if int(match[1]) > last:
        reason = history.why_no_more()
        raise ExportError(
            f"there is no finished policy {iteration_key(int(match[1]))}: the last one is "
            f"{iteration_key(last)}" + (f" ({reason})" if reason else "")
        )
    return int(match[1])
