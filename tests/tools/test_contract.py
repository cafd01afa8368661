"""Every tool of ours keeps the contract that others' are checked by."""

import pytest

from distil_core.testing import Check, tool_checks

CALL = '{"name": "calculator", "arguments": {"expression": "1"}}'
CALCULATOR = tool_checks("calculator", {}, [CALL])
PYTHON = tool_checks("python", {}, ['{"name": "python", "arguments": {"code": "x = 1\\nx"}}'])


@pytest.mark.parametrize("check", [*CALCULATOR, *PYTHON], ids=str)
def test_contract(check: Check) -> None:
    check()
