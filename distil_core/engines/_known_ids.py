"""Check the token ids that a model is asked for."""

from collections.abc import Iterable, Sequence

from distil_core.errors import EngineRefusedError


def require_known_ids(sequences: Iterable[Sequence[int]], vocabulary_size: int) -> None:
    """Raise `EngineRefusedError` for a token id outside the model's vocabulary: on a GPU it would
    end the process, and with vLLM the engine of all its users."""
    for token_ids in sequences:
        if len(token_ids) and not (min(token_ids) >= 0 and max(token_ids) < vocabulary_size):
            raise EngineRefusedError(
                f"token ids from {min(token_ids)} to {max(token_ids)} were asked for, the "
                f"policy's vocabulary has 0 to {vocabulary_size - 1}: are tokenizer and weights "
                "of one checkpoint? A tokenizer with tokens added needs a model whose embedding "
                "was resized with it"
            )
