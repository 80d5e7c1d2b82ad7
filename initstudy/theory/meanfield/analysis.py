"""One call for everything that depth does to a signal, and where it does nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from initstudy.theory.meanfield.activations import resolve
from initstudy.theory.meanfield.checks import require_number, require_variances
from initstudy.theory.meanfield.kernels import FAR, Kernel
from initstudy.theory.meanfield.maps import (
    LENGTHS,
    TOLERANCE,
    depth_scale,
    find_root,
    stable_correlation,
    stable_length,
)


@dataclass(frozen=True)
class Propagation:
    """How a signal propagates through many layers of one kind.

    Attributes:
        q: The stable variance of the pre-activations; 0 where it dies out, inf where it explodes.
        c: The stable correlation of two inputs.
        chi1: The factor of a small difference between two inputs, and of the squared gradient.
        xi_q: Layers in which the distance to q shrinks e-fold; where q is inf, in which the length
            grows e-fold.
        xi_c: Layers in which the distance to c shrinks e-fold; inf where it shrinks as a power.
        phase: "ordered" for chi1 < 1, "chaotic" for chi1 > 1, "critical" at 1.
    """

    q: float
    c: float
    chi1: float
    xi_q: float
    xi_c: float
    phase: str

    @property
    def depth_scale(self) -> float:
        """Layers over which the input is forgotten e-fold: xi_c, or xi_q where q is inf.

        Networks train down to about six of them (Schoenholz et al. 2017, section 5 and Fig. 5). A
        relu's signal that explodes has no q to approach; its squared length and its squared
        gradient then change e-fold in xi_q.
        """
        return self.xi_q if self.q == math.inf else self.xi_c


def analyze(
    activation: str,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    *,
    negative_slope: float = 0.01,
    start: float = 1.0,
) -> Propagation:
    """Fixed points, depth scales and phase of a deep network at initialization.

    χ₁ = σ_w²·E[φ'(√q*·z)²] (Schoenholz et al. 2017, eq. 5); 1/ξ_q = -log(χ₁ + σ_w²·E[φφ'']) and
    1/ξ_c = -log(σ_w²·E[φ'(u)φ'(u')]) at q*, c* (their eq. 7 and 9). Within 1e-9 of 1, χ₁ is taken
    for critical.

    Without biases q* may be 0; all values are then the limits for vanishing biases: c* = 1, and
    1/ξ_c = -log χ₁. Where q* is inf, the biases do not matter and the activation is its own
    asymptote, a relu or a straight line: c* = 1, which is approached as a power of the depth.

    Args:
        activation: One of `KNOWN`.
        sigma_w2: Variance of the weights times fan_in; of a convolution, fan_in is k²·channels.
        sigma_b2: Variance of the biases.
        negative_slope: Of "leaky_relu".
        start: The first layer's length, where the limit depends on it; see `stable_length`.

    Raises:
        ValueError: A variance is negative or not finite, or the activation is not known.
    """
    require_variances(sigma_w2, sigma_b2)
    # NumPy's numbers would warn of an overflow where Python's are inf.
    sigma_w2, sigma_b2 = float(sigma_w2), float(sigma_b2)
    q = stable_length(activation, sigma_w2, sigma_b2, negative_slope=negative_slope, start=start)
    kernel = resolve(activation, negative_slope)
    chi1 = sigma_w2 * kernel.derivative_moment(q)
    c = stable_correlation(activation, q, sigma_w2, sigma_b2, negative_slope=negative_slope)
    decay = 1.0 if q == math.inf else sigma_w2 * kernel.derivative_moment(q, c)
    phase = "critical"
    if abs(chi1 - 1) > TOLERANCE:
        phase = "ordered" if chi1 < 1 else "chaotic"
    return Propagation(
        q, c, chi1, depth_scale(sigma_w2 * kernel.length_slope(q)), depth_scale(decay), phase
    )


def critical_sigma_w2(
    activation: str, sigma_b2: float = 0.0, *, negative_slope: float = 0.01
) -> float:
    """The weight variance times fan_in at the edge of chaos: χ₁ = 1 at a stable length.

    Along the edge σ_w² = 1/E[φ'²] and σ_b² = q - E[φ²]/E[φ'²], both functions of q alone, which
    leaves one equation in q (Hayou et al. 2019, On the Impact of the Activation Function on Deep
    Neural Networks Training).

    relu, leaky_relu and linear have χ₁ = 1 at the same σ_w² for every σ_b²; with biases the length
    then grows by σ_b² a layer, and q* is inf.

    Args:
        activation: One of `KNOWN`.
        sigma_b2: Variance of the biases.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: The variance is negative or not finite, the activation is not known, or with
            such biases no length is both critical and stable: gelu below σ_b² = 0.173 and swish
            below 0.555 go from order to chaos in one jump of q* (Roberts et al. 2022, The
            Principles of Deep Learning Theory, section 5.3.4).
    """
    require_number("sigma_b2", sigma_b2, "a variance")
    kernel = resolve(activation, negative_slope)
    if kernel.homogeneous:
        return 1 / kernel.growth
    edge = _edge(kernel)
    low, least = edge[0]
    if sigma_b2 < least:
        raise ValueError(
            f"meanfield.sigma_b2={sigma_b2}: {activation} has no stable critical length below "
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
def _edge(kernel: Kernel) -> list[tuple[float, float]]:
    """Lengths and bias variances along the edge of chaos, from the least stable length on."""
    excess = [_edge_slope(kernel, q) - 1 for q in LENGTHS]
    unstable = [i for i, above in enumerate(excess) if above > TOLERANCE]
    if unstable:
        last = unstable[-1]
        low = find_root(lambda q: _edge_slope(kernel, q) - 1, *LENGTHS[last : last + 2])
        lengths = [low, *LENGTHS[last + 1 :]]
    else:
        lengths = [0.0, *LENGTHS]
    return [(q, _edge_bias(kernel, q)) for q in lengths]


def _edge_bias(kernel: Kernel, q: float) -> float:
    return q - kernel.second_moment(q) / kernel.derivative_moment(q)


def _edge_slope(kernel: Kernel, q: float) -> float:
    """The slope of the length map where χ₁ = 1."""
    return kernel.length_slope(q) / kernel.derivative_moment(q)
