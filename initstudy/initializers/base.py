"""The base class of initializers, which fill one tensor, and the numbers that they sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from initstudy.initializers.checks import finite, whole
from initstudy.initializers.fans import Fans, unknown_fans
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.laws import Law

Shape = tuple[int, ...]
Type = torch.dtype
# Narrow types hold the same numbers as these, rounded once at the end.
WIDE = {
    torch.float64: torch.float64,
    torch.complex128: torch.complex128,
    torch.complex64: torch.complex64,
    torch.complex32: torch.complex64,
}


class Initializer(ABC):
    """A rule that fills one tensor. Every one is a frozen dataclass: it prints, compares, hashes.

    Attributes:
        kinds: The kinds of layer whose weights it can fill.

    Example:
        >>> from initstudy.initializers import Fans, KaimingNormal, Normal
        >>> Normal(0.1)((3, 4)).shape
        torch.Size([3, 4])
        >>> KaimingNormal()((250, 400), Fans.of_shape((250, 400)), seed=1).std() < 0.08
        tensor(True)
    """

    kinds: tuple[str, ...] = WEIGHTED

    def __call__(
        self,
        shape: Sequence[int],
        fans: Fans | None = None,
        *,
        generator: torch.Generator | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Samples a new tensor on the CPU.

        Args:
            shape: The shape of the tensor.
            fans: The fans of the layer that the tensor belongs to (`compute_fans`), or those that
                its shape has by itself (`Fans.of_shape`). None if the initializer needs none.
            generator: A CPU generator. The global random state is never used.
            seed: The seed of a new generator, if none is given.
            dtype: A floating point or complex type. A complex tensor has the standard deviation in
                the modulus: each of its parts has a share of 1/√2.

        Raises:
            UnknownFansError: The initializer needs fans and got none.
            ValueError: The initializer cannot fill such a tensor.
        """
        if not (dtype.is_floating_point or dtype.is_complex):
            raise ValueError(f"dtype={dtype}: {type(self).__name__} fills floating point numbers")
        shape = tuple(shape)
        if fans is None:
            fans = unknown_fans(
                f"{type(self).__name__} needs fans: give those of the layer, or "
                f"Fans.of_shape({shape}) for a tensor of (outputs, inputs, *kernel)"
            )
        if generator is None:
            generator = torch.Generator().manual_seed(whole("seed", seed))
        return self._draw(shape, fans, generator, WIDE.get(dtype, torch.float32)).to(dtype)

    def law(self, shape: Sequence[int], fans: Fans) -> Law:
        """The distribution of one entry of such a tensor.

        Args:
            shape: The shape of the tensor.
            fans: The fans of the layer that the tensor belongs to.
        """
        return self._law(tuple(shape), fans)

    def _number(self, key: str, what: str = "a value", low: float = 0.0) -> None:
        """Holds a field as a Python number, so that equal initializers compare and print alike."""
        object.__setattr__(self, key, finite(key, getattr(self, key), what, low))

    @abstractmethod
    def _draw(
        self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type
    ) -> Tensor: ...

    @abstractmethod
    def _law(self, shape: Shape, fans: Fans) -> Law: ...


def standard(
    distribution: str, shape: Shape, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Samples a tensor of independent entries with mean zero and variance one.

    Args:
        distribution: "normal", "uniform", or "truncated_normal", which is cut at two standard
            deviations of the normal distribution before the cut.
        shape: The shape of the tensor.
        generator: A CPU generator.
        dtype: A floating point type, or for "normal" also a complex one. A complex normal number
            has independent parts of variance 1/2.

    Raises:
        ValueError: The type is complex and the distribution not normal.

    Example:
        >>> import torch
        >>> from initstudy.initializers.base import standard
        >>> z = standard("uniform", (1000,), torch.Generator().manual_seed(0), torch.float64)
        >>> abs(z).max() <= 3**0.5
        tensor(True)
    """
    if dtype.is_complex and distribution != "normal":
        raise ValueError(f"a complex tensor has no {distribution} distribution; use a normal one")
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
    """Samples N(0, 1) between two bounds, by the inverse of its distribution function.

    Every entry takes one uniform number. If both bounds are positive, their mirror images are used,
    because the distribution function has more digits there.

    Args:
        low: The lower bound.
        high: The upper bound.
        shape: The shape of the tensor.
        generator: A CPU generator.
        dtype: A real floating point type.

    Raises:
        ValueError: The type is complex.

    Example:
        >>> import torch
        >>> from initstudy.initializers.base import truncated
        >>> z = truncated(1.0, 2.0, (1000,), torch.Generator().manual_seed(0), torch.float64)
        >>> bool(((z >= 1) & (z <= 2)).all())
        True
    """
    if dtype.is_complex:
        raise ValueError("a complex tensor has no truncated normal distribution; use a normal one")
    sign = -1.0 if low > 0 else 1.0
    a, b = (low, high) if low <= 0 else (-high, -low)
    # In float32 the tails of the distribution function are all equal.
    tensor = torch.empty(shape, dtype=torch.float64)
    edges = torch.special.ndtr(torch.tensor([a, b], dtype=torch.float64)).tolist()
    tensor.uniform_(*edges, generator=generator)
    tensor = torch.special.ndtri(tensor).clamp_(a, b) * sign
    return tensor.to(dtype)


# The standard deviation of N(0, 1) cut at ±2: sqrt(1 - 4·pdf(2) / (cdf(2) - cdf(-2))).
TRUNCATED_STD = math.sqrt(
    1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(2 / math.sqrt(2))
)
