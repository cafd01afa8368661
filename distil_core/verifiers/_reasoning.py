"""Separate what a reasoning model thinks from its answer."""

import re

_TAGS = ("think", "thinking", "thought", "seed:think")
_OPENING = re.compile(rf"<(?:{'|'.join(_TAGS)})>|\[THINK\]|<\|begin_of_thought\|>", re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{'|'.join(_TAGS)})>|\[/THINK\]|<\|end_of_thought\|>", re.IGNORECASE)


def without_reasoning(response: str) -> str:
    """The response after the end of its last thought; '' where a thought begins and never ends.

    The opening tag may be missing, since many chat templates write it into the prompt. A response
    without thoughts is returned unchanged.
    """
    last_end = 0
    for closing in _CLOSING.finditer(response):
        last_end = closing.end()
    unclosed = _OPENING.search(response, last_end)
    return response[last_end : unclosed.start() if unclosed else None]
