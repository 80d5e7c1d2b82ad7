"""Activations made of Gaussian distribution functions Φ: closed forms, or sums of them.

erf and gelu are one Φ. The logistic function is a mixture of them over a scale: if K has
Kolmogorov's distribution, P(K ≤ k) = 1 - 2·Σ (-1)ⁿ⁺¹ exp(-2n²k²), then E[Φ(x/(2K))] is
1/(1 + exp(-x)) (Andrews & Mallows 1974, Scale Mixtures of Normal Distributions; Stefanski
1991, A normal scale mixture representation of the logistic distribution). Hence tanh,
sigmoid and swish are sums over a fixed rule for K, exact to rounding at every q and c, where a
quadrature in two dimensions would be slow and fail at large q or at c near 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from initstudy.theory.meanfield.kernels import Kernel
from initstudy.theory.meanfield.quadrature import Array


def kolmogorov_rule() -> tuple[Array, Array]:
    """Nodes K and weights of Kolmogorov's distribution: trapezoids in log K.

    The density falls doubly exponentially on both sides, so trapezoids converge exponentially;
    28 of them give tanh to 2e-15.
    """
    step = 0.12
    k = np.exp(np.arange(math.log(0.16), math.log(4.6), step))
    n = np.arange(1, 20)[:, None]
    # Jacobi's two series for the same density, each where it converges fast.
    upper = (8 * (-1.0) ** (n + 1) * n * n * np.exp(-2 * n * n * k * k)).sum(0) * k
    m = (2 * n - 1) ** 2 * math.pi**2 / 8 / k**2
    lower = math.sqrt(2 * math.pi) * (np.exp(-m) * (2 * m - 1)).sum(0) / k**2
    return k, np.where(k > 0.9, upper, lower) * k * step


class _Mixture(Kernel):
    """Σ w·f(s·x) over scales s and weights w; the kernel is a sum over pairs of scales."""

    def __init__(self, function: Callable[[Array], Array], scales: Array, weights: Array) -> None:
        self._function = function
        self.scales, self.weights = scales, weights
        first, second = np.triu_indices(len(scales))
        self.square = scales[first] ** 2, scales[second] ** 2
        self.product = scales[first] * scales[second]
        # Each pair of two scales stands for both of its orders.
        self.weight = weights[first] * weights[second] * np.where(first == second, 1, 2)

    def function(self, x: Array) -> Array:
        """The activation itself, φ(x)."""
        return self._function(x)

    def _density(self, x: Array) -> Array:
        """s·Φ'(s·x), a row a scale."""
        scaled = self.scales[:, None] * x
        return self.scales[:, None] * np.exp(-scaled * scaled / 2) / math.sqrt(2 * math.pi)

    def _determinant(self, q: float, c: float) -> tuple[Array, Array, Array]:
        """1 + s²q for each scale of the pairs, and the determinant of 1 + diag(s²)·covariance."""
        a, b = self.square
        # Written without differences, so that no digit is lost at large q or at c near 1.
        spread = (self.product * q) ** 2 * ((1 - c) * (1 + c))
        return 1 + a * q, 1 + b * q, 1 + (a + b) * q + spread


class Probit(_Mixture):
    """offset + height·Σ w·(2Φ(s·x) - 1): erf, tanh and sigmoid.

    Williams 1997, Computing with Infinite Networks, eq. 11: for one scale the kernel is
    (2/π)·asin(s²qc/(1 + s²q)).
    """

    growth = 0.0

    def __init__(
        self,
        function: Callable[[Array], Array],
        scales: Array,
        weights: Array,
        offset: float = 0.0,
        height: float = 1.0,
    ) -> None:
        super().__init__(function, scales, weights)
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

    For r = s = 1 this is the kernel of gelu in Tsuchida et al. 2021, Avoiding Kernel Fixed Points.
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
        # s²q/A² and the like, as differences of shares that stay exact: s²q = A - 1.
        falls = (a - 1) / a**2 + (b - 1) / b**2 + shares * (a + b - 2) / (2 * determinant)
        gates = self.product * q / (2 * math.pi * root) * (2.5 * shares - falls)
        return float(self.weight @ (both + gates))
