r"""Runs code that a model wrote, isolated from the host, with results that it cannot forge.

    with Sandbox(Limits(cpu_time_s=2)) as sandbox:
        result = sandbox.run_calls("def f(x): return 3*x+1", [Call("f", (2,))])
        result.calls[0].value  # 7
        sandbox.run_program("print(input()[::-1])", stdin="abc").stdout  # b"cba\n"

The program receives one call at a time and never the expected results: the host compares the
answers itself, with their exact types (`inside.values`).
"""

from distil_core.sandbox.cells import CellResult, CellSession
from distil_core.sandbox.inside.values import NotPlainDataError
from distil_core.sandbox.limits import Isolation, Limits
from distil_core.sandbox.results import Call, CallResult, CandidateException, ProgramResult
from distil_core.sandbox.sandbox import Sandbox, Session

__all__ = [
    "Call",
    "CallResult",
    "CandidateException",
    "CellResult",
    "CellSession",
    "Isolation",
    "Limits",
    "NotPlainDataError",
    "ProgramResult",
    "Sandbox",
    "Session",
]
