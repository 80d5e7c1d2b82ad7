"""Initializers of one distribution: constants, normals and uniforms, truncated or sparse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers import laws
from initstudy.initializers.base import Initializer, Shape, Type, standard, truncated
from initstudy.initializers.checks import require_choice
from initstudy.initializers.fans import Fans
from initstudy.initializers.laws import Law
from initstudy.initializers.matrices import as_matrices, as_tensor


@dataclass(frozen=True)
class Constant(Initializer):
    """Every entry is `value`.

    Args:
        value: The value.

    Example:
        >>> from initstudy.initializers import Constant
        >>> Constant(0.01)((2,))
        tensor([0.0100, 0.0100])
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        self._number("value", low=-math.inf)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return torch.full(shape, self.value, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return laws.constant(self.value)


@dataclass(frozen=True)
class Normal(Initializer):
    """N(mean, std²): `mean + std·z`, with the same `z` for every std at the same generator.

    Args:
        std: The standard deviation.
        mean: The mean.

    Example:
        >>> import torch
        >>> from initstudy.initializers import Normal
        >>> torch.equal(Normal(0.5)((3, 4)), 4 * Normal(0.125)((3, 4)))
        True
    """

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        self._number("std", "a standard deviation")
        self._number("mean", low=-math.inf)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.mean + self.std * standard("normal", shape, generator, dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return laws.normal(self.std, self.mean)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(-bound, bound): `bound·u`, with the same `u` for every bound at the same generator.

    Args:
        bound: The largest value.

    Example:
        >>> from initstudy.initializers import Uniform
        >>> abs(Uniform(0.05)((100,))).max() <= 0.05
        tensor(True)
    """

    bound: float = 1.0

    def __post_init__(self) -> None:
        self._number("bound", "a bound")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.bound / math.sqrt(3) * standard("uniform", shape, generator, dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return laws.uniform(self.bound)


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """N(mean, std²) truncated at `cutoff` standard deviations on both sides.

    Args:
        std: The standard deviation. With `restore` it is that of the entries; without, that of the
            normal distribution before the truncation, which leaves narrower entries (0.88·std for a
            cutoff of 2), as in Keras's `TruncatedNormal` and JAX's `truncated_normal`.
        mean: The mean, which the truncation does not change.
        cutoff: The distance of the bounds from the mean, in standard deviations of the normal
            distribution before the truncation.
        restore: Whether to widen the normal distribution so that the variance survives.

    Example:
        >>> from initstudy.initializers import TruncatedNormal
        >>> abs(TruncatedNormal(0.02, restore=False)((100,))).max() <= 0.04
        tensor(True)
    """

    std: float = 1.0
    mean: float = 0.0
    cutoff: float = 2.0
    restore: bool = True

    def __post_init__(self) -> None:
        self._number("std", "a standard deviation")
        self._number("mean", low=-math.inf)
        self._number("cutoff", "the cutoff")
        if self.cutoff == 0:
            raise ValueError("init.cutoff=0: leaves nothing between the bounds; use one above 0")

    def _law(self, shape: Shape, fans: Fans) -> Law:
        narrowed = laws.truncated_normal(1.0, 0.0, -self.cutoff, self.cutoff).std
        std = self.std / narrowed if self.restore else self.std
        edge = self.cutoff * std
        return laws.truncated_normal(std, self.mean, self.mean - edge, self.mean + edge)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if self.std == 0:
            return torch.full(shape, self.mean, dtype=dtype)
        scale = self._law(shape, fans).parent[1]
        return self.mean + scale * truncated(-self.cutoff, self.cutoff, shape, generator, dtype)


@dataclass(frozen=True)
class TruncatedNormalBetween(Initializer):
    """N(mean, std²) truncated at absolute bounds, as in `torch.nn.init.trunc_normal_`.

    If the bounds are much farther apart than `std`, nothing is cut; that is so for torch's default
    bounds of ±2 and the usual small deviations
    (https://docs.pytorch.org/docs/stable/nn.init.html, trunc_normal_).

    Args:
        std: The standard deviation of the normal distribution before the truncation.
        mean: The mean of the normal distribution before the truncation.
        low: The lower bound.
        high: The upper bound.

    Example:
        >>> from initstudy.initializers import TruncatedNormalBetween
        >>> abs(TruncatedNormalBetween(0.05, low=-0.05, high=0.05)((100,))).max() <= 0.05
        tensor(True)
    """

    std: float = 1.0
    mean: float = 0.0
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        self._number("std", "a standard deviation")
        for key in ("mean", "low", "high"):
            self._number(key, low=-math.inf)
        if self.low >= self.high:
            raise ValueError(
                f"init.low={self.low} init.high={self.high}: nothing lies between the bounds"
            )
        if self.std == 0 and not self.low <= self.mean <= self.high:
            raise ValueError(f"init.mean={self.mean}: lies outside the bounds, and init.std=0")
        far = max(self.low - self.mean, self.mean - self.high)
        if self.std > 0 and far / self.std > 8:
            raise ValueError(
                f"init.low={self.low} init.high={self.high}: lie more than 8 init.std from "
                f"init.mean={self.mean}, where the normal distribution has no mass"
            )

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if self.std == 0:
            return torch.full(shape, self.mean, dtype=dtype)
        low, high = ((bound - self.mean) / self.std for bound in (self.low, self.high))
        wide = torch.complex128 if dtype.is_complex else torch.float64
        draw = self.mean + self.std * truncated(low, high, shape, generator, wide)
        return draw.clamp_(self.low, self.high).to(dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return laws.truncated_normal(self.std, self.mean, self.low, self.high)


@dataclass(frozen=True)
class Sparse(Initializer):
    """N(0, std²) with a fixed number of entries set to zero.

    Args:
        sparsity: The fraction of zeros, rounded up to a whole number for every unit.
        std: The standard deviation of the entries that are not zero.
        per: "unit" leaves every output unit the same number of inputs (Martens 2010, Deep learning
            via Hessian-free optimization, section 5); "input" leaves every input the same number
            of outputs, as `torch.nn.init.sparse_` does.

    Example:
        >>> from initstudy.initializers import Sparse
        >>> (Sparse(0.9)((5, 20)) != 0).sum(1)
        tensor([2, 2, 2, 2, 2])
    """

    sparsity: float = 0.9
    std: float = 0.01
    per: str = "unit"

    def __post_init__(self) -> None:
        self._number("sparsity", "the fraction of zeros")
        if self.sparsity >= 1:
            raise ValueError(f"init.sparsity={self.sparsity}: must be below 1, or nothing is left")
        self._number("std", "a standard deviation")
        require_choice("per", self.per, ("unit", "input"))

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        values = self.std * standard("normal", shape, generator, dtype)
        matrices = as_matrices(values, fans)
        axis = 2 if self.per == "unit" else 1
        order = torch.rand(matrices.shape, generator=generator).argsort(axis)
        zeros = math.ceil(self.sparsity * matrices.shape[axis])
        return as_tensor(
            matrices.scatter(axis, order.narrow(axis, 0, zeros), 0.0), values.shape, fans
        )

    def _law(self, shape: Shape, fans: Fans) -> Law:
        rows, columns = as_matrices(torch.empty(shape, device="meta"), fans).shape[1:]
        inputs = columns if self.per == "unit" else rows
        kept = 1 - math.ceil(self.sparsity * inputs) / inputs
        return Law("sparse normal", 0.0, self.std * math.sqrt(kept), tested=False)
