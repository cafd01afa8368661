"""The stage `consult` needs torch only where the policy judges itself."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "vllm", "mlflow", "prefect", "dvc", "math_verify", "sympy")


@pytest.mark.parametrize("stage", ["problems", "consult"])
def test_a_stage_without_a_model_starts_without_torch(stage: str) -> None:
    """Seconds of every start, retry and `dvc repro`, and hundreds of megabytes."""
    program = f"import sys, distil_tasks.{stage}; print(*sorted(set(sys.modules) & {set(HEAVY)}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


_RUN = """\
import sys
sys.path.insert(0, "tests/tasks")
from pathlib import Path
from distil_core.campaign.load import load_iteration_params
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import consult, stage
workspace = Workspace(Path(sys.argv[1]))
stage.run_body(consult.STAGE, workspace, 1)
print("torch" in sys.modules)
"""


def test_it_runs_without_torch(tmp_path: Path) -> None:
    """The whole stage, on real rollouts of a tiny campaign."""
    from test_train_killed import make_workspace

    workspace = make_workspace(tmp_path)
    written = workspace.consultations_file(1).read_bytes()
    workspace.consultations_file(1).unlink()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(workspace.root)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False"]
    assert workspace.consultations_file(1).read_bytes() == written
