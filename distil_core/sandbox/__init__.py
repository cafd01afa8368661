"""Runs code that a model wrote, where it can do no harm and its results cannot be forged.

    with Sandbox(Limits(cpu_time_s=2)) as sandbox:
        result = sandbox.run_calls("def f(x): return 3*x+1", [Call("f", (2,))])
        result.calls[0].value  # 7
        sandbox.run_program("print(input()[::-1])", stdin="abc").stdout  # b"cba\\n"

A program is given one call at a time and never holds what is expected of it: comparing is the
host's, with `inside.values` keeping exact types.
"""

from distil_core.sandbox.inside.values import NotPlainDataError
from distil_core.sandbox.limits import Isolation, Limits
from distil_core.sandbox.results import Call, CallResult, CandidateException, ProgramResult
from distil_core.sandbox.sandbox import Sandbox, Session

__all__ = [
    "Call",
    "CallResult",
    "CandidateException",
    "Isolation",
    "Limits",
    "NotPlainDataError",
    "ProgramResult",
    "Sandbox",
    "Session",
]
