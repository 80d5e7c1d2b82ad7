"""Activation functions whose Gaussian mean has a closed form, which leaves one integral of two.

Given u, u' is normal with mean c·u and variance v = q(1 - c²). If T(m, v) = E[φ(m + √v·z)] has a
closed form, then E[φ(u)φ(u')] = E[φ(u)·T(c·u, v)] is an integral in one dimension.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
from scipy.special import erfcx, ndtr

from initstudy.quadrature import Array, gaussian_rule
from initstudy.theory.meanfield.activation import Activation

# Below this variance a function that is linear on both sides of zero equals its tangents there.
NEAR = 1e-150


def positive_part(mean: Array, std: float) -> Array:
    """E[max(x, 0)] for x normal."""
    z = mean / std
    return mean * ndtr(z) + std * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


class _Smoothed(Activation):
    """φ(0) = 0, with closed forms of E[φ(m + √v·z)] and E[φ'(m + √v·z)]."""

    @abstractmethod
    def _smooth(self, mean: Array, std: float) -> Array: ...

    @abstractmethod
    def _smooth_derivative(self, mean: Array, std: float) -> Array: ...

    def _rule(self, q: float, c: float) -> tuple[Array, Array, float]:
        std = math.sqrt(q * (1 - c) * (1 + c))
        marks, finest = self.marks, 1.0
        if std > 0 and c != 0:
            # The smoothed function varies where c·u is within std of a kink.
            marks = (*marks, *(mark / c for mark in marks))
            finest = min(1.0, std / abs(c))
        return *gaussian_rule(q, marks, finest), std

    def _second_moment(self, q: float, c: float) -> float:
        near = max(q, NEAR)
        x, weight, std = self._rule(near, c)
        other = self._smooth(c * x, std) if std else self.function(c * x)
        return float(weight @ (self.function(x) * other)) * (q / near)

    def _derivative_moment(self, q: float, c: float) -> float:
        x, weight, std = self._rule(max(q, NEAR), c)
        other = self._smooth_derivative(c * x, std) if std else self.derivative(c * x)
        return float(weight @ (self.derivative(x) * other))

    def _length_slope(self, q: float) -> float:
        near = max(q, NEAR)
        x, weight, _ = self._rule(near, 1.0)
        # E[φ'² + φφ''] with φ'' integrated by parts, since it has delta functions at the kinks.
        return float(weight @ (x * self.function(x) * self.derivative(x) / near))


class HardTanh(_Smoothed):
    """x between -1 and 1, and ±1 beyond."""

    name = "hard_tanh"
    growth = 0.0
    marks = (-1.0, 1.0)

    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x)."""
        return np.clip(x, -1, 1)

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        return (abs(x) < 1).astype(np.float64)

    def _smooth(self, mean: Array, std: float) -> Array:
        # The mean minus what is cut off, which avoids a difference of large numbers.
        return mean + positive_part(-1 - mean, std) - positive_part(mean - 1, std)

    def _smooth_derivative(self, mean: Array, std: float) -> Array:
        return ndtr((1 - abs(mean)) / std) - ndtr((-1 - abs(mean)) / std)


class ExponentialLinear(_Smoothed):
    """λx above zero and λα(exp(x) - 1) below: elu and selu.

    Clevert, Unterthiner & Hochreiter 2016, Fast and Accurate Deep Network Learning by Exponential
    Linear Units, section 3; Klambauer et al. 2017, Self-Normalizing Neural Networks, eq. 2.
    """

    # Below this size of the arguments a series keeps the digits that exp(x) - 1 loses in the closed
    # form; its next term is smaller than that by 1e-17.
    SMALL = 1e-3

    def __init__(self, name: str, alpha: float = 1.0, scale: float = 1.0) -> None:
        self.name, self.alpha, self.scale = name, alpha, scale
        self.growth = scale**2 / 2

    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x)."""
        return self.scale * np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        return self.scale * np.where(x > 0, 1.0, self.alpha * np.exp(np.minimum(x, 0)))

    def _smooth(self, mean: Array, std: float) -> Array:
        if max(std, float(np.max(np.abs(mean)))) < self.SMALL:
            below = self._series(mean, std)
        else:
            below = self._exponential(mean, std) - ndtr(-mean / std)
        return self.scale * (positive_part(mean, std) + self.alpha * below)

    def _smooth_derivative(self, mean: Array, std: float) -> Array:
        return self.scale * (ndtr(mean / std) + self.alpha * self._exponential(mean, std))

    @staticmethod
    def _exponential(mean: Array, std: float) -> Array:
        """E[exp(x)·1(x < 0)]."""
        z = mean / std
        edge = z + std
        inside = 0.5 * erfcx(np.maximum(edge, 0) / math.sqrt(2)) * np.exp(-z * z / 2)
        outside = np.exp(np.minimum(mean + std * std / 2, 0)) * ndtr(-edge)
        return np.where(edge > 0, inside, outside)

    @staticmethod
    def _series(mean: Array, std: float) -> Array:
        """E[(exp(x) - 1)·1(x < 0)] as Σ E[xᵏ·1(x < 0)]/k!, by the recursion of those moments."""
        before = ndtr(-mean / std)
        moment = -positive_part(-mean, std)
        total = moment.copy()
        factorial = 1.0
        for k in range(2, 6):
            before, moment = moment, mean * moment + (k - 1) * std * std * before
            factorial *= k
            total += moment / factorial
        return total
