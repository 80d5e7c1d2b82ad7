"""Fans by measurement: noise through a layer tells how many inputs a unit really sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

# Enough entries for an error of about 1%.
ENTRIES = 2**15
MOST_DRAWS = 64


@dataclass(frozen=True)
class MeasuredFans:
    """The fans of a layer as they show in variances.

    Attributes:
        fan_in: The variance of an output over that of the weights, for inputs of mean square one.
        fan_out: The variance of an input's gradient over that of the weights, for gradients of
            mean square one at the outputs.
    """

    fan_in: float
    fan_out: float


def measure_fans(layer: nn.Module, shape: Sequence[int], parameter: str = "weight") -> MeasuredFans:
    """Sends noise through a layer whose weights are noise, forward and backward.

    This counts what stride, padding, dilation and groups leave of a kernel: a transposed
    convolution of stride s meets, on average, one in s² of the positions of its kernel.

    Args:
        layer: Any layer whose output is proportional to the parameter. It does not change.
        shape: The shape of its input, with a batch axis.
        parameter: The name of its weight.

    Example:
        >>> from torch import nn
        >>> from initstudy.audit.fans import measure_fans
        >>> found = measure_fans(nn.ConvTranspose2d(16, 8, 2, stride=2), (8, 16, 8, 8))
        >>> abs(found.fan_in - 16) < 1, abs(found.fan_out - 32) < 2
        (True, True)
    """
    generator = torch.Generator().manual_seed(0)
    others = {n: torch.zeros_like(p) for n, p in layer.named_parameters() if n != parameter}
    weight = layer.get_parameter(parameter)
    forward, backward, count = 0.0, 0.0, 0
    for draws in range(1, MOST_DRAWS + 1):
        values = torch.randn(weight.shape, generator=generator)
        x = torch.randn(tuple(shape), generator=generator).requires_grad_()
        with torch.enable_grad():
            output = functional_call(layer, {parameter: values, **_cpu(others)}, x)
            noise = torch.randn(output.shape, generator=generator)
            (found,) = torch.autograd.grad((output * noise).sum(), x)
        forward += float(output.detach().square().mean())
        backward += float(found.square().mean())
        count += min(output.numel(), x.numel())
        if draws > 3 and count > ENTRIES:
            break
    return MeasuredFans(forward / draws, backward / draws)


def _cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros(t.shape) for name, t in tensors.items()}
