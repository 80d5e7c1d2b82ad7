"""Variances from fans: Glorot, He and LeCun as points on one variance scaling."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers import laws
from initstudy.initializers.base import (
    Initializer,
    Shape,
    Type,
    require_choice,
    require_finite,
    standard,
)
from initstudy.initializers.distributions import TruncatedNormal
from initstudy.initializers.fans import Fans
from initstudy.initializers.gains import gain
from initstudy.initializers.laws import Law

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")


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
        require_finite("scale", self.scale, "a variance")
        require_choice("mode", self.mode, MODES)
        require_choice("distribution", self.distribution, DISTRIBUTIONS)

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

    def _law(self, shape: Shape, fans: Fans) -> Law:
        std = self.std(fans)
        if self.distribution == "uniform":
            return laws.uniform(std * math.sqrt(3))
        return (
            laws.normal(std)
            if self.distribution == "normal"
            else TruncatedNormal(std).law(shape, fans)
        )


@dataclass(frozen=True)
class _Gained(Initializer):
    """A point on `VarianceScaling` that users know by a gain: std = gain / sqrt(fan)."""

    @abstractmethod
    def scaling(self) -> VarianceScaling:
        """The same initializer in its general form."""

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.scaling()(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self.scaling().law(shape, fans)


@dataclass(frozen=True)
class _Xavier(_Gained):
    gain: float = 1.0
    distribution = "normal"

    def __post_init__(self) -> None:
        require_finite("gain", self.gain, "a gain")

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
        require_choice("mode", self.mode, ("fan_in", "fan_out"))
        gain(self.nonlinearity, self.negative_slope)
        if self.gain is not None:
            require_finite("gain", self.gain, "a gain")

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
