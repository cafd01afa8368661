"""Editing a component of an installed package makes the stages that use it stale, and no others
(2 min). The package is installed with `pip install -e`, so that its sources can be edited."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import example_scratch as scratch
import pytest

OBJECTIVE, HELPER, VERIFIER = "focal_objective.py", "_focus.py", "reversal_verifier.py"


@dataclass(frozen=True)
class Campaign:
    """A finished one."""

    environment: scratch.Environment
    root: Path

    def file(self, name: str) -> Path:
        return self.environment.source / "my_lab" / name

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """One of the package's sources with another text in it."""
        text = self.file(name).read_text()
        assert text.count(old) == 1
        self.file(name).write_text(text.replace(old, new))
        try:
            yield
        finally:
            self.file(name).write_text(text)

    def run(self, *arguments: str) -> str:
        status, output = self.environment.run_module(self.root, *arguments)
        assert status == 0, output
        return output

    def stale(self) -> set[str]:
        """What `dvc status` names."""
        return set(json.loads(self.run("dvc", "status", "--json")))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    environment = scratch.install(tmp_path_factory.mktemp("installed"), editable=True)
    root = scratch.make_workspace(tmp_path_factory.mktemp("campaign") / "workspace")
    status, output = environment.run_module(root, "distil_flows.cli", "run")
    assert status == 0, output
    found = Campaign(environment, root)
    assert found.stale() == set()
    return found


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        # Of the same size, and within the clock's tick of the file before perhaps.
        (OBJECTIVE, "default=1.0", "default=2.0", {"train@001"}),
        (HELPER, "(1.0 - overlap_bt)", "(2.0 - overlap_bt)", {"train@001"}),
        (
            VERIFIER,
            "partial_reward: bool = False",
            "partial_reward: bool = not 1",
            {"problems", "base", "consult@001", "evaluate@000", "evaluate@001"},
        ),
        (
            "answer_key.py",
            "default=0.05",
            "default=0.06",
            {"tabulate@001", "evaluate@000", "evaluate@001"},
        ),
        ("reversed_digits.py", "default=0.2", "default=0.3", {"problems", "base"}),
    ],
)
def test_an_edit_makes_those_stages_stale_that_use_it(
    campaign: Campaign, name: str, old: str, new: str, expected: set[str]
) -> None:
    with campaign.edited(name, old, new):
        assert campaign.stale() == expected
    assert campaign.stale() == set()


def test_what_no_component_imports_changes_nothing(campaign: Campaign) -> None:
    campaign.file("other.py").write_text("from my_lab import focal_objective\n")
    assert "Nothing to do." in campaign.run("distil_flows.cli", "run")
    assert campaign.stale() == set()


def test_the_flow_runs_those_stages_and_what_builds_on_them(campaign: Campaign) -> None:
    lock = (campaign.root / "dvc.lock").read_text()
    with campaign.edited(OBJECTIVE, "losses_bt = weights_bt", "losses_bt = 3.0 * weights_bt"):
        output = campaign.run("distil_flows.cli", "run")
        became = dict(line.split()[:2] for line in output.splitlines() if "@" in line[:12])
        assert became == {
            "evaluate@000": "unchanged",
            "sample@001": "unchanged",
            "consult@001": "unchanged",
            "tabulate@001": "unchanged",
            "train@001": "ran",
            "evaluate@001": "ran",
            "gate@001": "ran",
        }
        assert "unchanged" in output.split("problems", 1)[1].splitlines()[0]
        assert campaign.stale() == set()
        assert (campaign.root / "dvc.lock").read_text() != lock
        again = campaign.run("distil_flows.cli", "run")
        assert " ran " not in again

        # Edited once more: what ran with the code before is not handed back.
        with campaign.edited(HELPER, "(1.0 - overlap_bt)", "(2.0 - overlap_bt)"):
            assert campaign.stale() == {"train@001"}
            assert "train@001: ran" in campaign.run("distil_tasks.train", "--iteration", "1")
    # As it was at first: nothing has to run, DVC has it.
    assert campaign.stale() == {"train@001", "evaluate@001", "gate@001"}
    output = campaign.run("dvc", "repro")
    for address in ("train@001", "evaluate@001", "gate@001"):
        assert f"Stage '{address}' is cached" in output
    assert (campaign.root / "dvc.lock").read_text() == lock


def test_a_module_that_a_component_imports_from_now_on_is_part_of_it(campaign: Campaign) -> None:
    campaign.file("_scale.py").write_text("SCALE = 1.0\n")
    with campaign.edited(HELPER, "import torch\n", "import torch\nfrom ._scale import SCALE\n"):
        campaign.run("distil_flows.cli", "record")
        linked = campaign.root / "code/my_lab.focal_objective/my_lab/_scale.py"
        assert linked.resolve() == campaign.file("_scale.py").resolve()
        assert campaign.stale() == {"train@001"}
        assert "train@001: ran" in campaign.run("distil_tasks.train", "--iteration", "1")
        assert campaign.stale() == set()
        campaign.file("_scale.py").write_text("SCALE = 2.0\n")
        assert campaign.stale() == {"train@001"}
    campaign.run("distil_flows.cli", "run")
    assert not linked.exists()
    assert campaign.stale() == set()


def test_a_component_that_is_gone_is_named(campaign: Campaign) -> None:
    file = campaign.file(OBJECTIVE)
    aside = file.rename(file.with_suffix(".away"))
    try:
        status, output = campaign.environment.run_module(
            campaign.root, "distil_tasks.train", "--iteration", "1", "--force"
        )
        assert status == 1
        assert "my_lab.focal_objective" in output
        assert "Traceback" not in output
        assert campaign.stale() == {"train@001"}
        # What needs it not goes on.
        assert "sample@001: unchanged" in campaign.run("distil_tasks.sample", "--iteration", "1")
    finally:
        aside.rename(file)
    assert "train@001: unchanged" in campaign.run("distil_tasks.train", "--iteration", "1")


def test_a_rerun_is_made_with_the_recorded_code(campaign: Campaign) -> None:
    with campaign.edited(OBJECTIVE, "losses_bt = weights_bt", "losses_bt = 3.0 * weights_bt"):
        output = campaign.run("distil_flows.cli", "reproduce", "my-lab/1")
    assert "runs the recorded code, not what is here now: my_lab/focal_objective.py" in output, (
        output
    )
    assert "All 12 artifacts are equal to the recorded ones" in output
