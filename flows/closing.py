"""What a run ends with in the terminal: the table, the champion and how to load it, what next."""

from collections.abc import Sequence

from rich.console import Console

from distil_core.campaign.load import load_iteration_params
from distil_core.evaluation.decision import read_decision
from distil_core.workspace import Workspace, iteration_key
from distil_flows.ownership import served_name
from distil_flows.report import campaign_table

_CHAMPION = """\
Champion: policy {key}, its weights are in {folder}
  AutoModelForCausalLM.from_pretrained("{folder}")   in Python, with transformers
  distil lineage {campaign}@champion   what it was made from
"""

_ACTIVATE = "  source .venv/bin/activate   for the commands below\n"

_NEXT = """\
Next:
{activate}\
  open report.html            the campaign in one file (`distil report` writes it anew)
  distil ui                   the lineage of every policy, in MLflow: http://127.0.0.1:5000
  dvc status                  nothing to do, until something changes
  dvc repro                   runs what changed, and nothing else
  distil extend               adds iteration {next_iteration} with the settings of params.yaml
"""

_PREFECT = """\
Through Prefect, each in a terminal of its own:
  prefect server start        its pages, with this run: {pages_url}
  distil serve                waits for runs
  prefect deployment run distil-iteration/{deployment} --watch
"""


def champion(workspace: Workspace, last: int) -> int:
    """The iteration whose policy is champion after iteration `last`."""
    return read_decision(workspace, last).champion if last else 0


def say_closing(
    console: Console, workspace: Workspace, iterations: Sequence[int], pages_url: str | None = None
) -> None:
    """Print it. pages_url: where Prefect shows the run; None where there was none."""
    console.print()
    console.print(campaign_table(workspace, iterations, console.width))
    last = iterations[-1]
    best = champion(workspace, last)
    parts = [
        _CHAMPION.format(
            key=iteration_key(best),
            folder=workspace.relative(workspace.policy_dir(best)),
            campaign=load_iteration_params(workspace, last, with_components=False).campaign,
        ),
        _NEXT.format(
            # Only a clone has an environment of its own.
            activate=_ACTIVATE if (workspace.root / ".venv").exists() else "",
            next_iteration=last + 1,
        ),
    ]
    if pages_url:
        parts.append(_PREFECT.format(pages_url=pages_url, deployment=served_name(workspace)))
    for part in parts:
        console.print(f"\n{part.rstrip()}", markup=False, highlight=False, soft_wrap=True)
