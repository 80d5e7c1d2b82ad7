"""Fixed points, depth scales and phases of deep networks, and the edge of chaos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from initstudy.theory.meanfield.activation import FAR, Activation
from initstudy.theory.meanfield.checks import require_number, require_variances
from initstudy.theory.meanfield.maps import (
    LENGTHS,
    TOLERANCE,
    depth_scale,
    find_root,
    stable_correlation,
    stable_length,
)
from initstudy.theory.meanfield.names import ActivationLike, resolve


@dataclass(frozen=True)
class Propagation:
    """How a signal propagates through many identical layers.

    Attributes:
        q: The stable variance of the pre-activations; 0 if the signal vanishes, inf if it explodes.
        c: The stable correlation of two inputs.
        chi1: The factor per layer of a small squared difference between two inputs, and of the
            squared gradient.
        xi_q: The number of layers over which the distance to q shrinks e-fold; if q is inf, over
            which the length grows e-fold.
        xi_c: The number of layers over which the distance to c shrinks e-fold; inf if it shrinks
            only as a power of the depth.
        phase: "ordered" for chi1 < 1, "chaotic" for chi1 > 1, "critical" at 1.

    Example:
        >>> from initstudy.theory import meanfield
        >>> tanh = meanfield.analyze("tanh", sigma_w2=1.0, sigma_b2=0.0)
        >>> tanh.phase, tanh.q, round(tanh.chi1, 3)
        ('critical', 0.0, 1.0)
    """

    q: float
    c: float
    chi1: float
    xi_q: float
    xi_c: float
    phase: str

    @property
    def depth_scale(self) -> float:
        """The number of layers over which the input is forgotten e-fold: xi_c, or xi_q if q is inf.

        Networks train up to a depth of about six of these (Schoenholz et al. 2017, section 5 and
        Fig. 5). If the signal explodes, it has no q to approach; its squared length and squared
        gradient then change e-fold over xi_q layers.
        """
        return self.xi_q if self.q == math.inf else self.xi_c


def analyze(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    start: float = 1.0,
) -> Propagation:
    """Fixed points, depth scales and phase of a deep network at initialization.

    χ₁ = σ_w²·E[φ'(√q*·z)²] (Schoenholz et al. 2017, eq. 5); 1/ξ_q = -log(χ₁ + σ_w²·E[φφ'']) and
    1/ξ_c = -log(σ_w²·E[φ'(u)φ'(u')]) at q*, c* (their eq. 7 and 9). χ₁ counts as critical if it
    is within 1e-9 of 1.

    Without biases q* may be 0; the values are then the limits for vanishing biases, with c* = 1 and
    1/ξ_c = -log χ₁. If q* is inf, the biases do not matter and the activation function equals its
    asymptotes, two half-lines: c* = 1, which is approached as a power of the depth.

    Args:
        activation: The activation function; see `resolve`.
        sigma_w2: The variance of the weights times fan_in, which is k²·channels for a convolution.
        sigma_b2: The variance of the biases.
        start: The first layer's length, on which the limit may depend; see `stable_length`.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> tanh = meanfield.analyze("tanh", sigma_w2=1.5, sigma_b2=0.05)
        >>> tanh.phase, round(tanh.q, 3), round(tanh.depth_scale, 1)
        ('ordered', 0.418, 15.8)
    """
    require_variances(sigma_w2, sigma_b2)
    # NumPy's scalars warn of an overflow; Python's become inf.
    sigma_w2, sigma_b2 = float(sigma_w2), float(sigma_b2)
    q = stable_length(activation, sigma_w2, sigma_b2, start=start)
    kernel = resolve(activation)
    chi1 = sigma_w2 * kernel.derivative_moment(q)
    c = stable_correlation(activation, q, sigma_w2, sigma_b2)
    decay = 1.0 if q == math.inf else sigma_w2 * kernel.derivative_moment(q, c)
    phase = "critical"
    if abs(chi1 - 1) > TOLERANCE:
        phase = "ordered" if chi1 < 1 else "chaotic"
    return Propagation(
        q, c, chi1, depth_scale(sigma_w2 * kernel.length_slope(q)), depth_scale(decay), phase
    )


def critical_sigma_w2(activation: ActivationLike, sigma_b2: float = 0.0) -> float:
    """The weight variance times fan_in at the edge of chaos, where χ₁ = 1 at a stable length.

    Along the edge σ_w² = 1/E[φ'²] and σ_b² = q - E[φ²]/E[φ'²], both of which depend on q alone;
    this solves the second equation for q (Hayou et al. 2019, On the Impact of the Activation
    Function on Deep Neural Networks Training).

    relu, leaky_relu and linear have χ₁ = 1 at the same σ_w² for every σ_b²; with biases the length
    then grows by σ_b² per layer, and q* is inf.

    Args:
        activation: The activation function; see `resolve`.
        sigma_b2: The variance of the biases.

    Raises:
        ValueError: The variance is negative or not finite, the activation is not known, or no
            length is both critical and stable for this variance of the biases: gelu below σ_b² =
            0.173 and swish below 0.555 pass from order to chaos by a jump of q* (Roberts et al.
            2022, The Principles of Deep Learning Theory, section 5.3.4).

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.critical_sigma_w2("relu")
        2.0
        >>> round(meanfield.critical_sigma_w2("tanh", sigma_b2=0.05), 2)
        1.76
    """
    require_number("sigma_b2", sigma_b2, "a variance")
    kernel = resolve(activation)
    if kernel.homogeneous:
        return 1 / kernel.growth
    edge = _edge(kernel)
    low, least = edge[0]
    if sigma_b2 < least:
        raise ValueError(
            f"meanfield.sigma_b2={sigma_b2}: {kernel.name} has no stable critical length below "
            f"sigma_b2={least:.6g}"
        )
    for q, bias in edge:
        if bias >= sigma_b2:
            break
        low = q
    while _edge_bias(kernel, q) < sigma_b2 and q < FAR:
        low, q = q, 4 * q
    if low < q < FAR:
        q = find_root(lambda q: _edge_bias(kernel, q) - sigma_b2, low, q)
    return 1 / kernel.derivative_moment(q)


@cache
def _edge(kernel: Activation) -> list[tuple[float, float]]:
    """Lengths and bias variances along the edge of chaos, from the smallest stable length on."""
    excess = [_edge_slope(kernel, q) - 1 for q in LENGTHS]
    unstable = [i for i, above in enumerate(excess) if above > TOLERANCE]
    if unstable:
        last = unstable[-1]
        low = find_root(lambda q: _edge_slope(kernel, q) - 1, *LENGTHS[last : last + 2])
        lengths = [low, *LENGTHS[last + 1 :]]
    else:
        lengths = [0.0, *LENGTHS]
    return [(q, _edge_bias(kernel, q)) for q in lengths]


def _edge_bias(kernel: Activation, q: float) -> float:
    return q - kernel.second_moment(q) / kernel.derivative_moment(q)


def _edge_slope(kernel: Activation, q: float) -> float:
    """The slope of the length map if χ₁ = 1."""
    return kernel.length_slope(q) / kernel.derivative_moment(q)
