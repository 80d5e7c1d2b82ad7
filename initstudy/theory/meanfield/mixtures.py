"""Activation functions that are sums of Gaussian distribution functions Φ, in closed form.

erf and gelu have one term. The logistic function is a mixture over a scale: if K has Kolmogorov's
distribution, P(K ≤ k) = 1 - 2·Σ (-1)ⁿ⁺¹ exp(-2n²k²), then E[Φ(x/(2K))] = 1/(1 + exp(-x)) (Andrews
& Mallows 1974, Scale Mixtures of Normal Distributions; Stefanski 1991, A normal scale mixture
representation of the logistic distribution). Hence tanh, sigmoid, swish and softplus are sums over
a fixed rule for K and are exact to rounding at every q and c, where a quadrature in two dimensions
would be slow, and inaccurate at large q or at c near 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from initstudy.quadrature import Array
from initstudy.theory.meanfield.activation import Activation


def kolmogorov_rule() -> tuple[Array, Array]:
    """Nodes K and weights for expectations over Kolmogorov's distribution.

    The trapezoidal rule in log K: the density falls doubly exponentially on both sides, so the rule
    converges exponentially, and 28 nodes give tanh to 2e-15.
    """
    step = 0.12
    k = np.exp(np.arange(math.log(0.16), math.log(4.6), step))
    n = np.arange(1, 20)[:, None]
    # Two series of the same density (Jacobi), each used where it converges fast.
    upper = (8 * (-1.0) ** (n + 1) * n * n * np.exp(-2 * n * n * k * k)).sum(0) * k
    m = (2 * n - 1) ** 2 * math.pi**2 / 8 / k**2
    lower = math.sqrt(2 * math.pi) * (np.exp(-m) * (2 * m - 1)).sum(0) / k**2
    return k, np.where(k > 0.9, upper, lower) * k * step


class _Mixture(Activation):
    """Σ w·f(s·x) over scales s and weights w; its moments are sums over pairs of scales."""

    def __init__(
        self, name: str, function: Callable[[Array], Array], scales: Array, weights: Array
    ) -> None:
        self.name, self._function = name, function
        self.scales, self.weights = scales, weights
        first, second = np.triu_indices(len(scales))
        self.square = scales[first] ** 2, scales[second] ** 2
        self.product = scales[first] * scales[second]
        # A pair of two different scales stands for both of its orders.
        self.weight = weights[first] * weights[second] * np.where(first == second, 1, 2)

    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x)."""
        return self._function(x)

    def _density(self, x: Array) -> Array:
        """s·Φ'(s·x), one row per scale."""
        scaled = self.scales[:, None] * x
        return self.scales[:, None] * np.exp(-scaled * scaled / 2) / math.sqrt(2 * math.pi)

    def _determinant(self, q: float, c: float) -> tuple[Array, Array, Array]:
        """1 + s²q for both scales of every pair, and the determinant of 1 + diag(s²)·covariance."""
        a, b = self.square
        # Written without cancelling terms, so that no digit is lost at large q or at c near 1.
        spread = (self.product * q) ** 2 * ((1 - c) * (1 + c))
        return 1 + a * q, 1 + b * q, 1 + (a + b) * q + spread


class Probit(_Mixture):
    """offset + height·Σ w·(2Φ(s·x) - 1): erf, tanh and sigmoid.

    For one scale E[φφ'] = (2/π)·asin(s²qc/(1 + s²q)) (Williams 1997, Computing with Infinite
    Networks, eq. 11).
    """

    growth = 0.0

    def __init__(
        self,
        name: str,
        function: Callable[[Array], Array],
        scales: Array,
        weights: Array,
        offset: float = 0.0,
        height: float = 1.0,
    ) -> None:
        super().__init__(name, function, scales, weights)
        self.height = height
        self.offset2, self.height2 = offset**2, height**2 * 2 / math.pi

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        return 2 * self.height * self.weights @ self._density(x)

    def _second_moment(self, q: float, c: float) -> float:
        *_, determinant = self._determinant(q, c)
        angle = np.arctan2(self.product * q * c, np.sqrt(determinant))
        return self.offset2 + self.height2 * float(self.weight @ angle)

    def _derivative_moment(self, q: float, c: float) -> float:
        *_, determinant = self._determinant(q, c)
        return self.height2 * float(self.weight @ (self.product / np.sqrt(determinant)))

    def _length_slope(self, q: float) -> float:
        a, b, determinant = self._determinant(q, 1.0)
        slope = self.product * (1 / a + 1 / b) / 2 / np.sqrt(determinant)
        return self.height2 * float(self.weight @ slope)


class Gated(_Mixture):
    """Σ w·x·Φ(s·x): gelu (Hendrycks & Gimpel 2016) and swish, also known as silu.

    By Stein's lemma in both arguments, for a pair of scales r, s with A = 1 + r²q, B = 1 + s²q,
    Δ = A·B - (r·s·q·c)² and P = E[Φ(ru)Φ(su')] = 1/4 + atan(r·s·q·c/√Δ)/(2π):

        E[φφ'] = q·c·P + r·s·q²/(2π√Δ)·(1 + c²(1/A + 1/B - 1))

    For r = s = 1 this is gelu's kernel (Tsuchida et al. 2021, Avoiding Kernel Fixed Points).
    """

    growth = 0.5

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        from scipy.special import ndtr

        return self.weights @ (ndtr(self.scales[:, None] * x) + x * self._density(x))

    def _second_moment(self, q: float, c: float) -> float:
        a, b, determinant = self._determinant(q, c)
        root = np.sqrt(determinant)
        both = 0.25 + np.arctan2(self.product * q * c, root) / (2 * math.pi)
        gates = self.product * q / (2 * math.pi * root) * (1 + c * c * (1 / a + 1 / b - 1))
        return q * float(self.weight @ (c * both + gates))

    def _derivative_moment(self, q: float, c: float) -> float:
        a, b, determinant = self._determinant(q, c)
        root = np.sqrt(determinant)
        both = 0.25 + np.arctan2(self.product * q * c, root) / (2 * math.pi)
        gates = self.product * q * c / (2 * math.pi * root) * (1 / a + 1 / b + 1 / determinant)
        return float(self.weight @ (both + gates))

    def _length_slope(self, q: float) -> float:
        a, b, determinant = self._determinant(q, 1.0)
        root = np.sqrt(determinant)
        both = 0.25 + np.arctan2(self.product * q, root) / (2 * math.pi)
        shares = 1 / a + 1 / b
        # s²q/A² and the like, with s²q written as A - 1, which stays exact.
        falls = (a - 1) / a**2 + (b - 1) / b**2 + shares * (a + b - 2) / (2 * determinant)
        gates = self.product * q / (2 * math.pi * root) * (2.5 * shares - falls)
        return float(self.weight @ (both + gates))


class Softplus(_Mixture):
    """log(1 + exp(βx))/β, an average of smoothed relus.

    Its derivative is the logistic function, P(n ≤ βx/(2K)) for n normal and K as above, so
    φ(x) = E[relu(x + 2K·n/β)]. E[φφ'] is therefore a sum of arc-cosine kernels of order 1 (Cho &
    Saul 2009, section 2.1) over pairs of K, with variances A = q + (2K/β)² and B = q + (2K'/β)² and
    covariance C = q·c.
    """

    growth = 0.5

    def __init__(self, name: str, beta: float = 1.0) -> None:
        k, weights = kolmogorov_rule()
        self.beta = beta
        super().__init__(name, lambda x: np.logaddexp(0, beta * x) / beta, beta / (2 * k), weights)
        self.logistic = Probit(
            "sigmoid", lambda x: 1 / (1 + np.exp(-x)), beta / (2 * k), weights, 0.5, 0.5
        )

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        return np.exp(-np.logaddexp(0, -self.beta * x))

    def _pairs(self, q: float, c: float) -> tuple[Array, Array, Array, Array]:
        """A, B, √(AB - C²) and the angle asin(C/√(AB)) for every pair of scales."""
        a, b = (q + 1 / square for square in self.square)
        # AB - C², written without cancelling terms.
        gap = 1 / self.square[0] / self.square[1] + q * (1 / self.square[0] + 1 / self.square[1])
        root = np.sqrt(gap + q * q * ((1 - c) * (1 + c)))
        return a, b, root, np.arctan2(q * c, root)

    def _second_moment(self, q: float, c: float) -> float:
        _, _, root, angle = self._pairs(q, c)
        return float(self.weight @ (root + q * c * (math.pi / 2 + angle))) / (2 * math.pi)

    def _derivative_moment(self, q: float, c: float) -> float:
        return self.logistic._second_moment(q, c)

    def _length_slope(self, q: float) -> float:
        # The derivatives of the kernel by A, B and C, each of which grows with q at rate one.
        a, b, root, angle = self._pairs(q, 1.0)
        slopes = root * (1 / a + 1 / b) / 2 + math.pi / 2 + angle
        return float(self.weight @ slopes) / (2 * math.pi)
