"""The results of running a program."""

from dataclasses import dataclass, field
from typing import Any, Literal

from distil_core.sandbox.inside.values import decode

Ending = Literal[
    "exited", "cpu_timeout", "wall_timeout", "output_limit", "answer_limit", "violation"
]
"""Why a program's process is no more. exited: by itself, with its exit code or signal. violation:
it broke the protocol (answered unasked, closed its channel, sent what is no message)."""


@dataclass(frozen=True)
class CandidateException:
    """An exception as the program's process reported it. lines: (line, function, source line)
    within the program, the innermost last."""

    type: str
    message: str
    lines: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a function of the program, or of `Class.method` on a new object. Arguments are
    plain data: None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, and
    the other types that inside/values.py encodes. is_encoded: the arguments are encoded trees
    already."""

    function: str
    arguments: Any = ()
    keywords: Any = field(default_factory=dict)
    is_encoded: bool = False


@dataclass(frozen=True)
class CallResult:
    """status: 'returned' (encoded: the answer, see inside/values.py), 'raised' (exception), how the
    process ended during the call, or 'not_run' where it had ended before."""

    status: Literal["returned", "raised", "not_run"] | Ending
    encoded: Any = None
    exception: CandidateException | None = None
    cpu_s: float = 0.0
    trace: tuple[str, ...] = ()

    @property
    def value(self) -> Any:
        """The returned value. Raises `NotPlainDataError` where it is not plain data."""
        return decode(self.encoded)


@dataclass(frozen=True)
class ProgramResult:
    """One run of a program. Only ending 'exited' with exit_code 0 is a success.

    exit_code: negative for a signal, None where the host ended the program. calls: for `run_calls`,
    one for each call asked for. exception: what loading or running the program raised. compiled:
    False where the exception came before the first line ran. preamble_exception: what the preamble
    raised, after which the program did not run. cpu_s, wall_s: measured by the host.
    """

    ending: Ending
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    cpu_s: float
    wall_s: float
    max_rss_mb: float
    isolation: str
    exception: CandidateException | None = None
    compiled: bool = True
    calls: tuple[CallResult, ...] = ()
    trace: tuple[str, ...] = ()
    preamble_exception: CandidateException | None = None
