"""Sandboxes to attack. Where bubblewrap is missing these tests are skipped, and say so."""

from collections.abc import Iterator

import pytest
from host_state import HostState

from distil_core.sandbox import Call, Limits, ProgramResult, Sandbox

# Small, so that a run into a limit is soon over; wall time is long for a loaded machine.
LIMITS = Limits(cpu_time_s=0.5, wall_time_s=20, memory_mb=400, disk_mb=4, output_kb=64)


@pytest.fixture(scope="session")
def warm_sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def cold_sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS, "bubblewrap_cold") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(warm_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The zygote mode. After each test the host is as before and the next program runs."""
    yield from _host_unchanged(warm_sandbox)


@pytest.fixture(params=["warm", "cold"])
def either_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One test for each mode that isolates."""
    yield from _host_unchanged(request.getfixturevalue(f"{request.param}_sandbox"))


def _host_unchanged(sandbox: Sandbox) -> Iterator[Sandbox]:
    assert_honest_runs(sandbox)
    before = HostState.now()
    yield sandbox
    before.check_unchanged()
    assert_honest_runs(sandbox)


def assert_honest_runs(sandbox: Sandbox) -> ProgramResult:
    """A program that has nothing to do with any attack gets its answer."""
    result = sandbox.run_calls("def triple(x):\n    return 3 * x", [Call("triple", (14,))])
    assert result.ending == "exited"
    assert result.calls[0].value == 42
    return result
