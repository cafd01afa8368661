"""Canaries: what `distil_core/lineage/dvc/_internals.py` rests on is so in the installed DVC.

The other way round, each is asked of DVC's command line where that shows it. About 40 s.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dvc_fake_stages import write_outputs
from dvc_scratch import addresses, dvc, freeze, git, make_workspace

from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import read_entries
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Every stage recorded by DVC's command line, not by ours; tests copy it."""
    workspace = make_workspace(tmp_path_factory.mktemp("finished"))
    dvc(workspace.root, "repro")
    return workspace


@pytest.fixture
def root(finished: Workspace, tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "copy"
    shutil.copytree(finished.root, root, symlinks=True)
    with chdir(root):
        yield root


@contextmanager
def locked(root: Path) -> Iterator[Any]:
    with _internals.open_repo(root) as repo:
        _internals.lock(repo)
        try:
            yield repo
        finally:
            _internals.unlock(repo)


def lock_entries(root: Path) -> dict[str, Any]:
    # Read anew each time: a test may change what it got.
    return deepcopy(read_entries(Workspace(root)))


def test_names_of_the_loggers() -> None:
    from dvc import progress
    from dvc.stage import cache

    _internals.quiet()
    assert cache.logger.name == "dvc.stage.cache"
    assert not cache.logger.isEnabledFor(logging.INFO)
    assert progress.logger.name == "dvc.progress"
    assert progress.Tqdm(total=1, file=sys.stderr).disable


def test_yaml_has_the_bytes_that_dvc_writes(root: Path) -> None:
    text = (root / "dvc.lock").read_text()
    contents = _internals.parse_yaml_for_update(text, "dvc.lock")
    assert _internals.dumps_yaml(contents) == text
    plain = {"schema": "2.0", "stages": lock_entries(root)}
    assert _internals.dumps_yaml(plain) == text


def test_yaml_is_of_version_1_2() -> None:
    assert _internals.parse_yaml("a: 1e-05\nb: no\n", "x") == {"a": 1e-05, "b": "no"}


def test_configuration_of_all_levels_and_of_the_repository_alone(tmp_path: Path) -> None:
    nothing = _internals.read_config(tmp_path / ".dvc")
    assert not nothing["core"].get("remote")
    assert nothing["remote"] == {}
    assert "cache" in nothing
    folder = tmp_path / ".dvc"
    folder.mkdir()
    (folder / "config").write_text("['remote \"there\"']\n    url = ../store\n")
    (folder / "config.local").write_text("[core]\n    remote = there\n")
    config = _internals.read_config(folder)
    assert config["core"]["remote"] == "there"
    assert Path(str(config["remote"]["there"]["url"])) == tmp_path / "store"
    committed = _internals.read_committed_config(folder)
    assert committed["remote"]["there"]["url"] == "../store"
    assert not committed.get("core", {}).get("remote")
    (folder / "config").write_text("[nonsense]\n    a = b\n")
    for read in (_internals.read_config, _internals.read_committed_config):
        with pytest.raises(_internals.config_error()):
            read(folder)


def test_push_checkout_and_pull_with_a_configuration_in_memory(root: Path, tmp_path: Path) -> None:
    before = (root / ".dvc/config").read_text()
    store = {"remote": {"there": {"url": str(tmp_path / "store")}}, "core": {"remote": "there"}}
    policy = "data/iterations/001/policy"
    recorded = content_md5(root / policy)
    with _internals.open_repo(root, store) as repo:
        assert _internals.push(repo, ["train@001"]) > 0
        assert _internals.push(repo, ["train@001"]) == 0
        (root / policy / "part-0").write_text("other")
        assert _internals.checkout(repo, [policy])
        assert content_md5(root / policy) == recorded
        shutil.rmtree(root / ".dvc/cache/files")
        shutil.rmtree(root / policy)
        assert not _internals.checkout(repo, [policy])
        _internals.pull(repo, [policy])
    assert content_md5(root / policy) == recorded
    assert (root / ".dvc/config").read_text() == before


def test_a_lock_that_another_has_is_refused(root: Path) -> None:
    with locked(root), _internals.open_repo(root) as second:
        with pytest.raises(_internals.lock_error()) as raised:
            _internals.lock(second)
        assert _internals.refusal(raised.value) == "busy"
        assert isinstance(raised.value, _internals.error())
        _internals.unlock(second)
    with locked(root):
        pass


@pytest.mark.parametrize(
    ("address", "spoil", "reason"),
    [
        ("train@007", lambda root: None, "no stage"),
        ("train@001", lambda root: (root / "dvc.yaml").unlink(), "no pipeline"),
        (
            "train@001",
            lambda root: (root / ".gitignore").write_text("dvc.lock\n"),
            "ignored by git",
        ),
        ("train@001", lambda root: shutil.rmtree(root / ".git"), "no git"),
    ],
)
def test_reasons_for_a_refusal(root: Path, address: str, spoil: Any, reason: str) -> None:
    spoil(root)
    with pytest.raises(_internals.error()) as raised, locked(root) as repo:
        _internals.load_stage(repo, address, lock_entries(root))
    assert _internals.refusal(raised.value) == reason
    assert _internals.refusal(ValueError()) is None


def test_what_was_read_is_forgotten(root: Path) -> None:
    with locked(root) as repo:
        known = repo.index
        assert repo.index is known
        _internals.reset(repo)
        assert repo.index is not known


def test_busy_paths_exclude_other_processes_and_not_this_one(root: Path) -> None:
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "train@001")
        with _internals.exclusive(stage):
            busy = json.loads((root / ".dvc/tmp/rwlock").read_text())
            policy = busy["write"][str(root / "data/iterations/001/policy")]
            assert policy["pid"] == os.getpid()
            # DVC's own methods lock the same paths again.
            assert _internals.restore(stage)
            _internals.unlock(repo)
            other = subprocess.run(
                [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "train@001"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert other.returncode != 0
            assert f"(PID {os.getpid()})" in other.stderr
            _internals.lock(repo)
        assert not any(json.loads((root / ".dvc/tmp/rwlock").read_text()).values())


def test_a_damaged_list_of_busy_paths(root: Path) -> None:
    path = root / ".dvc/tmp/rwlock"
    with locked(root) as repo:
        for text in ('{"half of', "[1]"):
            path.write_text(text)
            damaged = _internals.damaged_busy_paths(repo)
            assert damaged is not None
            assert damaged.samefile(path)
        path.write_text("{}")
        assert _internals.damaged_busy_paths(repo) is None
        path.unlink()
        assert _internals.damaged_busy_paths(repo) is None


@pytest.mark.parametrize("autostage", [True, False])
def test_tracked_files_are_staged_where_the_user_wants_that(root: Path, autostage: bool) -> None:
    dvc(root, "config", "core.autostage", str(autostage).lower())
    git(root, "add", "-A")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "all")
    with locked(root) as repo, _internals.staged_in_git(repo):
        (root / "dvc.lock").write_text((root / "dvc.lock").read_text() + "\n")
        _internals.track(repo, root / "dvc.lock")
    assert git(root, "diff", "--cached", "--name-only").split() == ["dvc.lock"] * autostage


def test_a_stage_is_filled_with_the_entries_that_it_is_given(root: Path) -> None:
    entries = lock_entries(root)
    entries["train@001"]["outs"][0]["md5"] = "0" * 32
    with locked(root) as repo:
        given = _internals.load_stage(repo, "train@001", entries)
        own = _internals.load_stage(repo, "train@001")
        assert _internals.recorded_entries(given) == entries
        assert "0" * 32 in [item.noted_digest for item in _internals.outputs(given)]
        recorded = lock_entries(root)["train@001"]["outs"]
        assert [item.noted_digest for item in _internals.outputs(own)] == [
            output["md5"] for output in recorded
        ]
        beside = _internals.stage_beside(given, "train@001")
        assert beside is not given
        assert beside.cmd == given.cmd


def test_the_pipeline_as_it_is_resolved(root: Path) -> None:
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "train@001")
        assert _internals.files_of_variables(stage) == ["iterations.yaml"]
        resolved = _internals.resolved_stages(stage)
    assert sorted(resolved) == sorted(addresses())
    train = resolved["train@001"]
    assert train["cmd"] == "python -m distil_tasks.train --iteration 001"
    assert "data/policy-000" in train["deps"]
    assert "data/iterations/001/policy" in train["outs"]


def test_dependencies_and_outputs(root: Path) -> None:
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "consult@001")
        read = {item.path: item for item in _internals.dependencies(stage)}
        (written,) = _internals.outputs(stage)
        recorded = lock_entries(root)["consult@001"]
        assert {item["path"] for item in recorded["deps"]} | {"iterations/001.yaml"} == set(read)
        rollouts = read["data/iterations/001/rollouts.parquet"]
        assert rollouts.exists
        assert rollouts.digest() == content_md5(root / rollouts.path)
        assert "seed" in read["iterations/001.yaml"].digest()
        assert written.path == "data/iterations/001/consultations.parquet"
        assert written.noted_digest == recorded["outs"][0]["md5"]
        assert not written.changed_here()
        (root / written.path).write_text("another")
        assert written.changed_here()
        (root / written.path).unlink()
        assert not written.exists
        assert written.changed_here()


def test_command_and_frozen_stages(root: Path) -> None:
    file = root / "dvc.yaml"
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "problems")
        assert not _internals.is_command_changed(stage)
        assert not _internals.is_frozen(stage)
    text = file.read_text()
    frozen = "cmd: python -m distil_tasks.problems --other\n    frozen: true"
    file.write_text(text.replace("cmd: python -m distil_tasks.problems", frozen, 1))
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "problems")
        assert _internals.is_command_changed(stage)
        assert _internals.is_frozen(stage)


def test_changed_and_removed(root: Path) -> None:
    file = root / "dvc.yaml"
    kept = "${key}/rollouts.parquet:\n            persist: true"
    text = file.read_text()
    outs = text.index("outs:", text.index("distil_tasks.sample"))
    file.write_text(text[:outs] + text[outs:].replace("${key}/rollouts.parquet", kept, 1))
    rollouts = root / "data/iterations/001/rollouts.parquet"
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "sample@001")
        assert not _internals.is_changed(stage)
        (output,) = _internals.outputs(stage)
        assert output.noted_digest == content_md5(rollouts)
        rollouts.write_text("another")
        assert _internals.is_changed(_internals.load_stage(repo, "sample@001"))
        _internals.remove_outputs(stage)
        assert rollouts.read_text() == "another"
        consult = _internals.load_stage(repo, "consult@001")
        _internals.remove_outputs(consult)
        assert not (root / "data/iterations/001/consultations.parquet").exists()


def test_run_cache(root: Path) -> None:
    """DVC restores a run with the same inputs, and with others has none to restore."""
    rollouts = root / "data/iterations/001/rollouts.parquet"
    before = rollouts.read_bytes()
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "sample@001")
        noted = _internals.noted_run(stage)
        assert noted is not None
        assert noted["outs"] == lock_entries(root)["sample@001"]["outs"]
        _internals.remove_outputs(stage)
        assert _internals.restore(stage)
        assert rollouts.read_bytes() == before
    freeze(Workspace(root), 1, seed=2)
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "sample@001")
        assert _internals.noted_run(stage) is None
        _internals.remove_outputs(stage)
        assert not _internals.restore(stage)
        assert not rollouts.exists()


def test_stored_and_recorded_as_dvc_does(root: Path, tmp_path: Path) -> None:
    """The entry is what DVC's command line writes for the same run elsewhere."""
    other = tmp_path / "other"
    shutil.copytree(root, other, symlinks=True)
    for workspace in (root, other):
        freeze(Workspace(workspace), 1, seed=2)
    dvc(other, "repro", "--single-item", "sample@001")
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "sample@001")
        with _internals.exclusive(stage):
            _internals.remove_outputs(stage)
            assert not _internals.restore(stage)
            write_outputs(root, "sample@001")
            assert _internals.store(stage)
            entry = _internals.lock_entry(stage)
    assert _internals.dumps_yaml({"sample@001": entry}) == _internals.dumps_yaml(
        {"sample@001": lock_entries(other)["sample@001"]}
    )


def test_what_could_not_be_stored_is_noted_all_the_same(root: Path) -> None:
    freeze(Workspace(root), 1, seed=2)
    with locked(root) as repo:
        stage = _internals.load_stage(repo, "sample@001")
        with _internals.exclusive(stage):
            write_outputs(root, "sample@001")
            cache = root / ".dvc/cache/files"
            shutil.rmtree(cache)
            cache.write_text("in the way")
            try:
                stored = _internals.store(stage)
            except OSError:
                stored = False
            assert not stored
            noted = _internals.noted_run(stage)
    assert noted is not None
    assert noted["outs"][0]["md5"] == content_md5(root / "data/iterations/001/rollouts.parquet")
