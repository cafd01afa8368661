"""docs/architecture.svg is of the code as it is. 2 s."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_the_drawing_is_of_this_code() -> None:
    done = subprocess.run(
        [sys.executable, "docs/draw_architecture.py", "--check"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_import_runs_up() -> None:
    drawing = (PROJECT / "docs/architecture.svg").read_text(encoding="utf-8")
    assert "#c0392b" not in drawing
    assert drawing.count("<rect") > 20
