"""What the theory needs to know about an activation function, and the piecewise linear ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from initstudy.quadrature import Array, gaussian_rule

# Beyond this variance every activation function here equals its asymptote to more digits than a
# double has, and the square of the variance is still representable.
FAR = 1e60


class Activation(ABC):
    """An activation function φ with its Gaussian expectations.

    The expectations are over a pair u, u' of jointly normal variables with mean 0, variance q and
    correlation c.

    Attributes:
        name: How messages call it.
        growth: The limit of E[φ(u)²]/q for large q; zero for a bounded φ.
        homogeneous: Whether φ(s·x) = s·φ(x) for every s > 0, so that E[φ(u)²] = growth·q at every
            q.
        marks: The arguments at which φ has kinks or varies fastest.

    Example:
        >>> from initstudy.theory import meanfield
        >>> relu = meanfield.resolve("relu")
        >>> relu.second_moment(3.0), relu.derivative_moment(3.0)
        (1.5, 0.5)
    """

    name: str
    growth: float
    homogeneous = False
    marks: tuple[float, ...] = (0.0,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x), for an array of any shape."""

    @abstractmethod
    def derivative(self, x: Array) -> Array:
        """φ'(x), for an array of any shape; its value on a kink is arbitrary."""

    def second_moment(self, q: float, c: float = 1.0) -> float:
        """E[φ(u)·φ(u')]."""
        near = min(q, FAR)
        return self._second_moment(near, c) * (q / near if q > FAR and self.growth else 1.0)

    def derivative_moment(self, q: float, c: float = 1.0) -> float:
        """E[φ'(u)·φ'(u')], the derivative of `second_moment` by the covariance q·c (Price 1958)."""
        return self._derivative_moment(min(q, FAR), c)

    def length_slope(self, q: float) -> float:
        """The derivative of E[φ(u)²] by q, which is E[φ'(u)² + φ(u)·φ''(u)]."""
        return self._length_slope(min(q, FAR))

    def fourth_moment(self, q: float) -> float:
        """E[φ(u)⁴]."""
        if q == 0:
            return self._second_moment(0.0, 1.0) ** 2
        near = min(q, FAR)
        x, weight = self.rule(near)
        grown = q / near if self.growth else 1.0
        return float(weight @ self.function(x) ** 4) * grown * grown

    def rule(self, q: float) -> tuple[Array, Array]:
        """Nodes and weights of a quadrature over u that resolves φ, for 0 < q ≤ 1e60."""
        return gaussian_rule(q, self.marks, 0.5)

    @abstractmethod
    def _second_moment(self, q: float, c: float) -> float: ...

    @abstractmethod
    def _derivative_moment(self, q: float, c: float) -> float: ...

    @abstractmethod
    def _length_slope(self, q: float) -> float: ...


class PiecewiseLinear(Activation):
    """φ(x) = x above zero and slope·x below: relu, leaky_relu and linear.

    These are the arc-cosine kernels of order 0 and 1 (Cho & Saul 2009, Kernel Methods for Deep
    Learning, section 2.1). With a = (1 + slope)/2 and b = (1 - slope)/2, φ(x) = a·x + b·|x|. The
    two terms are uncorrelated, so E[φφ'] = q·(a²c + b²·(2/π)(√(1 - c²) + c·asin c)).
    """

    homogeneous = True

    def __init__(self, name: str, slope: float) -> None:
        self.name, self.slope = name, slope
        self.even, self.odd = (1 - slope) / 2, (1 + slope) / 2
        self.growth = (1 + slope * slope) / 2

    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x)."""
        return self.odd * x + self.even * abs(x)

    def derivative(self, x: Array) -> Array:
        """φ'(x), for x other than zero."""
        return self.odd + self.even * np.sign(x)

    def fourth_moment(self, q: float) -> float:
        """E[φ(u)⁴] = 3q²(1 + slope⁴)/2."""
        return 1.5 * q * q * (1 + self.slope**4)

    def _second_moment(self, q: float, c: float) -> float:
        if c == 1:
            return self.growth * q
        root = math.sqrt((1 - c) * (1 + c))
        absolute = (root + c * math.atan2(c, root)) * 2 / math.pi
        return q * (self.odd**2 * c + self.even**2 * absolute)

    def _derivative_moment(self, q: float, c: float) -> float:
        if c == 1:
            return self.growth
        angle = math.atan2(c, math.sqrt((1 - c) * (1 + c)))
        return self.odd**2 + self.even**2 * angle * 2 / math.pi

    def _length_slope(self, q: float) -> float:
        return self.growth
