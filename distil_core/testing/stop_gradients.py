"""Numerical gradients of a loss that holds stop-gradients.

What `detach` gives is a constant to autograd, but moves when the inputs are nudged. So the values
are recorded in one pass and put back, in order, into the passes beside it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Constants(TorchFunctionMode):
    """Records results of `detach`, and of anything computed without gradients, or replays them."""

    def __init__(self, recorded: list[Tensor] | None = None):
        super().__init__()
        self.recorded: list[Tensor] = [] if recorded is None else recorded
        self._replayed = None if recorded is None else iter(recorded)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        is_constant = getattr(func, "__name__", "") == "detach" or not torch.is_grad_enabled()
        if not is_constant or not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        if self._replayed is None:
            self.recorded.append(result.clone())
            return result
        return next(self._replayed)


def directional_derivative(
    loss_of: Callable[[Tensor], Tensor], values: Tensor, direction: Tensor, step: float = 1e-6
) -> float:
    """Of the loss along `direction`, by central differences, its stop-gradients held fixed."""
    recording, leaf = _Constants(), _leaf(values)
    with recording:
        loss_of(leaf)
    losses = []
    for sign in (1.0, -1.0):
        leaf = _leaf(values + sign * step * direction)
        with _Constants(recording.recorded):
            loss = loss_of(leaf)
        losses.append(loss.item())
    return (losses[0] - losses[1]) / (2 * step)


def _leaf(values: Tensor) -> Tensor:
    return values.detach().clone().requires_grad_(True)
