"""The maps of a signal's length and correlation from layer to layer, and their fixed points."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from initstudy.quadrature import NODES, WEIGHTS
from initstudy.theory.meanfield.activation import Activation
from initstudy.theory.meanfield.checks import (
    require_correlation,
    require_number,
    require_positive,
    require_variances,
)
from initstudy.theory.meanfield.names import ActivationLike, resolve

# A factor per layer that differs from 1 by less counts as 1.
TOLERANCE = 1e-9
# Twenty lengths per decade bracket the fixed points. E[φ²] at these lengths is computed once per
# activation function and serves every pair of variances.
LENGTHS = np.logspace(-12, 8, 401).tolist()


def length_map(
    activation: ActivationLike,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> float:
    """The next layer's variance, σ_w²·E[φ(√q·z)²] + σ_b² (Poole et al. 2016, eq. 3).

    Args:
        activation: The activation function; see `resolve`.
        q: The variance of this layer's pre-activations.
        sigma_w2: The variance of the weights times fan_in.
        sigma_b2: The variance of the biases.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.length_map("relu", q=1.0, sigma_w2=2.0, sigma_b2=0.1)
        1.1
    """
    require_number("q", q, "a variance")
    require_variances(sigma_w2, sigma_b2)
    return sigma_w2 * resolve(activation).second_moment(q) + sigma_b2


def length_slope(activation: ActivationLike, q: float, sigma_w2: float) -> float:
    """The slope of the length map, σ_w²·E[φ'² + φφ''] (Schoenholz et al. 2017, eq. 7).

    Args:
        activation: The activation function; see `resolve`.
        q: The variance of this layer's pre-activations.
        sigma_w2: The variance of the weights times fan_in.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.length_slope("relu", q=1.0, sigma_w2=2.0)
        1.0
    """
    require_number("q", q, "a variance")
    require_variances(sigma_w2, 0.0)
    return sigma_w2 * resolve(activation).length_slope(q)


def correlation_map(
    activation: ActivationLike,
    c: float,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> float:
    """The next layer's correlation of two inputs of equal length (Poole et al. 2016, eq. 5).

    (σ_w²·E[φ(u)φ(u')] + σ_b²) / (σ_w²·E[φ(u)²] + σ_b²), with u, u' normal of variance q and
    correlation c. Off the fixed length the denominator is the next length, not q.

    Args:
        activation: The activation function; see `resolve`.
        c: The correlation of two inputs' pre-activations in this layer.
        q: The variance of this layer's pre-activations, above zero.
        sigma_w2: The variance of the weights times fan_in.
        sigma_b2: The variance of the biases; not both variances may be zero.

    Raises:
        ValueError: A variance is negative or not finite, the next length is zero, or the
            activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.correlation_map("relu", c=0.0, q=1.0, sigma_w2=2.0), 6)
        0.31831
    """
    require_correlation(c)
    require_positive("q", q)
    length = length_map(activation, q, sigma_w2, sigma_b2)
    require_positive("sigma_w2 + sigma_b2", sigma_w2 + sigma_b2)
    kernel = resolve(activation)
    return (sigma_w2 * kernel.second_moment(q, c) + sigma_b2) / length


def correlation_slope(activation: ActivationLike, c: float, q: float, sigma_w2: float) -> float:
    """The slope of the correlation map at a fixed length q, σ_w²·E[φ'(u)φ'(u')].

    At c = 1 this is χ₁ = σ_w²·E[φ'(√q·z)²], the factor per layer of a small difference between two
    inputs and of the squared gradient (Poole et al. 2016, eq. 6; Schoenholz et al. 2017, eq. 5).

    Args:
        activation: The activation function; see `resolve`.
        c: The correlation of two inputs' pre-activations in this layer.
        q: The variance of this layer's pre-activations.
        sigma_w2: The variance of the weights times fan_in.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.correlation_slope("relu", c=1.0, q=1.0, sigma_w2=2.0)
        1.0
    """
    require_correlation(c)
    require_number("q", q, "a variance")
    require_variances(sigma_w2, 0.0)
    return sigma_w2 * resolve(activation).derivative_moment(q, c)


def stable_length(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    start: float = 1.0,
) -> float:
    """q*, the limit of the length map from a first length (Poole et al. 2016, section 2).

    The length map grows with q, so its iterates approach the next fixed point without passing it.
    Most maps have a single stable fixed point; those of gelu and swish may have two, with and
    without biases. If every q is fixed (relu, leaky_relu and linear at criticality without biases),
    the limit is `start`. For hard_tanh at criticality without biases it is 0.013: below that length
    hard_tanh clips so rarely that a double cannot distinguish the map from the identity.

    Args:
        activation: The activation function; see `resolve`.
        sigma_w2: The variance of the weights times fan_in.
        sigma_b2: The variance of the biases.
        start: The first layer's length, above zero; 1 for standardized inputs.

    Returns:
        The length; 0 if the signal vanishes, inf if it explodes.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.stable_length("relu", sigma_w2=1.0, sigma_b2=0.1), 6)
        0.2
        >>> meanfield.stable_length("relu", sigma_w2=3.0)
        inf
    """
    require_variances(sigma_w2, sigma_b2)
    require_positive("start", start)
    kernel = resolve(activation)
    if kernel.homogeneous:
        return _line(sigma_w2 * kernel.growth, sigma_b2, float(start))
    return _limit(kernel, sigma_w2, sigma_b2, float(start))


def _limit(kernel: Activation, sigma_w2: float, sigma_b2: float, start: float) -> float:
    """The fixed point of the length map that its iterates approach from a first length."""

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
        # The map of zero lies below the fixed point, and half of it does so despite rounding.
        return find_root(excess, excess(0.0) / 2, before) if excess(0.0) > 0 else 0.0
    if sigma_w2 * kernel.growth >= 1 - TOLERANCE:
        return math.inf
    after = before
    while excess(after) > 0:
        before, after = after, 4 * after
    return find_root(excess, before, after)


def stable_correlation(
    activation: ActivationLike,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> float:
    """c*, the stable fixed point of the correlation map (Poole et al. 2016, section 2).

    E[φ(u)φ(u')] is a power series in c without negative coefficients, so the map is convex on
    [0, 1]: for χ₁ ≤ 1 its only fixed point is 1, and for χ₁ > 1 there is exactly one below.
    Newton's method from c = 0 approaches that fixed point from the left and never passes it.

    Args:
        activation: The activation function; see `resolve`.
        q: The fixed length. The result for 0 is the limit of vanishing biases, and for inf that of
            biases of vanishing relative size; both are 1.
        sigma_w2: The variance of the weights times fan_in.
        sigma_b2: The variance of the biases.

    Returns:
        The correlation, in [0, 1]. It is 1 if every c is fixed (linear without biases).

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> q = meanfield.stable_length("tanh", sigma_w2=2.0, sigma_b2=0.1)
        >>> round(meanfield.stable_correlation("tanh", q, sigma_w2=2.0, sigma_b2=0.1), 3)
        0.988
    """
    if q != math.inf:
        require_number("q", q, "a variance")
    require_variances(sigma_w2, sigma_b2)
    kernel = resolve(activation)
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
    """The number of layers over which a deviation changes e-fold.

    Args:
        factor: The factor per layer by which the deviation changes, at least zero.

    Returns:
        1/|log factor|; inf for a factor of 1, 0 for a factor of 0.
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
def _moments(kernel: Activation) -> list[tuple[float, float]]:
    return [(q, kernel.second_moment(q)) for q in LENGTHS]


def _mean_slope(kernel: Activation, q: float, c: float) -> float:
    """The mean of E[φ'φ'] from c to 1: the fall of E[φφ'] without subtracting near equals."""
    # Squared nodes, because for a φ with a kink the slope falls from c = 1 as a square root.
    s, weights = (NODES + 1) / 2, WEIGHTS / 2
    slopes = [kernel.derivative_moment(q, 1 - (1 - c) * node * node) for node in s.tolist()]
    return float(weights @ (2 * s * slopes))


def find_root(excess: Callable[[float], float], low: float, high: float) -> float:
    """The argument at which a function changes sign, to rounding.

    Args:
        excess: A continuous function.
        low: An argument on one side of the root.
        high: An argument on the other side.
    """
    from scipy.optimize import brentq

    return float(brentq(excess, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps))
