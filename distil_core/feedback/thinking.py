"""Leave out what a model wrote for itself: the `<think>..</think>` parts of a response."""

import re

_OPENED, _CLOSED = "<think>", "</think>"
_PART = re.compile(rf"{_OPENED}.*?{_CLOSED}\s*", re.DOTALL)


def without_thinking(text: str) -> str:
    """The text without its parts in `<think>..</think>` and the blanks after them.

    What stands before a `</think>` alone is such a part too, as a prompt may have opened it; so is
    what follows a `<think>` that is never closed, where the response was cut. A text without these
    marks stays as it is.
    """
    if _OPENED not in text and _CLOSED not in text:
        return text
    rest = _PART.sub("", text)
    return rest.rpartition(_CLOSED)[2].partition(_OPENED)[0].lstrip()
