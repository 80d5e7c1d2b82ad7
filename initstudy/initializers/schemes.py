"""Initializers: rules that fill one tensor.

Each is a frozen dataclass, so that it prints, compares, hashes and serves as a Hydra `_target_`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers.fans import Fans
from initstudy.initializers.gains import gain

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")
# Standard deviation of N(0, 1) cut at ±2: sqrt(1 - 4·pdf(2) / (cdf(2) - cdf(-2))).
TRUNCATED_STD = math.sqrt(
    1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(2 / math.sqrt(2))
)


Shape = tuple[int, ...]
Type = torch.dtype


class Initializer(ABC):
    """A rule that fills one tensor."""

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
        """
        return self._draw(tuple(shape), fans, generator, dtype)

    @abstractmethod
    def _draw(
        self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type
    ) -> Tensor: ...


@dataclass(frozen=True)
class Constant(Initializer):
    """Every entry is `value`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        _require_finite("value", self.value, low=-math.inf)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return torch.full(shape, self.value, dtype=dtype)


@dataclass(frozen=True)
class Normal(Initializer):
    """N(mean, std²): `mean + std·z`, with the same `z` for every std at the same generator."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        _require_finite("std", self.std, "a standard deviation")
        _require_finite("mean", self.mean, low=-math.inf)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.mean + self.std * standard("normal", shape, generator, dtype)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(-bound, bound): `bound·u`, with the same `u` for every bound at the same generator."""

    bound: float = 1.0

    def __post_init__(self) -> None:
        _require_finite("bound", self.bound, "a bound")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.bound / math.sqrt(3) * standard("uniform", shape, generator, dtype)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Zero mean and variance `scale / fan`; every famous scheme is a point on it.

    The truncated normal is cut at two of its own standard deviations and rescaled, so that the
    variance is the same after truncation
    (https://docs.jax.dev/en/latest/_autosummary/jax.nn.initializers.variance_scaling.html).
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"

    def __post_init__(self) -> None:
        _require_finite("scale", self.scale, "a variance")
        _require_choice("mode", self.mode, MODES)
        _require_choice("distribution", self.distribution, DISTRIBUTIONS)

    def std(self, fans: Fans) -> float:
        """The standard deviation of the entries of a layer with these fans."""
        fan = {
            "fan_in": fans.fan_in,
            "fan_out": fans.fan_out,
            "fan_avg": (fans.fan_in + fans.fan_out) / 2,
        }[self.mode]
        return math.sqrt(self.scale / fan)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.std(fans) * standard(self.distribution, shape, generator, dtype)


@dataclass(frozen=True)
class _Gained(Initializer):
    """A point on `VarianceScaling` that users know by a gain: std = gain / sqrt(fan)."""

    @abstractmethod
    def scaling(self) -> VarianceScaling:
        """The same initializer in its general form."""

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.scaling()(shape, fans, generator=generator, dtype=dtype)


@dataclass(frozen=True)
class _Xavier(_Gained):
    gain: float = 1.0
    distribution = "normal"

    def __post_init__(self) -> None:
        _require_finite("gain", self.gain, "a gain")

    def scaling(self) -> VarianceScaling:
        """Variance gain²·2/(fan_in + fan_out), Glorot & Bengio 2010, eq. 12 and 16."""
        return VarianceScaling(self.gain**2, "fan_avg", self.distribution)


@dataclass(frozen=True)
class XavierNormal(_Xavier):
    """Normal with variance gain²·2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 12)."""


@dataclass(frozen=True)
class XavierUniform(_Xavier):
    """Uniform with variance gain²·2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""

    distribution = "uniform"


@dataclass(frozen=True)
class _Kaiming(_Gained):
    nonlinearity: str = "relu"
    negative_slope: float = 0.0
    mode: str = "fan_in"
    gain: float | None = None
    distribution = "normal"

    def __post_init__(self) -> None:
        _require_choice("mode", self.mode, ("fan_in", "fan_out"))
        gain(self.nonlinearity, self.negative_slope)
        if self.gain is not None:
            _require_finite("gain", self.gain, "a gain")

    def scaling(self) -> VarianceScaling:
        """Variance gain²/fan, He et al. 2015, eq. 10 and 14."""
        by_name = gain(self.nonlinearity, self.negative_slope)
        factor = by_name if self.gain is None else self.gain
        return VarianceScaling(factor**2, self.mode, self.distribution)


@dataclass(frozen=True)
class KaimingNormal(_Kaiming):
    """Normal with variance gain²/fan (He et al. 2015, eq. 10 and 14; eq. 15 with a slope).

    Args:
        nonlinearity: What follows the layer; it sets the gain.
        negative_slope: Of "leaky_relu".
        mode: "fan_in" keeps the forward variance, "fan_out" the backward one.
        gain: Overrides the nonlinearity's.
    """


@dataclass(frozen=True)
class KaimingUniform(_Kaiming):
    """Uniform with variance gain²/fan; arguments as `KaimingNormal`."""

    distribution = "uniform"


@dataclass(frozen=True)
class LecunNormal(_Gained):
    """Normal with variance 1/fan_in (LeCun et al. 1998, Efficient BackProp, eq. 16)."""

    def scaling(self) -> VarianceScaling:
        """Its general form."""
        return VarianceScaling(1.0, "fan_in", "normal")


@dataclass(frozen=True)
class LecunUniform(_Gained):
    """Uniform with variance 1/fan_in (LeCun et al. 1998, Efficient BackProp, eq. 16)."""

    def scaling(self) -> VarianceScaling:
        """Its general form."""
        return VarianceScaling(1.0, "fan_in", "uniform")


def standard(
    distribution: str, shape: Shape, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """A tensor of zero mean and unit variance.

    It is drawn in float32 or wider, so that narrow types hold the same numbers, rounded.
    """
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    tensor = torch.empty(shape, dtype=wide)
    if distribution == "normal":
        tensor.normal_(generator=generator)
    elif distribution == "uniform":
        bound = math.sqrt(3)
        tensor.uniform_(-bound, bound, generator=generator)
    else:
        # By the inverse of the distribution function, as one uniform draw an entry.
        edge = math.erf(2 / math.sqrt(2))
        tensor.uniform_(-edge, edge, generator=generator).erfinv_()
        tensor.mul_(math.sqrt(2) / TRUNCATED_STD).clamp_(-2 / TRUNCATED_STD, 2 / TRUNCATED_STD)
    return tensor.to(dtype)


def _require_finite(key: str, value: float, what: str = "a value", low: float = 0.0) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low:
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise ValueError(f"init.{key}={value}: {what} must be a finite number{bound}")


def _require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"init.{key}={value}: choose one of {', '.join(choices)}")
