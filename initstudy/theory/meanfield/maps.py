"""The length map and the correlation map, and where they come to rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from initstudy.theory.meanfield.activations import resolve
from initstudy.theory.meanfield.checks import (
    require_correlation,
    require_number,
    require_positive,
    require_variances,
)
from initstudy.theory.meanfield.kernels import Kernel
from initstudy.theory.meanfield.quadrature import NODES, WEIGHTS

# How far from 1 a factor per layer must be to be told from 1.
TOLERANCE = 1e-9
# Twenty lengths a decade bracket the fixed points; E[φ²] there serves every pair of variances.
LENGTHS = np.logspace(-12, 8, 401).tolist()


def length_map(
    activation: str,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    negative_slope: float = 0.01,
) -> float:
    """The next layer's variance, σ_w²·E[φ(√q·z)²] + σ_b² (Poole et al. 2016, eq. 3).

    Args:
        activation: One of `KNOWN`.
        q: Variance of this layer's pre-activations.
        sigma_w2: Variance of the weights times fan_in.
        sigma_b2: Variance of the biases.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    require_number("q", q, "a variance")
    require_variances(sigma_w2, sigma_b2)
    return sigma_w2 * resolve(activation, negative_slope).second_moment(q) + sigma_b2


def length_slope(
    activation: str, q: float, sigma_w2: float, *, negative_slope: float = 0.01
) -> float:
    """The slope of the length map, σ_w²·E[φ'² + φφ''] (Schoenholz et al. 2017, eq. 7).

    Args:
        activation: One of `KNOWN`.
        q: Variance of this layer's pre-activations.
        sigma_w2: Variance of the weights times fan_in.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    require_number("q", q, "a variance")
    require_variances(sigma_w2, 0.0)
    return sigma_w2 * resolve(activation, negative_slope).length_slope(q)


def correlation_map(
    activation: str,
    c: float,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    negative_slope: float = 0.01,
) -> float:
    """The next layer's correlation of two inputs of equal length (Poole et al. 2016, eq. 5).

    (σ_w²·E[φ(u)φ(u')] + σ_b²) / (σ_w²·E[φ(u)²] + σ_b²), with u, u' normal of variance q and
    correlation c. Off the fixed length the denominator is the next length, not q.

    Args:
        activation: One of `KNOWN`.
        c: Correlation of this layer's pre-activations.
        q: Their variance, above zero.
        sigma_w2: Variance of the weights times fan_in.
        sigma_b2: Variance of the biases; not both variances may be zero.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: A variance is negative or not finite, the next length is zero, or the
            activation is not known.
    """
    require_correlation(c)
    require_positive("q", q)
    length = length_map(activation, q, sigma_w2, sigma_b2, negative_slope=negative_slope)
    require_positive("sigma_w2 + sigma_b2", sigma_w2 + sigma_b2)
    kernel = resolve(activation, negative_slope)
    return (sigma_w2 * kernel.second_moment(q, c) + sigma_b2) / length


def correlation_slope(
    activation: str, c: float, q: float, sigma_w2: float, *, negative_slope: float = 0.01
) -> float:
    """The slope of the correlation map at a fixed length q, σ_w²·E[φ'(u)φ'(u')].

    At c = 1 it is χ₁ = σ_w²·E[φ'(√q·z)²], by which a small difference of two inputs and the squared
    gradient grow per layer (Poole et al. 2016, eq. 6; Schoenholz et al. 2017, eq. 5).

    Args:
        activation: One of `KNOWN`.
        c: Correlation of this layer's pre-activations.
        q: Their variance.
        sigma_w2: Variance of the weights times fan_in.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    require_correlation(c)
    require_number("q", q, "a variance")
    require_variances(sigma_w2, 0.0)
    return sigma_w2 * resolve(activation, negative_slope).derivative_moment(q, c)


def stable_length(
    activation: str,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    negative_slope: float = 0.01,
    start: float = 1.0,
) -> float:
    """q*, the limit of the length map from a first length (Poole et al. 2016, section 2).

    Every length map here grows with q, so its iterates run to the next fixed point without passing
    it. Most have a single stable one; gelu and swish may have two, with and without biases. Where
    every q is fixed (relu, leaky_relu and linear at criticality without biases) it is `start`; and
    where hard_tanh is critical without biases, a length of 0.013, below which it clips so seldom
    that a double cannot tell the map from a fixed one.

    Args:
        activation: One of `KNOWN`.
        sigma_w2: Variance of the weights times fan_in.
        sigma_b2: Variance of the biases.
        negative_slope: Of "leaky_relu".
        start: The first length, above zero; 1 is that of standardized inputs.

    Returns:
        The length; 0 where the signal dies out, inf where it explodes.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    require_variances(sigma_w2, sigma_b2)
    require_positive("start", start)
    kernel = resolve(activation, negative_slope)
    start = float(start)
    if kernel.homogeneous:
        return _line(sigma_w2 * kernel.growth, sigma_b2, start)

    def excess(q: float) -> float:
        return sigma_w2 * kernel.second_moment(q) + sigma_b2 - q

    here = excess(start)
    if here == 0:
        return start
    step = 1 if here > 0 else -1
    before = start
    for q, moment in _moments(kernel)[::step]:
        if step * (q - start) > 0:
            if step * (sigma_w2 * moment + sigma_b2 - q) <= 0:
                return find_root(excess, before, q)
            before = q
    if step < 0:
        # The map of zero is below the fixed point, and half of it is so beyond rounding.
        return find_root(excess, excess(0.0) / 2, before) if excess(0.0) > 0 else 0.0
    if sigma_w2 * kernel.growth >= 1 - TOLERANCE:
        return math.inf
    after = before
    while excess(after) > 0:
        before, after = after, 4 * after
    return find_root(excess, before, after)


def stable_correlation(
    activation: str,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    negative_slope: float = 0.01,
) -> float:
    """c*, the stable fixed point of the correlation map (Poole et al. 2016, section 2).

    The kernel is a power series in c with coefficients that are not negative, so the map is convex
    on [0, 1]: at χ₁ ≤ 1 it has no fixed point but 1, at χ₁ > 1 exactly one below. Newton's method
    from c = 0 approaches that one from the left and never passes it.

    Args:
        activation: One of `KNOWN`.
        q: The fixed length. At 0 the answer is that for vanishing biases, and at inf that for
            vanishing relative biases; both are 1.
        sigma_w2: Variance of the weights times fan_in.
        sigma_b2: Variance of the biases.
        negative_slope: Of "leaky_relu".

    Returns:
        The correlation, in [0, 1]. It is 1 where every c is fixed (linear without biases).

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    if q != math.inf:
        require_number("q", q, "a variance")
    require_variances(sigma_w2, sigma_b2)
    kernel = resolve(activation, negative_slope)
    if q in (0, math.inf) or sigma_w2 * kernel.derivative_moment(q) <= 1 + TOLERANCE:
        return 1.0
    c = 0.0
    for _ in range(200):
        if 1 - c > 1e-6:
            excess = (sigma_w2 * kernel.second_moment(q, c) + sigma_b2) / q - c
        else:
            excess = (1 - c) * (1 - sigma_w2 * _mean_slope(kernel, q, c))
        slope = sigma_w2 * kernel.derivative_moment(q, c) - 1
        after = min(c - excess / slope, 1.0) if excess > 0 > slope else c
        if after == c:
            break
        c = after
    return c


def depth_scale(factor: float) -> float:
    """Layers in which a deviation that changes by a factor per layer changes e-fold.

    Returns:
        1/|log factor|; inf at 1, 0 at 0.
    """
    if abs(factor - 1) <= TOLERANCE:
        return math.inf
    return 1 / abs(math.log(factor)) if factor > 0 else 0.0


def _line(slope: float, sigma_b2: float, start: float) -> float:
    """The limit of q → slope·q + σ_b²."""
    if abs(slope - 1) <= TOLERANCE:
        return math.inf if sigma_b2 > 0 else start
    return sigma_b2 / (1 - slope) if slope < 1 else math.inf


@cache
def _moments(kernel: Kernel) -> list[tuple[float, float]]:
    return [(q, kernel.second_moment(q)) for q in LENGTHS]


def _mean_slope(kernel: Kernel, q: float, c: float) -> float:
    """The mean of E[φ'φ'] from c to 1: the drop of E[φφ'] without the difference of near equals."""
    # Squared nodes, for with a kink in φ the slope falls from c = 1 as a square root.
    s, weights = (NODES + 1) / 2, WEIGHTS / 2
    slopes = [kernel.derivative_moment(q, 1 - (1 - c) * node * node) for node in s.tolist()]
    return float(weights @ (2 * s * slopes))


def find_root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where a function changes its sign between two arguments, to the last digits."""
    from scipy.optimize import brentq

    return float(brentq(excess, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps))
