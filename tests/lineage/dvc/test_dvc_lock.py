"""dvc.lock written as DVC writes it, and read without DVC (3 s on one core)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml
from dvc_scratch import addresses, freeze, make_workspace, run_fake
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from distil_core.errors import ConfigError, LineageError
from distil_core.lineage.dvc.lock import (
    _parse_entry,
    lock_digest,
    locked_dependencies,
    locked_outputs,
    parse_entries,
    read_entries,
    with_entry,
    write_entry,
)
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace

# Not any float: of those with an exponent and all 16 digits DVC may change the last one when it
# rewrites a file (5.356778948486065e+16). An entry left alone here keeps its digits.
floats = st.floats(1e-3, 1e9) | st.sampled_from([0.0, -0.0, 1e-05, 2.5e-07, 1e16, 1e300])
scalars = st.one_of(st.none(), st.booleans(), st.integers(), floats, st.text(max_size=120))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), inner, max_size=3),
    ),
    max_leaves=8,
)
stage_names = st.sampled_from(["problems", "train@001", "train@0011", "ain@001", "train@010"])


def entry(params: Any) -> dict[str, Any]:
    def item(path: str) -> dict[str, Any]:
        return {"path": path, "hash": "md5", "md5": "a" * 32, "size": 1}

    recorded = {"deps": [item("data/x")], "params": {"p.yaml": params}, "outs": [item("data/y")]}
    return {"cmd": "python -m x", **recorded}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(stage_names, st.dictionaries(st.just("key"), values)), max_size=5))
def test_the_file_has_the_bytes_dvc_would_write(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, Any]]
) -> None:
    theirs = tmp_path_factory.mktemp("lock") / "dvc.lock"
    ours = ""
    for address, params in writes:
        with modify_yaml(theirs) as contents:
            contents.setdefault("schema", "2.0")
            contents.setdefault("stages", {}).update({address: entry(params)})
        ours = with_entry(ours, address, entry(params))
        assert ours == theirs.read_text(encoding="utf-8")
        assert parse_entries(ours, "x") == YAML(typ="safe").load(ours)["stages"]


def test_reading_needs_to_parse_only_what_is_new() -> None:
    text = ""
    for number in range(20):
        text = with_entry(text, f"train@{number:03d}", entry({"key": number}))
    parse_entries(text, "x")
    before = _parse_entry.cache_info().misses
    changed = with_entry(text, "train@007", entry({"key": "new"}))
    assert parse_entries(changed, "x")["train@007"]["params"] == {"p.yaml": {"key": "new"}}
    assert _parse_entry.cache_info().misses == before + 1


def test_entries_that_refer_to_each_other_are_read_as_one() -> None:
    text = with_entry("", "train@001", entry({}))
    shared = "      md5: &shared " + "a" * 32
    text = text.replace("      md5: " + "a" * 32, shared, 1)
    text += (
        "  train@002:\n    cmd: x\n    outs:\n    - path: y\n      size: 1\n      md5: *shared\n"
    )
    assert parse_entries(text, "x")["train@002"]["outs"][0]["md5"] == "a" * 32


@pytest.mark.parametrize(
    "damage", [("    cmd: python -m x\n", ""), ("size: 1", "size: big"), ("md5: aa", "md6: aa")]
)
def test_a_damaged_entry_is_named(damage: tuple[str, str]) -> None:
    text = with_entry("", "train@001", entry({}))
    assert damage[0] in text
    with pytest.raises(LineageError, match=r"train@001 is damaged.*git checkout dvc\.lock"):
        parse_entries(text.replace(*damage), "x")


def test_a_file_with_more_than_stages_keeps_it() -> None:
    text = "# mine\nschema: '2.0'\nstages: {}\ndatasets:\n- name: x\n"
    written = with_entry(text, "problems", entry({}))
    assert written.startswith("# mine\n")
    assert "datasets:\n- name: x\n" in written
    assert "  problems:\n    cmd: python -m x\n" in written


def test_an_unchanged_entry_leaves_the_file_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert write_entry(workspace, "problems", entry({"rate": 1e-05}))
    written_ns = (tmp_path / "dvc.lock").stat().st_mtime_ns
    assert not write_entry(workspace, "problems", entry({"rate": 1e-05}))
    assert (tmp_path / "dvc.lock").stat().st_mtime_ns == written_ns
    assert read_entries(workspace)["problems"]["params"]["p.yaml"] == {"rate": 1e-05}


def test_stage_addresses_are_in_order_of_execution() -> None:
    assert stage_addresses(0) == ["problems", "base", "evaluate@000"]
    assert stage_addresses(12) == [
        *("sample@012", "consult@012", "tabulate@012", "train@012", "evaluate@012", "gate@012"),
    ]
    with pytest.raises(ConfigError):
        stage_addresses(1000)


def as_first_recorded(recorded: dict[str, Any]) -> dict[str, Any]:
    """Entries had no such dependency once, and stages other names: their digest is of then."""
    deps = [item for item in recorded["deps"] if item["path"] != "code/built_in.txt"]
    others = {key: value for key, value in recorded.items() if key != "deps"}
    others["cmd"] = others["cmd"].replace("distil_tasks.", "tasks.")
    return others | ({"deps": deps} if deps else {})


def test_a_recorded_campaign_can_be_read(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, num_iterations=2)
    with pytest.raises(LineageError, match=r"never recorded here.*dvc repro sample@001"):
        lock_digest(workspace, 1)
    outputs = {address: run_fake(workspace, address).outputs for address in addresses(2)}
    for address in addresses(2):
        locked = locked_outputs(workspace, address)
        assert {path: artifact.md5 for path, artifact in locked.items()} == outputs[address]
        assert all(artifact.size_bytes > 0 for artifact in locked.values())
    read = locked_dependencies(workspace, "train@002")
    assert set(read) == {
        "code/built_in.txt",
        "data/iterations/002/feedback",
        "data/iterations/001/handover",
    }
    assert read["data/iterations/001/handover"].md5.endswith(".dir")

    digests = [lock_digest(workspace, iteration) for iteration in (0, 1, 2)]
    assert len(set(digests)) == 3
    # What MLflow and snapshots have recorded must stay valid: the digest of this very text.
    entries = read_entries(workspace)
    for iteration in (0, 2):
        included = {a: as_first_recorded(entries[a]) for a in addresses(iteration)}
        text = json.dumps(included, sort_keys=True, separators=(",", ":"))
        assert digests[iteration] == hashlib.sha256(text.encode()).hexdigest()
    freeze(workspace, 2, seed=2)
    run_fake(workspace, "sample@002")
    assert [lock_digest(workspace, iteration) for iteration in (0, 1)] == digests[:2]
    assert lock_digest(workspace, 2) != digests[2]
    freeze(workspace, 2, seed=1)
    run_fake(workspace, "sample@002")
    assert lock_digest(workspace, 2) == digests[2]
