"""An execution trace: after each line, the variables that it changed."""

import reprlib
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType, ModuleType, TracebackType
from typing import Any

_REPR_CHARACTERS = 60
_MAX_EVENTS = 20_000


class Tracer:
    """Traces the lines of `file`: the first half of `num_lines` and the last half, as `line 3:
    total = 6`. The first half is sent at once, so that a program that never ends has a trace too. 0
    lines: none."""

    def __init__(self, file: str, num_lines: int, send: Callable[[list[str]], None]):
        self._file = file
        self._num_first = (num_lines + 1) // 2
        self._send = send
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=num_lines // 2)
        self._num_skipped = 0
        self._num_events = 0
        self._seen: dict[FrameType, tuple[int, dict[str, str]]] = {}
        self._raising: set[FrameType] = set()
        self._repr = reprlib.Repr()
        self._repr.maxstring = self._repr.maxother = self._repr.maxlong = _REPR_CHARACTERS

    def __enter__(self) -> None:
        if self._num_first:
            sys.settrace(self._call)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(None)
        if not self._num_first:
            return
        if len(self._first) < self._num_first:
            self._send(self._first)
        gap = [f"... {self._num_skipped} lines ..."] if self._num_skipped else []
        if self._last:
            self._send([*gap, *self._last])

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self._file or self._num_events > _MAX_EVENTS:
            return None
        self._seen[frame] = (frame.f_lineno, self._variables(frame))
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._num_events += 1
        if self._num_events > _MAX_EVENTS:
            # The rest runs at full speed: a trace must not turn a program into a slow one.
            sys.settrace(None)
            frame.f_trace = None
            return None
        line, before = self._seen.get(frame, (frame.f_lineno, {}))
        after = self._variables(frame)
        changed = [f"{name} = {text}" for name, text in after.items() if before.get(name) != text]
        if event == "exception":
            self._raising.add(frame)
        elif event == "line":
            self._raising.discard(frame)
        if event == "return" and frame in self._raising:
            # This is the return event of an exception that leaves the function.
            self._raising.discard(frame)
            self._seen.pop(frame, None)
        elif event == "return" and frame.f_code.co_name != "<module>":
            changed.append(f"{frame.f_code.co_name} returns {self._text(argument)}")
            self._seen.pop(frame, None)
        else:
            self._seen[frame] = (frame.f_lineno, after)
        if changed:
            self._add(f"line {line}: {', '.join(changed)}")
        return self._line

    def _add(self, text: str) -> None:
        text = text[: 4 * _REPR_CHARACTERS]
        if len(self._first) < self._num_first:
            self._first.append(text)
            if len(self._first) == self._num_first:
                self._send(self._first)
        elif self._last.maxlen:
            if len(self._last) == self._last.maxlen:
                self._num_skipped += 1
            self._last.append(text)
        else:
            self._num_skipped += 1

    def _variables(self, frame: FrameType) -> dict[str, str]:
        names = frame.f_locals
        if frame.f_code.co_name == "<module>":
            names = {
                name: value
                for name, value in names.items()
                if not (name.startswith("__") or callable(value) or isinstance(value, ModuleType))
            }
        return {name: self._text(value) for name, value in names.items() if name != "self"}

    def _text(self, value: Any) -> str:
        try:
            return self._repr.repr(value)
        except Exception as error:
            return f"<its repr raised {type(error).__name__}>"
