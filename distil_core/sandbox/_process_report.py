"""What a program's process reports besides answers: exceptions and traces, checked to be text."""

from typing import Any

from distil_core.sandbox._child import Child, ProcessEnded
from distil_core.sandbox.results import CandidateException

_MAX_TRACE_MESSAGES = 2
_MAX_TRACE_LINES = 1000
_LINE_CHARACTERS = 300
_MESSAGE_CHARACTERS = 500
_NAME_CHARACTERS = 100
_MAX_LINE = 10_000_000
_NUM_FRAMES = 8


class ProcessReport:
    """The exception and the trace of one run or call."""

    def __init__(self, traced: bool = False):
        self.exception: CandidateException | None = None
        self.compiled = True
        self.preamble_exception: CandidateException | None = None
        self.trace: list[str] = []
        self._num_trace_messages = 0 if traced else _MAX_TRACE_MESSAGES

    def read_preparation(self, child: Child) -> None:
        """Read how the code before the program ended, before a line of the program has run.
        Raises `ProcessEnded` where the program will not run."""
        try:
            message = child.receive()
        except ProcessEnded as end:
            ended = f"it ended its process ({end.ending})"
            self.preamble_exception = CandidateException("SystemExit", ended)
            raise
        if message.get("prepared") is not True:
            self.preamble_exception = read_exception(message.get("exception"))
            raise ProcessEnded("exited")

    def add(self, message: dict[str, Any]) -> bool:
        """Store the exception or trace that `message` holds. Returns True for a trace, after which
        the answer is still to come. Raises `ProcessEnded` with 'violation' for a message that no
        honest process sends."""
        if "trace" in message:
            self._num_trace_messages += 1
            lines = message["trace"]
            if self._num_trace_messages > _MAX_TRACE_MESSAGES or not _texts(lines):
                raise ProcessEnded("violation")
            self.trace += [readable(line, _LINE_CHARACTERS) for line in lines[:_MAX_TRACE_LINES]]
            return True
        if "exception" in message:
            self.exception = read_exception(message["exception"])
            self.compiled = message.get("compiled") is not False
        return False


def read_exception(content: Any) -> CandidateException:
    """The exception in a message. Raises `ProcessEnded` with 'violation' where `content` is not
    one."""
    try:
        kind, message, frames = content["type"], content["message"], content["lines"]
        lines = tuple((line, function, text) for line, function, text in frames[:_NUM_FRAMES])
    except (TypeError, KeyError, ValueError) as error:
        raise ProcessEnded("violation") from error
    texts = [kind, message, *(part for _, *two in lines for part in two)]
    numbers = [line for line, _, _ in lines]
    if not _texts(texts) or not all(type(n) is int and 0 <= n < _MAX_LINE for n in numbers):
        raise ProcessEnded("violation")
    return CandidateException(
        readable(kind, _NAME_CHARACTERS),
        readable(message, _MESSAGE_CHARACTERS),
        tuple(
            (line, readable(function, _NAME_CHARACTERS), readable(text, _LINE_CHARACTERS))
            for line, function, text in lines
        ),
    )


def readable(text: str, max_characters: int) -> str:
    """`text` shortened and as valid UTF-8: feedback is stored as UTF-8, which has no lone
    surrogates."""
    return text[:max_characters].encode("utf-8", "backslashreplace").decode("utf-8")


def _texts(values: Any) -> bool:
    return type(values) is list and all(type(value) is str for value in values)
