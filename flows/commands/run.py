"""`distil run` (`make run` in a clone): the whole campaign through Prefect in one warm process.

It is shown in the terminal. What is finished is not run again.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from distil_core.campaign.differences import changes, described
from distil_core.campaign.iterations import existing_iterations, restart
from distil_core.campaign.load import load_iteration_params, load_params
from distil_core.campaign.stage_code import other_code
from distil_core.config.models import Params
from distil_core.errors import DistilError, LineageError
from distil_core.lineage.dvc.code import prepare_code
from distil_core.lineage.dvc.config import has_remote
from distil_core.lineage.dvc.remote import push_iteration
from distil_core.lineage.dvc.upgrade import require_present_pipeline
from distil_core.lineage.mlflow.address import require_answering, where_recorded
from distil_core.lineage.mlflow.store import import_mlflow
from distil_core.lineage.usable import require_usable
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace
from distil_flows import _internals
from distil_flows.api_identity import is_ours
from distil_flows.api_server import PrefectApi, PrefectApiError, prefect_api
from distil_flows.closing import say_closing
from distil_flows.display import Display
from distil_flows.finished import Notes, finished, note_finished
from distil_flows.ownership import deployment_name, keep_served_name
from distil_flows.stages import stage_versions
from distil_flows.start_up import exempt_from_garbage_collection


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="a first try: all of it with N prompts an iteration and everything else as small, in "
        "a scratch folder; nothing is recorded",
    )
    what.add_argument(
        "--seeds",
        metavar="N",
        help="run the settings of params.yaml for N seeds from its own on, or for seeds such as "
        "4,7,9, each in a workspace of its own below seeds/, and report the means",
    )
    command.add_argument(
        "--parallel", type=int, default=1, metavar="K", help="seeds run at a time (default 1)"
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """0 when all iterations are finished, 1 after a message that says why not, 130 after Ctrl-C."""
    console = Console()
    kept = "What was finished is kept; run again to go on from there."
    if arguments.limit is not None:
        kept = "Nothing of the campaign was touched."
    try:
        if arguments.limit is not None:
            # Imported here, as the stages and torch are: what is finished needs neither.
            from distil_flows.miniature import run_in_miniature

            run_in_miniature(workspace, arguments.limit, console)
            return 0
        if arguments.seeds is not None:
            from distil_flows.seeds import run_seeds

            return run_seeds(workspace, arguments.seeds, arguments.parallel, console)
        _run(workspace, console)
    except DistilError as error:
        console.print(f"\nStopped: {error}", style="red", markup=False, highlight=False)
        console.print(kept)
        return 1
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. {kept}")
        return 130
    return 0


def _run(workspace: Workspace, console: Console) -> None:
    require_usable(workspace)
    require_answering(workspace)
    require_present_pipeline(workspace)
    prepare_code(workspace)
    iterations = existing_iterations(workspace)
    if iterations and _say_if_finished(workspace, console, iterations):
        return
    with prefect_api(workspace) as api:
        with (
            console.status("starting Prefect, loading the models' libraries"),
            exempt_from_garbage_collection(),
        ):
            versions = stage_versions()
            if not iterations:
                from distil_core.campaign.inputs import require_inputs

                iterations = restart(workspace, versions, examine=require_inputs)
                console.print(f"params.yaml frozen as iterations 0 to {iterations[-1]}")
            # Needed in any case, and the server takes longer to start than this.
            import_mlflow()
            from distil_flows.campaign import distil_campaign

            api.wait_until_ready()
        _say_where(workspace, console, api, iterations[-1])
        _say_notes(console, _notes(workspace, iterations[-1]))
        _run_flow(distil_campaign, Display(console), iterations[-1], api)
        keep_served_name(workspace, _deployment(workspace, api))
        note_finished(workspace, _notes(workspace, iterations[-1]))
    say_closing(console, workspace, iterations, api.pages_url)


def _deployment(workspace: Workspace, api: PrefectApi) -> str:
    """The name under which `distil serve` will have runs asked for."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        own_server = api.own or is_ours(api.url)
        return deployment_name(client, workspace, ["distil-iteration"], own_server)


def _say_if_finished(workspace: Workspace, console: Console, iterations: Sequence[int]) -> bool:
    """Say that there is nothing to do, if so, in the seconds that it takes to see it."""
    with console.status("looking for what is not up to date"):
        notes = finished(workspace)
    if notes is None:
        return False
    last = iterations[-1]
    campaign = load_iteration_params(workspace, last, with_components=False).campaign
    console.print(
        f"Campaign {campaign}: iterations 0 to {last} are up to date, recorded and reported. "
        "Nothing to do.",
        highlight=False,
    )
    _say_notes(console, notes)
    if has_remote(workspace):
        _push(workspace, console, last)
    say_closing(console, workspace, iterations)
    return True


def _push(workspace: Workspace, console: Console, last: int) -> None:
    """What an earlier run could not send. A remote that is down is no failure of the campaign."""
    try:
        sent = push_iteration(workspace, last)
    except LineageError as error:
        console.print(str(error), style="yellow", markup=False, highlight=False)
    else:
        console.print(f"The remote lacked {sent} files." if sent else "The remote has all of it.")


def _say_where(workspace: Workspace, console: Console, api: PrefectApi, last: int) -> None:
    if api.note:
        console.print(api.note, highlight=False)
    here = api.url.removesuffix("/api") if api.own else api.pages_url
    asks = f", whose pages ask for {api.password}" if api.password else ""
    campaign = load_iteration_params(workspace, last, with_components=False).campaign
    console.print(
        f"Campaign {campaign}: iterations 0 to {last}. Prefect shows them run at {here}{asks}",
        highlight=False,
    )
    console.print(
        f"Recorded in MLflow at {where_recorded(workspace)}", highlight=False, soft_wrap=True
    )


def _notes(workspace: Workspace, last: int) -> Notes:
    """How code and params.yaml differ from what the iterations were frozen with."""
    frozen = load_iteration_params(workspace, last, with_components=False)
    shared = Params.model_fields.keys() - {"num_iterations"}
    settings = load_params(workspace).model_dump(mode="json", include=shared)
    differing = changes(frozen.model_dump(mode="json", include=shared), settings)
    return Notes(
        other_code(workspace, range(last + 1), stage_versions()),
        f"params.yaml has changed since these iterations were frozen ({described(differing)}); "
        "they keep their own settings. `distil extend` adds one with the new settings, `distil "
        "restart` starts the campaign over with them."
        if differing
        else "",
    )


def _say_notes(console: Console, notes: Notes) -> None:
    for line in notes.code:
        console.print(line, style="yellow", markup=False, highlight=False)
    if notes.settings:
        console.print(notes.settings, markup=False, highlight=False)


def _run_flow(campaign: Callable[..., Any], display: Display, last: int, api: PrefectApi) -> None:
    """Raises `PrefectApiError` when the server is lost during the run, else what ended the flow."""
    import httpx

    _keep_prefect_off_the_screen()
    _internals.limit_event_retries(api.url)
    num_stages = sum(len(stage_addresses(number)) for number in range(last + 1))
    # Ending a heartbeat takes a second for each flow run; distil_flows.liveness does not need it.
    with (
        _internals.disable_heartbeats(),
        display.campaign(num_stages),
    ):
        try:
            campaign(return_state=True).result(raise_on_failure=True)
        except httpx.TransportError as error:
            raise PrefectApiError(
                f"the Prefect server at {api.url} was lost amid the run ({type(error).__name__}). "
                "Start it again (`prefect server start`), or unset PREFECT_API_URL to have one "
                "started for the run"
            ) from error


def _keep_prefect_off_the_screen() -> None:
    """Show Prefect's log only on its pages. On screen, stages have lines of their own."""

    def shortened(record: logging.LogRecord) -> bool:
        # Its message has whole events and stack traces, and says no more than this.
        record.msg, record.args, record.exc_info = "the Prefect server missed an event", (), None
        return True

    for name in _internals.INTERNAL_LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(
                lambda record: (
                    not record.name.startswith(_internals.INTERNAL_LOGGERS[0]) or shortened(record)
                )
            )

    def is_not_prefects(record: logging.LogRecord) -> bool:
        return not record.name.startswith("prefect")

    for handler in logging.getLogger().handlers:
        handler.addFilter(is_not_prefects)

    # At the end they log how many events wait, as some do for a second on a busy machine.
    for name in _internals.QUEUE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
