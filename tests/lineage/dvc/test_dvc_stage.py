"""Stages run in this process against real DVC and git repositories (25 s on one core)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dvc_fake_stages import write_outputs
from dvc_scratch import addresses, dvc, freeze, git, list_iterations, make_workspace, run_fake

from distil_core.errors import DataError, LineageError
from distil_core.lineage.dvc import session as dvc_session
from distil_core.lineage.dvc.lock import locked_outputs, read_entries
from distil_core.lineage.dvc.stage import is_up_to_date, run_stage
from distil_core.workspace import Workspace

HELPERS = Path(__file__).parents[1]
PROJECT = HELPERS.parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which every stage was run in this process; tests copy it."""
    workspace = make_workspace(tmp_path_factory.mktemp("finished"))
    assert {run_fake(workspace, address).status for address in addresses()} == {"ran"}
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    root = tmp_path / "copy"
    shutil.copytree(finished.root, root, symlinks=True)
    return Workspace(root)


def statuses(workspace: Workspace) -> dict[str, str]:
    return {address: run_fake(workspace, address).status for address in addresses()}


def lock_text(workspace: Workspace) -> str:
    return (workspace.root / "dvc.lock").read_text()


def fail_if_called() -> None:
    raise AssertionError("the stage's body must not run")


def test_dvc_finds_nothing_to_do_after_stages_ran_here(workspace: Workspace) -> None:
    assert "up to date" in dvc(workspace.root, "status")
    reproduced = dvc(workspace.root, "repro")
    assert reproduced.count("didn't change, skipping") == len(addresses())
    assert "Running" not in reproduced
    assert git(workspace.root, "status", "--short", "--ignored").split() == [
        *("??", "dvc.lock"),
        *("!!", ".dvc/cache/", "!!", ".dvc/tmp/"),
        *("!!", "data/iterations/", "!!", "data/policy-000/", "!!", "data/problems/"),
    ]
    assert [p.parent.name for p in workspace.root.rglob(".gitignore")].count("data") == 1
    assert len(list(workspace.root.rglob(".gitignore"))) == 3


def test_nothing_to_do_here_after_dvc_ran_the_stages(finished: Workspace, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    dvc(workspace.root, "repro")
    assert set(statuses(workspace).values()) == {"unchanged"}
    assert read_entries(workspace) == read_entries(finished)
    # Only the order differs, that in which the stages ran first.
    assert sorted(lock_text(workspace).splitlines()) == sorted(lock_text(finished).splitlines())


def test_the_run_cache_is_shared_both_ways(workspace: Workspace) -> None:
    freeze(workspace, 1, seed=2)
    assert run_fake(workspace, "sample@001").status == "ran"
    freeze(workspace, 1, seed=1)
    assert "is cached - skipping run" in dvc(workspace.root, "repro", "sample@001")
    freeze(workspace, 1, seed=3)
    assert "Running stage" in dvc(workspace.root, "repro", "sample@001")
    freeze(workspace, 1, seed=2)
    assert run_stage(workspace, "sample@001", fail_if_called).status == "restored"
    freeze(workspace, 1, seed=3)
    assert run_stage(workspace, "sample@001", fail_if_called).status == "restored"
    assert "up to date" in dvc(workspace.root, "status", "sample@001")


def test_a_deleted_output_comes_back_without_running(workspace: Workspace) -> None:
    before = lock_text(workspace)
    shutil.rmtree(workspace.policy_dir(1))
    dvc(workspace.root, "checkout")
    assert workspace.policy_dir(1).is_dir()
    shutil.rmtree(workspace.policy_dir(1))
    outcome = run_stage(workspace, "train@001", fail_if_called)
    assert outcome.status == "restored"
    assert workspace.policy_dir(1).is_dir()
    assert lock_text(workspace) == before
    assert outcome.outputs == {
        path: output.md5 for path, output in locked_outputs(workspace, "train@001").items()
    }


def test_force_runs_the_body_again(workspace: Workspace) -> None:
    before = lock_text(workspace)
    assert run_fake(workspace, "train@001", force=True).status == "ran"
    assert lock_text(workspace) == before


def test_changed_settings_make_only_their_stages_stale(workspace: Workspace) -> None:
    assert is_up_to_date(workspace, "evaluate@001")
    freeze(workspace, 1, seed=2)
    assert is_up_to_date(workspace, "evaluate@000")
    assert not is_up_to_date(workspace, "sample@001")
    assert statuses(workspace) == {
        **dict.fromkeys(("problems", "base", "evaluate@000"), "unchanged"),
        **{a: "ran" for a in addresses() if a.endswith("001")},
    }


def test_a_further_iteration_leaves_the_earlier_ones_alone(workspace: Workspace) -> None:
    freeze(workspace, 2, seed=1)
    list_iterations(workspace, 2)
    assert set(statuses(workspace).values()) == {"unchanged"}
    assert run_fake(workspace, "sample@002").status == "ran"


def test_works_from_another_folder(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lock_text(workspace)
    monkeypatch.chdir(tmp_path)
    assert run_fake(workspace, "sample@001", force=True).status == "ran"
    assert lock_text(workspace) == before
    assert Path.cwd() == tmp_path


def test_works_through_a_symbolic_link(workspace: Workspace, tmp_path: Path) -> None:
    before = lock_text(workspace)
    (tmp_path / "link").symlink_to(workspace.root)
    linked = Workspace(tmp_path / "link")
    assert run_fake(linked, "sample@001", force=True).status == "ran"
    assert run_fake(workspace, "sample@001").status == "unchanged"
    assert lock_text(workspace) == before


def test_refuses_while_an_earlier_stage_is_stale(workspace: Workspace) -> None:
    before = lock_text(workspace)
    freeze(workspace, 1, seed=2)
    with pytest.raises(
        LineageError, match=r"sample@001, which is not up to date: settings .*seed: 1"
    ):
        run_fake(workspace, "train@001", force=True)
    assert not is_up_to_date(workspace, "evaluate@001")
    run_fake(workspace, "sample@001")
    with pytest.raises(LineageError, match=r"consult@001, which is not up to date: .*seed: 1"):
        run_fake(workspace, "evaluate@001")
    freeze(workspace, 1, seed=1)
    with pytest.raises(LineageError, match=r"sample@001, which is not up to date"):
        run_fake(workspace, "consult@001")
    assert run_fake(workspace, "sample@001").status == "restored"
    assert lock_text(workspace) == before


def test_refuses_when_an_earlier_stage_never_ran(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(LineageError, match=r"train@001 builds on problems.* it never ran"):
        run_fake(workspace, "train@001")


def test_refuses_when_the_command_of_an_earlier_stage_changed(workspace: Workspace) -> None:
    path = workspace.root / "dvc.yaml"
    path.write_text(
        path.read_text().replace("distil_tasks.sample ", "distil_tasks.sample --other ")
    )
    with pytest.raises(LineageError, match=r"sample@001, which .* command or paths"):
        run_fake(workspace, "train@001")


def test_refuses_a_missing_or_foreign_dependency(workspace: Workspace) -> None:
    policy = workspace.policy_dir(1)
    shutil.rmtree(policy)
    with pytest.raises(LineageError, match=r"policy, which is missing: .*dvc checkout"):
        run_fake(workspace, "evaluate@001")
    assert workspace.metrics_file(1).exists()
    policy.mkdir()
    (policy / "part-0").write_text("somebody's own")
    with pytest.raises(LineageError, match=r"as train@001 recorded it .* on disk is another"):
        run_fake(workspace, "evaluate@001")
    dvc(workspace.root, "checkout", "--force", "data/iterations/001/policy")
    assert run_fake(workspace, "evaluate@001").status == "unchanged"


def test_missing_settings_are_named(workspace: Workspace) -> None:
    workspace.frozen_params_file(1).unlink()
    with pytest.raises(LineageError, match=r"iterations/001.yaml"):
        run_fake(workspace, "sample@001")
    with pytest.raises(LineageError, match=r"iterations/001.yaml"):
        run_fake(workspace, "train@001")


@pytest.mark.parametrize("error", [DataError("bad row"), KeyboardInterrupt(), OSError(5, "io")])
def test_a_body_that_raises_leaves_no_output_and_the_record(
    workspace: Workspace, error: BaseException
) -> None:
    before = lock_text(workspace)

    def body() -> None:
        workspace.train_curve_file(1).write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        run_stage(workspace, "train@001", body, force=True)
    assert caught.value is error
    assert not workspace.train_curve_file(1).exists()
    assert not workspace.policy_dir(1).exists()
    assert lock_text(workspace) == before
    assert run_stage(workspace, "train@001", fail_if_called).status == "restored"


def test_a_body_that_leaves_an_output_out_is_not_recorded(workspace: Workspace) -> None:
    before = lock_text(workspace)
    with pytest.raises(LineageError, match=r"train@001 ended without writing .*policy"):
        run_stage(
            workspace,
            "train@001",
            lambda: _write(workspace.train_curve_file(1), "step,loss\n"),
            force=True,
        )
    assert lock_text(workspace) == before
    assert not workspace.train_curve_file(1).exists()


def test_outputs_that_cannot_be_stored_are_kept_for_the_next_run(workspace: Workspace) -> None:
    before = lock_text(workspace)
    freeze(workspace, 1, seed=2)
    cache, aside = workspace.root / ".dvc/cache/files", workspace.root / ".dvc/cache/aside"
    cache.rename(aside)
    cache.write_text("in the way, as a full disk would be")
    with pytest.raises(LineageError, match=r"could not store(.|\n)*kept(.|\n)*run again"):
        run_fake(workspace, "sample@001")
    assert lock_text(workspace) == before
    cache.unlink()
    aside.rename(cache)
    assert run_stage(workspace, "sample@001", fail_if_called).status == "restored"
    assert "up to date" in dvc(workspace.root, "status", "sample@001")


def test_settings_edited_while_the_body_runs_are_not_recorded(workspace: Workspace) -> None:
    before = lock_text(workspace)

    def body() -> None:
        write_outputs(workspace.root, "sample@001")
        freeze(workspace, 1, seed=9)

    with pytest.raises(LineageError, match=r"iterations/001.yaml changed while sample@001 ran"):
        run_stage(workspace, "sample@001", body, force=True)
    assert lock_text(workspace) == before
    assert not workspace.rollouts_file(1).exists()


def test_a_second_process_at_the_same_stage_is_told_who_is_there(workspace: Workspace) -> None:
    before = lock_text(workspace)
    child = _start_held(workspace, "sample@001")
    with pytest.raises(LineageError, match=rf"sample@001 is busy(.|\n)*PID {child.pid}"):
        run_fake(workspace, "sample@001", force=True)
    with pytest.raises(LineageError, match=rf"consult@001 is busy(.|\n)*PID {child.pid}"):
        run_fake(workspace, "consult@001")
    # Reading the same policy is no conflict.
    assert run_fake(workspace, "evaluate@000", force=True).status == "ran"
    (workspace.scratch_dir / "go-on").touch()
    assert child.wait(timeout=30) == 0
    assert run_fake(workspace, "sample@001").status == "unchanged"
    assert lock_text(workspace) == before


def test_a_killed_process_leaves_the_stage_as_it_was_recorded(workspace: Workspace) -> None:
    before = lock_text(workspace)
    child = _start_held(workspace, "sample@001")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert str(child.pid) in (workspace.root / ".dvc/tmp/rwlock").read_text()
    assert lock_text(workspace) == before
    assert run_stage(workspace, "sample@001", fail_if_called).status == "restored"
    assert run_fake(workspace, "sample@001", force=True).status == "ran"
    assert "write" not in json.loads((workspace.root / ".dvc/tmp/rwlock").read_text())
    assert "up to date" in dvc(workspace.root, "status")


def test_two_threads_take_turns(workspace: Workspace) -> None:
    freeze(workspace, 1, seed=2)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(run_fake(workspace, "sample@001").status))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["ran", "unchanged", "unchanged"]


def test_another_commands_bookkeeping_is_waited_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dvc.lock
    import zc.lockfile

    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.1)
    monkeypatch.setattr(dvc_session, "LOCK_TIMEOUT_S", 0.0)
    held = []

    def body() -> None:
        write_outputs(workspace.root, "sample@001")
        held.append(zc.lockfile.LockFile(str(workspace.root / ".dvc/tmp/lock")))
        threading.Timer(0.5, held[0].close).start()

    assert run_stage(workspace, "sample@001", body, force=True).status == "ran"
    with zc_lock(workspace), pytest.raises(LineageError, match="sample@001 is busy"):
        run_fake(workspace, "sample@001")


def zc_lock(workspace: Workspace):  # type: ignore[no-untyped-def]
    """DVC's repository lock, held by somebody else."""
    import contextlib

    import zc.lockfile

    return contextlib.closing(zc.lockfile.LockFile(str(workspace.root / ".dvc/tmp/lock")))


def test_an_unknown_iteration_is_told(workspace: Workspace) -> None:
    with pytest.raises(LineageError, match=r"no stage sample@002: .* `distil extend`"):
        run_fake(workspace, "sample@002")


def test_missing_repositories_are_told(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=r"no \.dvc folder"):
        run_stage(Workspace(tmp_path), "problems", fail_if_called)
    workspace = make_workspace(tmp_path / "inner")
    shutil.rmtree(workspace.root / ".git")
    with pytest.raises(LineageError, match="is no git repository"):
        run_fake(workspace, "problems")


def test_an_ignored_lock_file_is_told(workspace: Workspace) -> None:
    with (workspace.root / ".gitignore").open("a") as ignored:
        ignored.write("*.lock\n")
    with pytest.raises(LineageError, match=r"dvc.lock' is git-ignored.*check-ignore"):
        run_fake(workspace, "sample@001")


@pytest.mark.parametrize("left", ["", '{"write": {"/a', '{"write": 1}'])
def test_a_list_of_busy_paths_cut_by_a_kill_starts_anew(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, left: str
) -> None:
    rwlock = workspace.root / ".dvc/tmp/rwlock"
    rwlock.write_text(left)
    run_fake(workspace, "sample@001", force=True)
    assert json.loads(rwlock.read_text()) == {}
    assert "busy paths" in caplog.text


def test_a_damaged_lock_file_is_told(workspace: Workspace) -> None:
    lock = workspace.root / "dvc.lock"
    lock.write_text("<<<<<<< ours\n" + lock.read_text())
    with pytest.raises(LineageError, match=r"dvc.lock"):
        run_fake(workspace, "sample@001")
    with pytest.raises(LineageError, match=r"merge conflict"):
        locked_outputs(workspace, "sample@001")
    assert workspace.rollouts_file(1).exists()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _start_held(workspace: Workspace, address: str) -> subprocess.Popen[bytes]:
    """Another process in the middle of the stage's body, until a file `go-on` appears."""
    script = f"""
import sys, time
from pathlib import Path
sys.path[:0] = [{str(PROJECT)!r}, {str(HELPERS)!r}]
from dvc_fake_stages import write_outputs
from distil_core.lineage.dvc.stage import run_stage
from distil_core.workspace import Workspace

workspace = Workspace(Path({str(workspace.root)!r}))

def body():
    workspace.rollouts_file(1).write_text("half of the ro")
    workspace.scratch_dir.mkdir()
    (workspace.scratch_dir / "in-body").touch()
    while not (workspace.scratch_dir / "go-on").exists():
        time.sleep(0.02)
    write_outputs(workspace.root, {address!r})

run_stage(workspace, {address!r}, body, force=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 300
    while not (workspace.scratch_dir / "in-body").exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child
