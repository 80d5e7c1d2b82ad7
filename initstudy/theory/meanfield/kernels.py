"""What the theory needs to know of an activation, and those that are linear but for one kink."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from initstudy.theory.meanfield.quadrature import Array, gaussian_rule

# Beyond it every activation here is its own limit to more digits than a double has, and squares
# still fit into one.
FAR = 1e60


class Kernel(ABC):
    """Expectations of an activation φ over u, u' normal with variance q and correlation c.

    Attributes:
        growth: The limit of E[φ(u)²]/q for large q; zero where φ is bounded.
        homogeneous: Whether φ(s·x) = s·φ(x) for s > 0, so that E[φ(u)²] = growth·q at every q.
        marks: Where φ has kinks, or changes fastest.
    """

    growth: float
    homogeneous = False
    marks: tuple[float, ...] = (0.0,)

    @abstractmethod
    def function(self, x: Array) -> Array:
        """The activation itself, φ(x)."""

    @abstractmethod
    def derivative(self, x: Array) -> Array:
        """φ'(x), anywhere but on a kink."""

    def second_moment(self, q: float, c: float = 1.0) -> float:
        """E[φ(u)·φ(u')]."""
        near = min(q, FAR)
        return self._second_moment(near, c) * (q / near if q > FAR and self.growth else 1.0)

    def derivative_moment(self, q: float, c: float = 1.0) -> float:
        """E[φ'(u)·φ'(u')], the slope of `second_moment` in the covariance q·c (Price 1958)."""
        return self._derivative_moment(min(q, FAR), c)

    def length_slope(self, q: float) -> float:
        """The derivative of E[φ(u)²] by q, which is E[φ'(u)² + φ(u)·φ''(u)]."""
        return self._length_slope(min(q, FAR))

    def fourth_moment(self, q: float) -> float:
        """E[φ(u)⁴]."""
        if q == 0:
            return self._second_moment(0.0, 1.0) ** 2
        near = min(q, FAR)
        x, weight = gaussian_rule(near, self.marks, 0.5)
        grown = q / near if self.growth else 1.0
        return float(weight @ self.function(x) ** 4) * grown * grown

    @abstractmethod
    def _second_moment(self, q: float, c: float) -> float: ...

    @abstractmethod
    def _derivative_moment(self, q: float, c: float) -> float: ...

    @abstractmethod
    def _length_slope(self, q: float) -> float: ...


class PiecewiseLinear(Kernel):
    """φ(x) = x above zero and slope·x below: relu, leaky_relu and linear.

    The arc-cosine kernels of order 0 and 1 (Cho & Saul 2009, Kernel Methods for Deep Learning,
    section 2.1). With a = (1 + slope)/2 and b = (1 - slope)/2, φ(x) = a·x + b·|x|, whose parts do
    not correlate, so E[φφ'] = q·(a²c + b²·(2/π)(√(1 - c²) + c·asin c)).
    """

    homogeneous = True

    def __init__(self, slope: float) -> None:
        self.slope = slope
        self.even, self.odd = (1 - slope) / 2, (1 + slope) / 2
        self.growth = (1 + slope * slope) / 2

    def function(self, x: Array) -> Array:
        """The activation itself, φ(x)."""
        return self.odd * x + self.even * abs(x)

    def derivative(self, x: Array) -> Array:
        """φ'(x), anywhere but at zero."""
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
