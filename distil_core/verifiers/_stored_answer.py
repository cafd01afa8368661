"""The form in which an answer is stored, for majority votes and counts of distinct answers."""

import hashlib

_MAX_CHARACTERS = 1000


def stored_answer(answer: str) -> str:
    """The answer itself where it is short and valid UTF-8, else a hash that stands for it. The
    table holds one for every row, so its size is bounded."""
    content = answer.encode("utf-8", "surrogatepass")
    is_storable = content == answer.encode("utf-8", "replace")
    if len(answer) <= _MAX_CHARACTERS and is_storable:
        return answer
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
