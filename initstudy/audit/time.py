"""Recurrent layers over time: how fast a gradient grows or shrinks per step into the past."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initstudy.audit.tape import Reading
from initstudy.audit.tensors import rms

# Fewer steps show no rate.
FEWEST_STEPS = 8
# A sequence is read up to here: its rate is that of a longer one.
MOST_STEPS = 256


@dataclass(frozen=True)
class TimeFactor:
    """How a gradient changes along the steps of one layer.

    Attributes:
        name: The layer.
        kind: The class of the layer's module, or "function".
        factor: The change of its root mean square per step into the past.
        steps: The number of steps that were looked at.
    """

    name: str
    kind: str
    factor: float
    steps: int

    @property
    def total(self) -> float:
        """The change over all steps."""
        return math.exp(min(max(self.steps * math.log(self.factor), -700), 700))


def time_factors(
    readings: Sequence[Reading], gradient: Callable[[Tensor], Tensor | None]
) -> Iterator[TimeFactor]:
    """The factor of every recurrent layer, and of every layer that runs many times.

    The factor of a recurrent layer is that of the gradient of its last output with respect to its
    inputs at each step: the mean growth of a product of its Jacobians. That of a layer or a cell
    which runs many times is that of the loss's gradient with respect to its successive outputs.

    Args:
        readings: The layers of a pass.
        gradient: The gradient of the loss with respect to a tensor of the pass.
    """
    for reading in readings:
        if isinstance(reading.module, nn.RNNBase) and reading.argument is not None:
            sizes = _through_time(reading.module, reading.argument)
        elif reading.calls >= FEWEST_STEPS:
            found = [gradient(tensor) for tensor in reading.outputs]
            sizes = [rms(g) for g in reversed(found) if g is not None]
        else:
            continue
        factor = _factor(sizes)
        if factor is not None:
            kind = type(reading.module).__name__ if reading.module is not None else "function"
            yield TimeFactor(reading.name, kind, factor, len(sizes))


def _through_time(module: nn.RNNBase, argument: Tensor) -> list[float]:
    """The sizes of the last output's gradient by the inputs, from the last step to the first."""
    if argument.dim() != 3:
        return []
    axis = 1 if module.batch_first else 0
    inputs = argument.narrow(axis, 0, min(argument.shape[axis], MOST_STEPS)).clone()
    inputs.requires_grad_()
    output = module(inputs)[0]
    last = output.select(axis, -1)[..., : module.hidden_size]
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(last.shape, generator=generator).to(last)
    (found,) = torch.autograd.grad((last * direction).sum(), inputs)
    return [rms(step) for step in reversed(found.unbind(axis))]


def _factor(sizes: Sequence[float]) -> float | None:
    """The change per step, by least squares in the logarithm."""
    logs = [math.log(s) for s in sizes if 0 < s < math.inf]
    if len(logs) < FEWEST_STEPS:
        return None
    middle = (len(logs) - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(len(logs)))
    slope = sum((i - middle) * value for i, value in enumerate(logs)) / spread
    return math.exp(min(max(slope, -50), 50))
