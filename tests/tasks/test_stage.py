"""Stages as commands and as functions, in a scratch workspace (20 s on one core).

The stand-in stages' modules are written there beside a copy of `tasks/stage.py`, so that
`python -m distil_tasks.<stage>` runs the real command line with a small body.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml

from distil_core.campaign.iterations import restart
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.errors import CheckError, ConfigError, DataError
from distil_core.lineage.mlflow.live import live_file
from distil_core.pipeline import STAGES
from distil_core.progress import ProgressCallback, report_figures
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS, ConsultationRow, RolloutRow
from distil_core.tables.store import write_table
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main, prepare_torch, run, run_body

PROJECT = Path(__file__).parents[2]
CUDA = {"device": "cuda", "dtype": "float32"}
PROBLEMS = """
from distil_tasks.stage import StageSpec, main


def body(workspace, params, progress):
    workspace.problems_dir.mkdir(parents=True, exist_ok=True)
    for name in ("warm_start", "train", "eval", "generalisation"):
        (workspace.problems_dir / f"{name}.parquet").write_text(f"{name} {params.seed}")
    progress(1, 1)


STAGE = StageSpec("problems", version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "data/.gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    workspace.params_file.write_text(yaml.safe_dump(settings | {"num_iterations": 1}))
    restart(workspace, {stage.name: 1 for stage in STAGES})
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return workspace


@pytest.fixture
def commands(workspace: Workspace) -> Workspace:
    """The workspace with stand-in stage modules to start as commands."""
    package = workspace.root / "distil_tasks"
    package.mkdir()
    shutil.copy(PROJECT / "tasks/stage.py", package)
    shutil.copy(PROJECT / "tasks/__init__.py", package)
    (package / "problems.py").write_text(PROBLEMS)
    sample = PROBLEMS.replace('"problems"', '"sample"')
    (package / "sample.py").write_text(sample)
    return workspace


def start(workspace: Workspace, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `python` with these arguments."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=workspace.root,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def problems_spec(calls: list[int] | None = None) -> StageSpec:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        if calls is not None:
            calls.append(params.iteration)
        workspace.problems_dir.mkdir(parents=True, exist_ok=True)
        for name in ("warm_start", "train", "eval", "generalisation"):
            (workspace.problems_dir / f"{name}.parquet").write_text(name)
        progress(1, 1)

    return StageSpec("problems", version=1, body=body)


def test_addresses_are_those_of_dvc() -> None:
    assert problems_spec().address(3) == "problems"
    sample = StageSpec("sample", version=1, body=lambda *_: None)
    assert sample.address(3) == "sample@003"
    with pytest.raises(ConfigError, match=r"0 \.\. 999, found 1000"):
        sample.address(1000)


def test_run_records_and_notes_the_seconds_of_real_runs(workspace: Workspace) -> None:
    calls: list[int] = []
    reported: list[tuple[int, int]] = []
    spec = problems_spec(calls)
    outcome = run(spec, workspace, 7, lambda done, total: reported.append((done, total)))
    assert (outcome.status, calls, reported) == ("ran", [0], [(1, 1)])
    noted = json.loads(workspace.timings_file(0).read_text())
    assert list(noted) == ["problems"]
    workspace.timings_file(0).write_text('{"base": 1.5}')
    assert run(spec, workspace, 7).status == "unchanged"
    assert json.loads(workspace.timings_file(0).read_text()) == {"base": 1.5}
    assert run(spec, workspace, 7, force=True).status == "ran"
    assert list(json.loads(workspace.timings_file(0).read_text())) == ["base", "problems"]


def test_figures_of_a_body_are_shown_and_noted_for_mlflow(workspace: Workspace) -> None:
    class Shown:
        def __init__(self) -> None:
            self.seen: list[object] = []

        def __call__(self, done: int, total: int) -> None:
            self.seen.append((done, total))

        def figures(self, step: int, values: Mapping[str, float]) -> None:
            self.seen.append(dict(values))

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        report_figures(progress, 1, {"loss": 0.5})
        progress(1, 2)
        if fails:
            raise DataError("no")

    for fails, end in ((False, "FINISHED"), (True, "FAILED")):
        shown = Shown()
        with nullcontext() if not fails else pytest.raises(DataError):
            run_body(StageSpec("gate", 1, body), workspace, 1, shown)
        assert shown.seen == [{"loss": 0.5}, (1, 2)]
        noted = [json.loads(line) for line in live_file(workspace, "gate@001").open()]
        assert [noted[0]["values"], noted[1]] == [{"loss": 0.5}, {"end": end}]


def test_a_body_alone_records_nothing(workspace: Workspace) -> None:
    run_body(problems_spec(), workspace, 0)
    assert (workspace.problems_dir / "eval.parquet").exists()
    assert workspace.timings_file(0).exists()
    assert not (workspace.root / "dvc.lock").exists()


def test_stages_that_use_torch_are_those_that_depend_on_compute() -> None:
    # consult reads a model only where self-evaluation is on, and sets torch up there itself.
    reading = {stage.name for stage in STAGES if "compute" in stage.settings}
    assert reading == {stage.name for stage in STAGES if stage.uses_torch} | {"consult"}


def test_torch_is_set_up_as_the_settings_say(workspace: Workspace) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        prepare_torch(ComputeParams(device="cpu", dtype="float32", num_threads=2))
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_without_the_device_no_stage_that_needs_one_begins(workspace: Workspace) -> None:
    """Not even `base`, which makes its policy on the CPU."""
    file = workspace.frozen_params_file(0)
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {"compute": settings["compute"] | CUDA}))
    calls: list[int] = []
    spec = StageSpec("base", 1, lambda _, params, __: calls.append(params.iteration))
    with pytest.raises(ConfigError, match=r"compute.device is cuda, but torch .* finds no CUDA"):
        run_body(spec, workspace, 0)
    assert not calls
    assert not workspace.timings_file(0).exists()
    run_body(problems_spec(calls), workspace, 0)
    assert calls == [0], "problems need no device"


def test_checks_are_kept_beside_the_table_and_stop_the_next_stage(
    workspace: Workspace,
) -> None:
    calls: list[str] = []

    def sample(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        row = RolloutRow("1/a/0", "a", 0, 1, [1], [2], [-1.0], "length", "x", None)
        write_table(workspace.rollouts_file(1), ROLLOUTS, [row], {})

    def consult(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        calls.append("consult")
        row = ConsultationRow("1/a/0", 0.0, "truncated", (), None, None)
        write_table(workspace.consultations_file(1), CONSULTATIONS, [row], {})

    run_body(StageSpec("sample", 1, sample), workspace, 1)
    kept = json.loads((workspace.iteration_dir(1) / "rollouts.checks.json").read_text())
    assert kept["checks"]["truncation_share"] == 1.0
    file = workspace.frozen_params_file(1)
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {"checks": {"truncation_share": {"stop": 0.5}}}))
    with pytest.raises(CheckError, match=r"consult@001 does not begin: .*truncation_share 1"):
        run_body(StageSpec("consult", 1, consult), workspace, 1)
    assert calls == []
    assert workspace.rollouts_file(1).exists()
    file.write_text(yaml.safe_dump(settings))
    run_body(StageSpec("consult", 1, consult), workspace, 1)
    assert calls == ["consult"]


def test_the_command_records_and_says_so_in_a_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    for arguments, status in (([], "ran"), ([], "unchanged"), (["--force"], "ran")):
        monkeypatch.setattr(sys, "argv", ["problems.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(problems_spec())
        assert ended.value.code == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"problems: {status} in ")
        assert "data/problems/eval.parquet " in line


def test_an_interrupted_command_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr(sys, "argv", ["problems.py"])
    with pytest.raises(SystemExit) as ended:
        main(StageSpec("problems", version=1, body=body))
    assert ended.value.code == 130
    assert capsys.readouterr().err == "problems: interrupted; nothing was recorded\n"
    assert not workspace.timings_file(0).exists()


def test_dvc_runs_the_command_and_the_function_agrees(commands: Workspace) -> None:
    status, said, errors = start(commands, "-m", "dvc", "repro", "problems")
    assert status == 0, errors
    assert "Running stage 'problems'" in said
    # Only the body ran: the command left the recording to DVC.
    assert "problems: ran" not in said
    assert (commands.problems_dir / "eval.parquet").read_text().startswith("eval ")
    assert json.loads(commands.timings_file(0).read_text()).keys() == {"problems"}
    assert run(problems_spec(), commands, 0).status == "unchanged"


def test_started_by_dvc_from_another_folder_the_error_is_one_message(commands: Workspace) -> None:
    status, said, errors = start(
        commands,
        "-m",
        "distil_tasks.sample",
        "--iteration",
        "2",
        DVC_STAGE="../dvc.yaml:sample@002",
    )
    assert (status, said) == (1, "")
    assert errors.startswith("sample: iteration 2 does not exist: no iterations/002.yaml")
    assert errors.count("\n") == 1


def test_the_command_without_dvc_refuses_what_lies_upstream(commands: Workspace) -> None:
    status, _, errors = start(commands, "-m", "distil_tasks.sample", "--iteration", "1")
    assert status == 1
    assert errors.startswith("sample: sample@001 builds on problems, which is not up to date")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("distil_tasks.sample",),
        ("distil_tasks.sample", "--iteration", "-1"),
        ("distil_tasks.problems", "3"),
    ],
)
def test_wrong_arguments_show_the_usage(commands: Workspace, arguments: tuple[str, ...]) -> None:
    status, _, errors = start(commands, "-m", *arguments)
    assert status == 2
    assert errors.startswith("usage: python -m distil_tasks.")
