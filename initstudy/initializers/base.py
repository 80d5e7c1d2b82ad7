"""What every initializer is: a rule that fills one tensor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from initstudy.initializers.fans import Fans
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.laws import Law

Shape = tuple[int, ...]
Type = torch.dtype


class Initializer(ABC):
    """A rule that fills one tensor: a frozen dataclass, which prints, compares and hashes.

    Attributes:
        kinds: The kinds of layer whose weights it can fill.
    """

    kinds: tuple[str, ...] = WEIGHTED

    def __call__(
        self,
        shape: Sequence[int],
        fans: Fans,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draws a new tensor on the CPU.

        Args:
            shape: Of the tensor.
            fans: Of the layer that it belongs to.
            generator: A CPU generator; the global random state is never used.
            dtype: A floating point type.

        Raises:
            ValueError: The initializer cannot fill such a tensor.
        """
        # Narrow types hold the same numbers, rounded once at the end.
        wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        return self._draw(tuple(shape), fans, generator, wide).to(dtype)

    def law(self, shape: Sequence[int], fans: Fans) -> Law:
        """How one entry of such a tensor is distributed."""
        return self._law(tuple(shape), fans)

    @abstractmethod
    def _draw(
        self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type
    ) -> Tensor: ...

    @abstractmethod
    def _law(self, shape: Shape, fans: Fans) -> Law: ...


def standard(
    distribution: str, shape: Shape, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """A tensor of zero mean and unit variance: normal, uniform, or truncated_normal (at ±2)."""
    if distribution == "truncated_normal":
        return truncated(-2.0, 2.0, shape, generator, dtype).div_(TRUNCATED_STD)
    tensor = torch.empty(shape, dtype=dtype)
    if distribution == "normal":
        tensor.normal_(generator=generator)
    else:
        bound = math.sqrt(3)
        tensor.uniform_(-bound, bound, generator=generator)
    return tensor


def truncated(
    low: float, high: float, shape: Shape, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """N(0, 1) between two bounds, by the inverse of its distribution function.

    One uniform number an entry; both bounds on one side are mirrored to where erf has digits.
    """
    sign = -1.0 if low > 0 else 1.0
    a, b = (low, high) if low <= 0 else (-high, -low)
    # float32 cannot tell the tails of erf apart.
    tensor = torch.empty(shape, dtype=torch.float64)
    edges = torch.special.ndtr(torch.tensor([a, b], dtype=torch.float64)).tolist()
    tensor.uniform_(*edges, generator=generator)
    tensor = torch.special.ndtri(tensor).clamp_(a, b) * sign
    return tensor.to(dtype)


# Standard deviation of N(0, 1) cut at ±2: sqrt(1 - 4·pdf(2) / (cdf(2) - cdf(-2))).
TRUNCATED_STD = math.sqrt(
    1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(2 / math.sqrt(2))
)


def require_finite(key: str, value: float, what: str = "a value", low: float = 0.0) -> None:
    """Raises ValueError unless an argument is a finite number of at least `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low:
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise ValueError(f"init.{key}={value}: {what} must be a finite number{bound}")


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless an argument is one of the choices."""
    if value not in choices:
        raise ValueError(f"init.{key}={value}: choose one of {', '.join(choices)}")
