"""Parse and check the answers of OpenAI-compatible endpoints."""

from collections.abc import Callable
from typing import Any

from distil_core.experts.response_record import Completion


def read_text(answer: Any) -> Completion:
    """The completion in an answer of /completions. Raises `ValueError` for a malformed answer."""
    return _completion(answer, lambda choice: choice["text"])


def read_message(answer: Any) -> Completion:
    """The completion in an answer of /chat/completions. Raises `ValueError` for a malformed
    answer."""
    return _completion(answer, lambda choice: choice["message"]["content"])


def _completion(answer: Any, text_of: Callable[[Any], Any]) -> Completion:
    try:
        choice = answer["choices"][0]
        text, reason = text_of(choice), choice["finish_reason"]
        tokens = (answer.get("usage") or {}).get("total_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    # A negative count would refund part of the budget.
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise ValueError(f"usage.total_tokens is {tokens!r}")
    if reason == "content_filter" or (text is None and reason in ("stop", "length")):
        return Completion(None, "refused", tokens)
    if not isinstance(text, str) or reason not in ("stop", "length"):
        raise ValueError(f"expected text that ended by 'stop' or 'length', found {reason!r}")
    return Completion(text, reason, tokens)
