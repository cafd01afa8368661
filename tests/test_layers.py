"""The layers of the code, as pyproject.toml has them for import-linter. 3 s."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def test_layers_are_kept() -> None:
    done = _lint_imports(PROJECT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("distil_core/seeds.py", "import prefect", "Prefect stays in flows"),
        ("distil_core/seeds.py", "import distil_tasks.stage", "flows build on tasks"),
        ("tasks/sample.py", "import mlflow", "DVC stays in its _internals.py"),
        ("distil_core/config/models.py", "import distil_core.experts", "rooms of distil_core"),
        ("distil_core/policy/model.py", "import distil_core.training.trainer", "rooms of"),
        ("distil_core/feedback/compose.py", "import distil_core.experts.base", "rooms of"),
        ("distil_core/lineage/dvc/stage.py", "import dvc.repo", "DVC stays in its _internals.py"),
        ("distil_core/lineage/git.py", "import distil_core.lineage.dvc", "wings of distil_core.l"),
        ("distil_core/lineage/snapshot/take.py", "import distil_core.lineage.evidence", "wings of"),
        ("flows/stages.py", "import vllm", "vLLM stays in distil_core.engines.vllm"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for name in ("flows", "tasks", "distil_core"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "src", tmp_path / "src", symlinks=True)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = _lint_imports(tmp_path)
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout


def _lint_imports(root: Path) -> "subprocess.CompletedProcess[str]":
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
