"""Statistics of tensors that may be large, without a copy of them in double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Entries that are converted to double precision at once.
CHUNK = 2**20
# Entries that are looked at where all of a large tensor would say no more.
SAMPLE = 2**15


@dataclass(frozen=True)
class Moments:
    """Mean, standard deviation and extremes of a tensor's entries.

    Attributes:
        mean: The mean.
        std: The standard deviation, with divisor n.
        low: The smallest entry.
        high: The largest entry.
        finite: Whether all entries are.
    """

    mean: float
    std: float
    low: float
    high: float
    finite: bool

    @property
    def rms(self) -> float:
        """The root mean square."""
        return math.hypot(self.mean, self.std)


@torch.no_grad()
def moments(values: Tensor) -> Moments:
    """The moments of all entries, with sums in double precision.

    Args:
        values: A tensor of real numbers, of any shape.

    Example:
        >>> import torch
        >>> moments(torch.tensor([1.0, 3.0])).std
        1.0
    """
    if values.numel() == 0:
        return Moments(0.0, 0.0, 0.0, 0.0, True)
    flat = _real(values)
    low, high = (float(v) for v in torch.aminmax(flat))
    if not math.isfinite(low) or not math.isfinite(high):
        return Moments(math.nan, math.nan, low, high, False)
    mean, std = (low, 0.0) if low == high else _mean_and_std(flat)
    return Moments(mean, std, low, high, True)


@torch.no_grad()
def rms(values: Tensor) -> float:
    """The root mean square, or NaN or infinity if an entry is.

    Args:
        values: A tensor of any shape.

    Example:
        >>> import torch
        >>> rms(torch.full((2, 2), 3.0))
        3.0
    """
    if values.numel() == 0:
        return 0.0
    return math.hypot(*_mean_and_std(_real(values)))


@torch.no_grad()
def sampled(values: Tensor, count: int = SAMPLE) -> Tensor:
    """Entries of a tensor in double precision: all, or a fixed random choice of a large one's.

    Evenly spaced entries would all lie in one column if the spacing divides the length of a row.

    Args:
        values: A tensor of any shape.
        count: How many entries to take at most.
    """
    flat = values.detach().reshape(-1)
    if flat.numel() > count:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(flat.numel(), (count,), generator=generator)
        flat = flat[chosen.to(flat.device)]
    return flat.double().cpu()


def is_real(values: Tensor) -> bool:
    """Whether a tensor holds numbers that have a deviation: neither integers nor quantized."""
    return values.is_floating_point() and not values.is_quantized


def _real(values: Tensor) -> Tensor:
    flat = values.detach().reshape(-1)
    return torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat


def _mean_and_std(flat: Tensor) -> tuple[float, float]:
    """Both in double precision; torch sums the squares of floats so without a copy of them."""
    if flat.dtype == torch.float32 and flat.device.type == "cpu":
        return float(flat.mean()), float(flat.std(correction=0))
    mean = sum(float(c.double().sum()) for c in flat.split(CHUNK)) / flat.numel()
    squares = sum(float((c.double() - mean).square().sum()) for c in flat.split(CHUNK))
    return mean, math.sqrt(squares / flat.numel())
