"""Variances that depend on fans: Glorot, He and LeCun, as cases of one variance scaling."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers import laws
from initstudy.initializers.base import Initializer, Shape, Type, standard
from initstudy.initializers.checks import require_choice
from initstudy.initializers.distributions import TruncatedNormal, Uniform
from initstudy.initializers.fans import Fans
from initstudy.initializers.gains import Nonlinearity, gain
from initstudy.initializers.laws import Law

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Mean zero and variance `scale / fan`; the famous schemes are cases of it.

    The truncated normal distribution is cut at two standard deviations and rescaled, so that the
    truncation does not change the variance
    (https://docs.jax.dev/en/latest/_autosummary/jax.nn.initializers.variance_scaling.html).

    Args:
        scale: The variance times the fan.
        mode: The fan: "fan_in", "fan_out", or "fan_avg" for their mean.
        distribution: "normal", "truncated_normal" or "uniform".

    Example:
        >>> from initstudy.initializers import Fans, VarianceScaling
        >>> VarianceScaling(2.0, "fan_in").std(Fans(fan_in=200, fan_out=50))
        0.1
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"

    def __post_init__(self) -> None:
        self._number("scale", "a variance")
        require_choice("mode", self.mode, MODES)
        require_choice("distribution", self.distribution, DISTRIBUTIONS)

    def std(self, fans: Fans) -> float:
        """The standard deviation of a layer's weights.

        Args:
            fans: The fans of the layer.

        Raises:
            UnknownFansError: The fans are not known.
        """
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
class TruncatedScaling(Initializer):
    """N(0, scale/fan) truncated at `cutoff` deviations, which the truncation narrows.

    Args:
        scale: The variance before the truncation, times the fan.
        mode: The fan: "fan_in", "fan_out", or "fan_avg" for their mean.
        cutoff: The distance of the bounds, in standard deviations before the truncation.

    Example:
        >>> from initstudy.initializers import Fans
        >>> from initstudy.initializers.schemes import TruncatedScaling
        >>> print(TruncatedScaling(1.0, "fan_in", 3.0).law((5, 100), Fans(100, 5)))
        N(0, 0.1²) in [-0.3, 0.3]
    """

    scale: float = 1.0
    mode: str = "fan_in"
    cutoff: float = 3.0

    def __post_init__(self) -> None:
        self._number("scale", "a variance")
        require_choice("mode", self.mode, MODES)
        self._number("cutoff", "the cutoff")

    def _normal(self, fans: Fans) -> TruncatedNormal:
        std = VarianceScaling(self.scale, self.mode).std(fans)
        return TruncatedNormal(std, cutoff=self.cutoff, restore=False)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self._normal(fans)(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self._normal(fans).law(shape, fans)


@dataclass(frozen=True)
class FanBound(Initializer):
    """U(±factor/fan_in^power).

    Args:
        factor: The bound for a fan of one.
        power: The power of the fan.

    Example:
        >>> from initstudy.initializers import Fans
        >>> from initstudy.initializers.schemes import FanBound
        >>> print(FanBound(1.0, 1.0).law((5, 4), Fans(4, 5)))
        U(±0.25)
    """

    factor: float = 1.0
    power: float = 0.5

    def __post_init__(self) -> None:
        self._number("factor", "a bound")
        self._number("power", "a power", -math.inf)

    def _uniform(self, fans: Fans) -> Uniform:
        return Uniform(self.factor / fans.fan_in**self.power)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self._uniform(fans)(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self._uniform(fans).law(shape, fans)


@dataclass(frozen=True)
class _Gained(Initializer):
    """A case of `VarianceScaling` that is known by a gain: std = gain / sqrt(fan)."""

    @abstractmethod
    def scaling(self) -> VarianceScaling:
        """The same initializer as a variance scaling."""

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self.scaling()(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self.scaling().law(shape, fans)


@dataclass(frozen=True)
class _Xavier(_Gained):
    gain: float = 1.0
    distribution = "normal"

    def __post_init__(self) -> None:
        self._number("gain", "a gain")

    def scaling(self) -> VarianceScaling:
        """Variance gain²·2/(fan_in + fan_out), Glorot & Bengio 2010, eq. 12 and 16."""
        return VarianceScaling(self.gain**2, "fan_avg", self.distribution)


@dataclass(frozen=True)
class XavierNormal(_Xavier):
    """Normal with variance gain²·2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 12).

    Args:
        gain: The factor on the standard deviation.

    Example:
        >>> from initstudy.initializers import Fans, XavierNormal
        >>> XavierNormal().law((50, 150), Fans(150, 50)).std
        0.1
    """


@dataclass(frozen=True)
class XavierUniform(_Xavier):
    """Uniform with variance gain²·2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16).

    Args:
        gain: The factor on the standard deviation.

    Example:
        >>> from initstudy.initializers import Fans, XavierUniform
        >>> print(XavierUniform().law((50, 150), Fans(150, 50)))
        U(±0.173)
    """

    distribution = "uniform"


@dataclass(frozen=True)
class _Kaiming(_Gained):
    nonlinearity: Nonlinearity = "relu"
    negative_slope: float = 0.01
    mode: str = "fan_in"
    gain: float | None = None
    distribution = "normal"

    def __post_init__(self) -> None:
        require_choice("mode", self.mode, ("fan_in", "fan_out"))
        self._number("negative_slope", "a slope", -math.inf)
        gain(self.nonlinearity, self.negative_slope)
        if self.gain is not None:
            self._number("gain", "a gain")

    def scaling(self) -> VarianceScaling:
        """Variance gain²/fan, He et al. 2015, eq. 10 and 14."""
        by_name = gain(self.nonlinearity, self.negative_slope)
        factor = by_name if self.gain is None else self.gain
        return VarianceScaling(factor**2, self.mode, self.distribution)


@dataclass(frozen=True)
class KaimingNormal(_Kaiming):
    """Normal with variance gain²/fan (He et al. 2015, eq. 10 and 14; eq. 15 for leaky_relu).

    Args:
        nonlinearity: The activation function after the layer, which sets the gain: a name, or any
            elementwise function of torch (see `gain`).
        negative_slope: The slope of "leaky_relu" below zero.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        gain: The gain, instead of the activation function's.

    Example:
        >>> import torch
        >>> from initstudy.initializers import Fans, KaimingNormal
        >>> KaimingNormal().law((50, 200), Fans(200, 50)).std
        0.1
        >>> silu = KaimingNormal(torch.nn.functional.silu)
        >>> round(silu.law((50, 200), Fans(200, 50)).std, 6)
        0.118549
    """


@dataclass(frozen=True)
class KaimingUniform(_Kaiming):
    """Uniform with variance gain²/fan (He et al. 2015, eq. 10 and 14; eq. 15 for leaky_relu).

    Args:
        nonlinearity: The activation function after the layer, which sets the gain (see `gain`).
        negative_slope: The slope of "leaky_relu" below zero.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        gain: The gain, instead of the activation function's.

    Example:
        >>> from initstudy.initializers import Fans, KaimingUniform
        >>> print(KaimingUniform().law((50, 200), Fans(200, 50)))
        U(±0.173)
    """

    distribution = "uniform"


@dataclass(frozen=True)
class LecunNormal(_Gained):
    """Normal with variance 1/fan_in (LeCun et al. 1998, Efficient BackProp, eq. 16).

    Example:
        >>> from initstudy.initializers import Fans, LecunNormal
        >>> LecunNormal().law((50, 100), Fans(100, 50)).std
        0.1
    """

    def scaling(self) -> VarianceScaling:
        """The same initializer as a variance scaling."""
        return VarianceScaling(1.0, "fan_in", "normal")


@dataclass(frozen=True)
class LecunUniform(_Gained):
    """Uniform with variance 1/fan_in (LeCun et al. 1998, Efficient BackProp, eq. 16).

    Example:
        >>> from initstudy.initializers import Fans, LecunUniform
        >>> print(LecunUniform().law((50, 100), Fans(100, 50)))
        U(±0.173)
    """

    def scaling(self) -> VarianceScaling:
        """The same initializer as a variance scaling."""
        return VarianceScaling(1.0, "fan_in", "uniform")
