"""An exception as data: its class, its message, and the lines of one file it passed through."""

import linecache
from types import TracebackType
from typing import Any

_MESSAGE_CHARACTERS = 500
_NUM_FRAMES = 8


def describe_exception(error: BaseException, file: str) -> dict[str, Any]:
    """The exception as a dictionary. `lines` holds (line, function, source line) of each frame in
    `file`, the innermost last."""
    frames = _frames(error.__traceback__, file)
    if isinstance(error, SyntaxError) and error.filename == file:
        frames.append([error.lineno or 0, "<module>", (error.text or "").strip()])
    if len(frames) > _NUM_FRAMES:
        half = _NUM_FRAMES // 2
        frames = frames[:half] + frames[-half:]
    message = error.msg if isinstance(error, SyntaxError) else _message(error)
    return {
        "type": type(error).__name__[:100],
        "message": str(message)[:_MESSAGE_CHARACTERS],
        "lines": frames,
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"<its __str__ raised {type(second).__name__}>"


def _frames(traceback: TracebackType | None, file: str) -> list[list[Any]]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == file:
            line = linecache.getline(file, traceback.tb_lineno).strip()
            frames.append([traceback.tb_lineno, code.co_name, line[:200]])
            if len(frames) > 4 * _NUM_FRAMES:
                del frames[_NUM_FRAMES:-_NUM_FRAMES]
        traceback = traceback.tb_next
    return frames
