"""Real data that may lie beside the checkout; tests use it where it is and do not need it."""

import json
from pathlib import Path
from typing import Any

import pytest


def shared_rows(*names: str) -> list[dict[str, Any]]:
    """All rows of JSON Lines files under `shared/data`; skips the test where they are not there."""
    for folder in Path(__file__).resolve().parents:
        files = [folder / "shared" / "data" / name for name in names]
        if all(file.exists() for file in files):
            lines = [line for file in files for line in file.read_text("utf-8").split("\n")]
            return [json.loads(line) for line in lines if line]
    pytest.skip(f"shared/data/{names[0]} is not beside this checkout")
