"""How much of a campaign's tables its report reads (1 s)."""

import json
from pathlib import Path

import pytest

from distil_core.report.gather import _rollouts_read
from distil_core.workspace import Workspace


@pytest.mark.parametrize(("num_bytes", "read"), [(10**6, 512), (10**8 + 1, 64)])
def test_a_large_policy_reads_fewer_rollouts(tmp_path: Path, num_bytes: int, read: int) -> None:
    workspace = Workspace(tmp_path)
    workspace.policy_dir(0).mkdir(parents=True)
    names = ["model-0.safetensors", "model-1.safetensors"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (workspace.policy_dir(0) / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in names:
        with (workspace.policy_dir(0) / name).open("wb") as file:
            file.truncate(-(-num_bytes // 2))  # sparse: nothing is written
    assert _rollouts_read(workspace) == read
