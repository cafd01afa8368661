"""A plugin of Prefect for its command line: a flow's name alone means this workspace's deployment.

`prefect deployment run distil-iteration` ends in a traceback of Prefect's, which wants
`<flow>/<deployment>`. Prefect calls a plugin's `setup_environment` before it reads its command
line; where the workspace's prefect.toml or pyproject.toml allows it (`plugins`), the name is
completed here with the one that `distil serve` took.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefect.plugins import register_hook

FLOWS = ("distil-iteration", "distil-campaign")


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """Complete the command line of `prefect deployment run`; nothing else is changed."""
    words = sys.argv[1:]
    # Options of `prefect` itself may come first.
    if ("deployment", "run") not in pairwise(words) or not set(FLOWS) & set(words):
        return
    from distil_core.workspace import Workspace
    from distil_flows.ownership import served_name

    name = served_name(Workspace(Path.cwd()))
    sys.argv[1:] = completed(words, name)
    flow = next(word for word in words if word in FLOWS)
    print(f"{flow}: asking for this workspace's {flow}/{name}", file=sys.stderr)


def completed(words: Sequence[str], deployment: str) -> list[str]:
    """The words of the command line, with the deployment added to a flow's name that stands
    alone."""
    return [f"{word}/{deployment}" if word in FLOWS else word for word in words]
