"""How many token positions a process has its models compute, padding included."""

from typing import Any


class Positions:
    """Counts from when it is made, in this process."""

    def __init__(self) -> None:
        import torch

        self.count = 0
        original = torch.nn.Embedding.forward

        def counting(module: Any, ids: Any) -> Any:
            self.count += ids.numel()
            return original(module, ids)

        # Of the class: models are made later, by the stages and by the peer's trainer.
        torch.nn.Embedding.forward = counting  # type: ignore[assignment]
