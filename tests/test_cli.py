"""The `distil` command. 8 s: adding iterations imports torch."""

import hashlib
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from distil_core.campaign.iterations import existing_iterations
from distil_core.campaign.load import load_iteration_params, load_params_file
from distil_core.doctor import Finding, examine
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parent / "flows"))
import front_door_scratch as scratch

Distil = Callable[..., tuple[int, str]]
HEAVY = (
    "dvc",
    "matplotlib",
    "mlflow",
    "numpy",
    "polars",
    "prefect",
    "pyarrow",
    "pydantic",
    "torch",
    "transformers",
)
# 103 in all with Python 3.11, argparse the largest; counted, as seconds depend on the machine.
MOST_MODULES = 160


def test_help_comes_at_once() -> None:
    program = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print(len(sys.modules), set({HEAVY}) & sys.modules.keys()))\n"
        "sys.argv = ['distil', '--help']\n"
        "runpy.run_module('distil_flows.cli', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=scratch.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    num_modules, heavy = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert heavy == "set()"
    assert int(num_modules) <= MOST_MODULES
    for command in ("extend", "restart", "record", "report", "doctor"):
        assert command in done.stdout


def test_importing_the_command_imports_nothing_heavy() -> None:
    program = f"import sys, distil_flows.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=scratch.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.fixture
def distil(monkeypatch: pytest.MonkeyPatch, distil_command: Distil) -> Distil:
    """Runs the command in a workspace, in this process: its status and what it said."""

    def run(workspace: Workspace, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(workspace.root)
        return distil_command(*arguments)

    return run


def test_restart_and_extend(tmp_path: Path, distil: Distil) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    status, output = distil(workspace, "extend")
    assert status == 1
    assert "`distil restart`" in output
    status, output = distil(workspace, "restart")
    assert status == 0
    assert output.startswith("params.yaml is frozen as iteration 0 to 1.")
    status, output = distil(workspace, "extend", "--count", "2")
    assert status == 0
    assert output.startswith("params.yaml is frozen as iteration 2 to 3.")
    assert workspace.frozen_params_file(3).exists()
    status, output = distil(workspace, "extend", "--count", "0")
    assert status == 1
    assert output.startswith("distil: the number of iterations")


def test_restart_says_what_a_longer_campaign_left(tmp_path: Path, distil: Distil) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    assert "set aside" not in distil(workspace, "restart")[1]
    left = workspace.iteration_dir(7) / "rollouts.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of nobody's cache")
    status, output = distil(workspace, "restart")
    assert status == 0, output
    assert "What the campaign before had as iteration 7 is set aside: .distil/former/" in output
    assert "1 files or folders that DVC's cache lacks" in output
    (kept,) = (workspace.scratch_dir / "former").glob("*/data/iterations/007/rollouts.parquet")
    assert kept.read_bytes() == b"of nobody's cache"


def test_restart_from_a_preset_keeps_the_former_settings(tmp_path: Path, distil: Distil) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    former = workspace.params_file.read_text() + "# of my own\n"
    workspace.params_file.write_text(former)
    preset = scratch.PROJECT / "presets" / "science.yaml"
    status, output = distil(workspace, "restart", "--params", str(preset))
    assert status == 0, output
    assert workspace.params_file.read_bytes() == preset.read_bytes()
    (kept,) = (workspace.scratch_dir / "replaced-params").iterdir()
    assert kept.read_text() == former
    assert f"kept as {workspace.relative(kept)}" in output
    assert load_iteration_params(workspace, 0).campaign == load_params_file(preset).campaign
    # The same again replaces nothing.
    status, output = distil(workspace, "restart", "--params", str(preset))
    assert (status, "kept" in output) == (0, False)
    assert len(list(kept.parent.iterdir())) == 1


def test_single_settings_are_set_and_said(tmp_path: Path, distil: Distil) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    status, output = distil(
        workspace, "restart", "--set", "train.learning_rate=1e-5", "--set", "seed=7"
    )
    assert status == 0, output
    assert "params.yaml now holds what --set asked for; what it held is kept as " in output
    assert load_iteration_params(workspace, 1).train.learning_rate == 1e-5
    status, output = distil(workspace, "extend", "--set", "train.learning_rate=2e-5")
    assert status == 0, output
    frozen = load_iteration_params(workspace, existing_iterations(workspace)[-1])
    assert (frozen.train.learning_rate, frozen.seed) == (2e-5, 7)
    status, output = distil(workspace, "extend", "--set", "train.learning_rte=2e-5")
    assert (status, "did you mean learning_rate" in output) == (1, True)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("presets/sciense.yaml", "no settings file presets/sciense.yaml; in presets there are bad"),
        ("nowhere/a.yaml", "no settings file nowhere/a.yaml"),
        ("presets/bad.yaml", "presets/bad.yaml: compute.device: "),
        ("presets/not.yaml", "not.yaml is not valid YAML"),
    ],
)
def test_restart_from_a_file_that_cannot_work_changes_nothing(
    tmp_path: Path, distil: Distil, file: str, expected: str
) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    presets = workspace.root / "presets"
    presets.mkdir()
    text = workspace.params_file.read_text()
    (presets / "bad.yaml").write_text(text.replace("device: cpu", "device: tpu"))
    (presets / "not.yaml").write_text("a: [")
    status, output = distil(workspace, "restart", "--params", file)
    assert (status, expected in output) == (1, True), output
    assert workspace.params_file.read_text() == text
    assert not workspace.scratch_dir.exists()
    assert not workspace.frozen_params_file(0).exists()


def test_outside_a_workspace_it_says_so(tmp_path: Path, distil: Distil) -> None:
    status, output = distil(Workspace(tmp_path), "extend")
    assert status == 1
    assert "run in a DistIL workspace, which `distil init` makes" in output


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return scratch.make_workspace(tmp_path_factory.mktemp("doctor") / "workspace")


def test_doctor_finds_nothing_wrong_here(healthy: Workspace) -> None:
    problems = [finding for finding in examine(healthy) if finding.level == "problem"]
    assert problems == []


def test_doctor_finds_what_is_missing(tmp_path: Path, distil: Distil) -> None:
    status, output = distil(Workspace(tmp_path), "doctor")
    assert status == 1
    assert "is no git repository" in output
    assert "is no DistIL workspace: no .dvc, dvc.yaml, params.yaml" in output
    assert "         -> run `git init` there" in output


def test_doctor_compares_with_the_lock(healthy: Workspace) -> None:
    lock = healthy.root / "requirements" / "core.txt"
    lock.parent.mkdir()
    lock.write_text(
        "# comment\nrich==0.0.1\nno-such-package==1.0\nelsewhere==1.0 ; sys_platform == 'win32'\n"
    )
    found = {finding.what: finding for finding in examine(healthy)}
    assert found["packages not installed: no-such-package"].level == "problem"
    different = next(what for what in found if what.startswith("other versions than tested"))
    assert "(pinned: 0.0.1)" in different


def test_doctor_says_who_else_can_use_what_is_served(
    healthy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def account(name: str, uid: int, shell: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", shell))

    others = [account("daemon", 1, "/bin/sh"), account("ftp", 1005, "/usr/sbin/nologin")]
    monkeypatch.setattr(pwd, "getpwall", lambda: others)
    assert not any("other users" in finding.what for finding in examine(healthy))
    others.append(account("alice", 4711, "/bin/bash"))
    [found] = [finding for finding in examine(healthy) if "other users" in finding.what]
    assert found.level == "note"
    assert "(alice)" in found.what
    assert "docs/shared_machines.md" in found.remedy
    assert (scratch.PROJECT / "docs" / "shared_machines.md").is_file()


def problems_with_device(workspace: Workspace, device: str) -> list[Finding]:
    before = workspace.params_file.read_text()
    workspace.params_file.write_text(before.replace("device: cpu", f"device: {device}"))
    try:
        return [finding for finding in examine(workspace) if finding.level == "problem"]
    finally:
        workspace.params_file.write_text(before)


def test_doctor_names_a_wrong_setting(healthy: Workspace) -> None:
    problems = problems_with_device(healthy, "tpu")
    assert any("compute.device" in finding.what for finding in problems)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_doctor_misses_the_gpu_that_is_asked_for(healthy: Workspace) -> None:
    problems = problems_with_device(healthy, "cuda")
    (missing,) = [finding for finding in problems if "torch finds no GPU" in finding.what]
    assert "set compute.device to cpu" in missing.remedy


def test_a_finding_is_printed_with_its_remedy_below() -> None:
    assert Finding("ok", "fine").line() == "ok       fine"
    assert Finding("note", "odd", "look").line() == "note     odd\n         -> look"


@pytest.mark.parametrize("command", ["settings", "--help", "lineage --help"])
def test_a_reader_that_has_read_enough_is_no_error(command: str) -> None:
    """As in `distil settings | head -1`: the pipe is closed before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distil_flows.cli", *command.split()],
        cwd=scratch.PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=scratch.environment(),
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b""
    # argparse itself overlooks a closed pipe where Python does not buffer.
    assert process.wait() in (0, 128 + signal.SIGPIPE)
    process.stderr.close()


def test_pin_writes_digests_and_restart_names_files_without(tmp_path: Path, distil: Distil) -> None:
    workspace = scratch.make_workspace(tmp_path / "workspace")
    text = workspace.params_file.read_text()
    values = yaml.safe_load(text)
    (workspace.root / "mine.jsonl").write_text('{"q": "1+1=", "a": "2"}\n')
    values["base"] = {"kind": "pretrained", "path_or_id": "some/model"}
    values["problems"] |= {
        "source": {
            "name": "jsonl",
            "options": {
                "train": {"path": "mine.jsonl", "sha256": ""},
                "eval_fraction": 0.5,
                "prompt_field": "q",
                "reference_field": "a",
            },
        },
        "num_warm_start": 0,
        "num_train": "all",
        "generalisation": None,
    }
    values["consult"]["verifier"] = {"name": "exact_text"}
    workspace.params_file.write_text(yaml.safe_dump(values))
    status, output = distil(workspace, "restart")
    assert status == 1, output
    assert "nothing was frozen" in output
    assert "problems.source.options; `distil pin` writes it there" in output
    # For a machine on which the file and the model are.
    status, output = distil(workspace, "restart", "--no-check")
    assert status == 0, output
    assert "mine.jsonl is not pinned yet" in output
    assert "run `distil pin`" in output
    status, output = distil(workspace, "pin")
    assert status == 0, output
    digest = hashlib.sha256((workspace.root / "mine.jsonl").read_bytes()).hexdigest()
    assert f"mine.jsonl: sha256 {digest[:12]}.. (not pinned before)" in output
    assert digest in workspace.params_file.read_text()
    status, output = distil(workspace, "restart", "--no-check")
    assert "not pinned" not in output
    status, output = distil(workspace, "pin")
    assert (status, output.split(" (")[1]) == (0, "as pinned before)\n")
