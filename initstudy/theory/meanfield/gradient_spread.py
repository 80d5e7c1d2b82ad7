"""How far gradients in networks of finite width stray from the prediction for infinite width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from initstudy.theory.meanfield.activations import resolve
from initstudy.theory.meanfield.checks import require_number
from initstudy.theory.meanfield.kernels import FAR, Kernel
from initstudy.theory.meanfield.layers import (
    Backward,
    Layer,
    backward_variances,
    forward_variances,
    require_layers,
)
from initstudy.theory.meanfield.quadrature import Array, gaussian_rule
from initstudy.theory.meanfield.spread import log_normal_edges

# Below it every activation is its own limit; a quadrature needs a Gaussian of some width.
NEAR = 1e-30


@dataclass(frozen=True)
class BackwardBand:
    """Where the mean squares of a network's gradients lie, layer by layer."""

    low: Backward
    high: Backward


@dataclass(frozen=True)
class _Moments:
    """What one layer adds, in logarithms: how it passes a change of q on, and its own noise.

    Attributes:
        forward, backward: Derivative of ln E[φ²] and of ln E[φ'²] by ln q.
        values, slopes: n times the variance of the mean over n units of φ², and of φ'²·y² with an
            independent normal y, relative to the squared mean.
        both: n times their covariance, likewise.
    """

    forward: float
    backward: float
    values: float
    slopes: float
    both: float


def backward_spread(
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    negative_slope: float = 0.01,
) -> Backward:
    """Relative variances, over draws of the weights, of each layer's mean squared gradients.

    To leading order in 1/width the logarithm of a layer's mean squared gradient is a sum over
    layers. With q the variance of a layer's pre-activations, χ(q) = E[φ'²], G(q) = E[φ²] and n its
    units, the gradient p by the pre-activations and the mean square M of the activations obey

        δ ln p = δ ln p of the layer above + (q·χ'/χ)·δ ln q + noise, 3·E[φ'⁴]/χ² - 1 over n
        δ ln M = (q·G'/G)·δ ln q + noise, E[φ⁴]/G² - 1 over n
        δ ln q of the next = (1 - σ_b²/q)·δ ln M

    and the two noises of a layer covary by (E[φ²φ'²]/(G·χ) - 1)/n. For relu χ does not depend on q
    and both noises are 5/n: the product of 1 + 5/n is that of `relu_spread` (for gradients: Hanin
    2018, Which Neural Net Architectures Give Rise to Exploding and Vanishing Gradients; for the
    order of the corrections, Roberts et al. 2022, The Principles of Deep Learning Theory, chapter
    9). As in `backward_variances` the weights of the way back count as independent of those of the
    way forward, and the gradient at the last layer is given.

    Args:
        activation: One of `KNOWN`.
        layers: In the order of the signal.
        input_second_moment: Mean square of the input's entries.
        negative_slope: Of "leaky_relu".

    Returns:
        Var/mean² of the mean over a layer's units, inputs and weights.

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.
    """
    require_layers(layers)
    kernel = resolve(activation, negative_slope)
    mean = forward_variances(
        activation, layers, input_second_moment=input_second_moment, negative_slope=negative_slope
    )
    moments = [_moments(kernel, q) for q in mean.pre_activations]
    covariance = _covariance(moments, layers)
    count = len(layers)
    # Rows: what each noise, first those of the values and then those of the slopes, adds up to.
    noise = np.eye(2 * count)
    by_q, by_value = np.zeros((count, 2 * count)), np.zeros((count, 2 * count))
    for k, (layer, q) in enumerate(zip(layers, mean.pre_activations, strict=True)):
        if k > 0 and q > 0:
            by_q[k] = max(0.0, 1 - layer.sigma_b2 / q) * by_value[k - 1]
        by_value[k] = moments[k].forward * by_q[k] + noise[k]
    back = np.zeros((count, 2 * count))
    for k in reversed(range(count - 1)):
        back[k] = back[k + 1] + moments[k].backward * by_q[k] + noise[count + k]
    reads = np.vstack([np.zeros(2 * count), by_value[:-1]])
    entries = [layer.fan_in if k == 0 else layers[k - 1].width for k, layer in enumerate(layers)]
    logs = _quadratic(back, covariance)
    inputs = logs + np.log1p(2 / np.array(entries))
    weights = _quadratic(back + reads, covariance)
    return Backward(*(tuple(np.expm1(x).tolist()) for x in (logs, inputs, weights)))


def backward_band(
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    output_gradient: float = 1.0,
    deviations: float = 2.0,
    negative_slope: float = 0.01,
) -> BackwardBand:
    """Where a network's mean squared gradients lie around `backward_variances`.

    The band of a log-normal, as that of `forward_band`.

    Args:
        activation: One of `KNOWN`.
        layers: In the order of the signal.
        input_second_moment: Mean square of the input's entries.
        output_gradient: Mean square of the gradient by the last layer's pre-activations.
        deviations: Half the band's width in standard deviations; 2 hold 95% of the networks.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: There is no layer, a number is negative or not finite, or the activation is not
            known.
    """
    require_number("deviations", deviations, "a number of deviations")
    mean = backward_variances(
        activation,
        layers,
        input_second_moment=input_second_moment,
        output_gradient=output_gradient,
        negative_slope=negative_slope,
    )
    spread = backward_spread(
        activation, layers, input_second_moment=input_second_moment, negative_slope=negative_slope
    )

    def edge(side: float) -> Backward:
        return Backward(
            log_normal_edges(mean.pre_activations, spread.pre_activations, side),
            log_normal_edges(mean.inputs, spread.inputs, side),
            log_normal_edges(mean.weights, spread.weights, side),
        )

    return BackwardBand(edge(-deviations), edge(deviations))


def _moments(kernel: Kernel, q: float) -> _Moments:
    q = min(max(q, NEAR), FAR)
    x, weight = gaussian_rule(q, kernel.marks, 0.5)
    value, slope = kernel.function(x) ** 2, kernel.derivative(x) ** 2
    g, chi = float(weight @ value), float(weight @ slope)
    # The derivative of E[h(√q·z)] by ln q is E[h·(z² - 1)]/2.
    by_log_q = weight * (x * x / q - 1) / 2
    return _Moments(
        forward=float(by_log_q @ value) / g,
        backward=0.0 if kernel.homogeneous else float(by_log_q @ slope) / chi,
        values=float(weight @ value**2) / g**2 - 1,
        slopes=3 * float(weight @ slope**2) / chi**2 - 1,
        both=float(weight @ (value * slope)) / (g * chi) - 1,
    )


def _covariance(moments: Sequence[_Moments], layers: Sequence[Layer]) -> Array:
    """Of the noises' logarithms; a log-normal's relative variance v has log-variance ln(1 + v)."""
    units = np.array([layer.width for layer in layers])
    values, slopes, both = (
        np.log1p(np.array([getattr(m, name) for m in moments]) / units)
        for name in ("values", "slopes", "both")
    )
    count = len(layers)
    covariance = np.diag(np.concatenate([values, slopes]))
    covariance[range(count), range(count, 2 * count)] = both
    covariance[range(count, 2 * count), range(count)] = both
    return covariance


def _quadratic(rows: Array, covariance: Array) -> Array:
    return np.einsum("ij,jk,ik->i", rows, covariance, rows)
