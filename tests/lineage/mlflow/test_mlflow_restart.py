"""MLflow after `distil restart` and `distil extend`, for each section of the settings.

The stages are stand-ins with DVC's rules (mlflow_rerun.py); settings, freezing and recording are
the real ones. A minute on two cores.
"""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from mlflow_rerun import Interrupted, run_iteration
from mlflow_scratch import PROJECT, make_campaign

from distil_core.campaign.iterations import existing_iterations, extend, restart
from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import lock_digest
from distil_core.lineage.mlflow.record import record_all, record_iteration, why_not_recorded
from distil_core.lineage.mlflow.store import open_store
from distil_core.lineage.view.read import read_lineage
from distil_core.workspace import Workspace

NAMES = ("problems", "base", "sample", "consult", "tabulate", "train", "evaluate", "gate")
VERSIONS = dict.fromkeys(NAMES, 1)

Change = Callable[[dict[str, Any]], object]

# One of each section: the name that MLflow is to give the campaign's run after a restart with it.
SECTIONS: dict[str, Change] = {
    "seed": lambda params: params.update(seed=5),
    "compute.num_threads": lambda params: params["compute"].update(num_threads=2),
    "problems.num_eval": lambda params: params["problems"].update(num_eval=64),
    "base.learning_rate": lambda params: params["base"].update(learning_rate=0.001),
    "context.max_context_tokens": lambda params: params["context"].update(max_context_tokens=90),
    "sample.temperature": lambda params: params["sample"].update(temperature=0.9),
    "consult.verifier.options.modulus": lambda params: params["consult"]["verifier"].update(
        options={"modulus": 5}
    ),
    "tabulate.rows_per_shard": lambda params: params["tabulate"].update(rows_per_shard=512),
    "train.learning_rate": lambda params: params["train"].update(learning_rate=0.0005),
    "evaluate.num_bootstrap": lambda params: params["evaluate"].update(num_bootstrap=1000),
    "evaluate.num_samples": lambda params: (
        params["evaluate"].update(num_samples=16),
        params["gate"].update(margins={"pass_at_1": 0.02, "pass_at_16": 0.03}),
    ),
    "gate.margins": lambda params: params["gate"].update(margins={"pass_at_1": 0.01}),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A campaign of two iterations, run and recorded. The tests of this module follow each other
    on it, as restarts do."""
    workspace = make_campaign(tmp_path_factory.mktemp("restart") / "campaign", 2)
    change(workspace, lambda _: None)
    restart(workspace, VERSIONS)
    make_run(workspace)
    return workspace


def change(workspace: Workspace, edit: Change, num_iterations: int = 2) -> None:
    """The project's params.yaml with one edit, as this workspace's."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["num_iterations"] = num_iterations
    edit(params)
    workspace.params_file.write_text(yaml.safe_dump(params, sort_keys=False))


def make_run(workspace: Workspace, kill: str | None = None) -> None:
    """As `make run` does: each iteration is recorded before the next one runs."""
    for iteration in existing_iterations(workspace):
        run_iteration(workspace, iteration, kill)
        record_iteration(workspace, iteration)


def repro(workspace: Workspace) -> None:
    """As `dvc repro` and `distil record` do."""
    for iteration in existing_iterations(workspace):
        run_iteration(workspace, iteration)
    record_all(workspace)


def require_right(workspace: Workspace, campaign: str = "chain-arithmetic") -> Any:
    """MLflow has the campaign as `dvc.lock` has it, once; returns the campaign's run."""
    assert why_not_recorded(workspace) is None
    numbers = existing_iterations(workspace)
    recorded = record_all(workspace)
    assert [each.created for each in recorded] == [False] * len(numbers)
    with open_store(workspace) as client:
        experiment = client.get_experiment_by_name(campaign)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        by_id = {run.info.run_id: run for run in runs}
        last = by_id[recorded[-1].run_id]
        chain = by_id[last.data.tags["mlflow.parentRunId"]]
        under = [
            run for run in runs if run.data.tags.get("mlflow.parentRunId") == chain.info.run_id
        ]
        # One row for each iteration, none of them of another chain.
        digests = {
            run.data.tags["distil.iteration"]: run.data.tags["distil.lock_digest"] for run in under
        }
        assert digests == {str(number): lock_digest(workspace, number) for number in numbers}
        assert len(under) == len(numbers)
        history = client.get_metric_history(chain.info.run_id, "pass_at_1")
        assert sorted(point.step for point in history) == numbers
        aliases = client.get_registered_model(campaign).aliases
        assert int(aliases["newest"]) == recorded[-1].model_version
        champion = client.get_model_version(campaign, aliases["champion"])
        assert int(champion.tags["distil.iteration"]) == last.data.metrics["gate/champion"]
        assert champion.tags["distil.lock_digest"] in digests.values()
    lineage = read_lineage(workspace, f"{campaign}@newest")
    assert lineage.disagreements == ()
    assert lineage.asked.iteration == numbers[-1]
    return chain


@pytest.mark.parametrize("section", SECTIONS)
def test_a_restart_with_another_setting(finished: Workspace, section: str) -> None:
    change(finished, SECTIONS[section])
    restart(finished, VERSIONS)
    # What dvc.lock still has of the campaign before is neither recorded nor in the way.
    assert "ran with other settings than" in str(why_not_recorded(finished))
    record_all(finished)
    door = make_run if list(SECTIONS).index(section) % 2 else repro
    door(finished)
    chain = require_right(finished)
    assert section in chain.info.run_name
    assert chain.info.run_name.startswith("campaign ")


def test_a_setting_changed_back(finished: Workspace) -> None:
    """Nothing is recorded twice: it is the first campaign again."""
    change(finished, lambda _: None)
    restart(finished, VERSIONS)
    make_run(finished)
    assert require_right(finished).info.run_name == "campaign 1"


def test_settings_that_no_stage_reads(finished: Workspace) -> None:
    change(finished, lambda params: params.update(verification={"num_workers": 3}))
    restart(finished, VERSIONS)
    assert why_not_recorded(finished) is None
    assert require_right(finished).info.run_name == "campaign 1"


def test_longer_and_shorter(finished: Workspace) -> None:
    """A shorter chain has a run of its own, a longer one goes on in the longest that it continues;
    what dvc.lock has beyond the chain is not taken for current."""
    names = []
    for num_iterations, edit in ((1, None), (3, None), (1, "train.learning_rate"), (2, None)):
        change(finished, SECTIONS[edit] if edit else lambda _: None, num_iterations)
        restart(finished, VERSIONS)
        make_run(finished)
        names.append(require_right(finished).info.run_name)
    assert names[1] == "campaign 1"
    assert names[0] == names[3] != names[1]
    assert names[2].endswith(": train.learning_rate 0.0005")


def test_an_extension_is_the_same_campaign(finished: Workspace) -> None:
    change(finished, lambda _: None, 1)
    restart(finished, VERSIONS)
    make_run(finished)
    before = require_right(finished)
    change(finished, SECTIONS["tabulate.rows_per_shard"], 1)
    extend(finished, VERSIONS)
    make_run(finished)
    assert require_right(finished).info.run_id == before.info.run_id
    # The same place with other settings is another chain.
    change(finished, lambda _: None, 1)
    restart(finished, VERSIONS)
    change(finished, SECTIONS["train.learning_rate"], 1)
    extend(finished, VERSIONS)
    make_run(finished)
    chain = require_right(finished)
    assert chain.info.run_id != before.info.run_id
    assert chain.info.run_name.endswith("train.learning_rate 0.0005 from iteration 2 on")


@pytest.mark.parametrize("killed", ["sample@001", "evaluate@001", "gate@002", "evaluate@000"])
def test_interrupted_between_two_restarts(finished: Workspace, killed: str) -> None:
    """The interrupted stage's outputs are gone and its former entry in dvc.lock is not; then the
    settings of before, under which that entry is right again."""
    change(finished, SECTIONS["seed"])
    restart(finished, VERSIONS)
    make_run(finished)
    change(finished, lambda params: params.update(seed=int(killed[-1]) + 100))
    restart(finished, VERSIONS)
    with pytest.raises(Interrupted):
        make_run(finished, kill=killed)
    change(finished, SECTIONS["seed"])
    restart(finished, VERSIONS)
    make_run(finished)
    assert "seed 5" in require_right(finished).info.run_name


def test_files_of_a_later_iteration_are_gone(finished: Workspace) -> None:
    """An earlier one can be recorded all the same; asked for itself, it says what is missing."""
    change(finished, lambda params: params.update(seed=77))
    restart(finished, VERSIONS)
    for iteration in (0, 1, 2):
        run_iteration(finished, iteration)
    text = finished.metrics_file(2).read_text()
    finished.metrics_file(2).unlink()
    assert record_iteration(finished, 1).created
    with pytest.raises(LineageError, match=r"data/iterations/002/metrics\.json is not what"):
        record_all(finished)
    finished.metrics_file(2).write_text(text)
    record_all(finished)
    require_right(finished)


def test_another_campaign(finished: Workspace) -> None:
    change(finished, lambda _: None)
    restart(finished, VERSIONS)
    make_run(finished)
    change(finished, lambda params: params.update(campaign="another"))
    restart(finished, VERSIONS)
    assert why_not_recorded(finished) is None
    record_all(finished)
    assert require_right(finished, "another").info.run_name == "campaign 1"
