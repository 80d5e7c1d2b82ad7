"""How much gradients in a network of finite width vary around the limit of infinite width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from initstudy.quadrature import Array
from initstudy.theory.meanfield.activation import FAR, Activation
from initstudy.theory.meanfield.checks import require_number
from initstudy.theory.meanfield.layers import (
    Backward,
    Layer,
    backward_variances,
    forward_variances,
    require_layers,
)
from initstudy.theory.meanfield.names import ActivationLike, resolve
from initstudy.theory.meanfield.spread import log_normal_edges

# Below this variance every activation function equals its tangents at zero; a quadrature needs a
# Gaussian of some width.
NEAR = 1e-30


@dataclass(frozen=True)
class BackwardBand:
    """The range in which the mean squares of a network's gradients lie.

    Attributes:
        low: The lower edge, for every layer.
        high: The upper edge, for every layer.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([100, 100, 100], stds=(2 / 100) ** 0.5)
        >>> band = meanfield.backward_band("relu", layers)
        >>> band.low.pre_activations < band.high.pre_activations
        True
    """

    low: Backward
    high: Backward


@dataclass(frozen=True)
class _Moments:
    """How one layer passes on a change of q, and the noise that it adds, in logarithms.

    Attributes:
        forward: The derivative of ln E[φ²] by ln q.
        backward: The derivative of ln E[φ'²] by ln q.
        values: n times the relative variance of the mean of φ² over n units.
        slopes: n times the relative variance of the mean of φ'²·y² over n units, with y an
            independent standard normal.
        both: n times the relative covariance of these two means.
    """

    forward: float
    backward: float
    values: float
    slopes: float
    both: float


def backward_spread(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
) -> Backward:
    """The relative variance of every layer's mean squared gradients over random weights.

    To leading order in 1/width the logarithm of a layer's mean squared gradient is a sum over
    layers. With q the variance of a layer's pre-activations, χ(q) = E[φ'²], G(q) = E[φ²] and n its
    units, the squared gradient p with respect to the pre-activations and the mean square M of the
    activations obey

        δ ln p = δ ln p of the next layer + (q·χ'/χ)·δ ln q + a noise of variance
                 (3·E[φ'⁴]/χ² - 1)/n
        δ ln M = (q·G'/G)·δ ln q + a noise of variance (E[φ⁴]/G² - 1)/n
        δ ln q of the next layer = (1 - σ_b²/q)·δ ln M

    and the two noises of a layer have covariance (E[φ²φ'²]/(G·χ) - 1)/n. For relu χ does not depend
    on q and both variances are 5/n: the product of 1 + 5/n is that of `relu_spread` (for gradients:
    Hanin 2018, Which Neural Net Architectures Give Rise to Exploding and Vanishing Gradients; for
    the order of the corrections, Roberts et al. 2022, The Principles of Deep Learning Theory,
    chapter 9). As in `backward_variances` the weights of the backward pass are taken to be
    independent of those of the forward pass, and the gradient at the last layer is given.

    Args:
        activation: The activation function; see `resolve`.
        layers: The layers in forward order.
        input_second_moment: The mean square of the input's entries.

    Returns:
        Var/mean² of the mean over a layer's units, inputs and weights.

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([100, 100, 100], stds=0.1)
        >>> [round(v, 6) for v in meanfield.backward_spread("relu", layers).pre_activations]
        [0.05, 0.0]
    """
    require_layers(layers)
    kernel = resolve(activation)
    mean = forward_variances(activation, layers, input_second_moment=input_second_moment)
    moments = [_moments(kernel, q) for q in mean.pre_activations]
    back, by_value = _coefficients(moments, layers, mean.pre_activations)
    covariance = _covariance(moments, layers)
    reads = np.vstack([np.zeros(back.shape[1]), by_value[:-1]])
    entries = [layer.fan_in if k == 0 else layers[k - 1].width for k, layer in enumerate(layers)]
    logs = _quadratic(back, covariance)
    inputs = logs + np.log1p(2 / np.array(entries))
    weights = _quadratic(back + reads, covariance)
    return Backward(*(tuple(np.expm1(x).tolist()) for x in (logs, inputs, weights)))


def _coefficients(
    moments: Sequence[_Moments], layers: Sequence[Layer], lengths: Sequence[float]
) -> tuple[Array, Array]:
    """Every layer's δ ln p and δ ln M as sums over the noises.

    Returns:
        Two matrices with one row per layer and one column per noise, first the noises of the values
        and then those of the slopes.
    """
    count = len(layers)
    noise = np.eye(2 * count)
    by_q, by_value = np.zeros((count, 2 * count)), np.zeros((count, 2 * count))
    for k, (layer, q) in enumerate(zip(layers, lengths, strict=True)):
        if k > 0 and q > 0:
            by_q[k] = max(0.0, 1 - layer.sigma_b2 / q) * by_value[k - 1]
        by_value[k] = moments[k].forward * by_q[k] + noise[k]
    back = np.zeros((count, 2 * count))
    for k in reversed(range(count - 1)):
        back[k] = back[k + 1] + moments[k].backward * by_q[k] + noise[count + k]
    return back, by_value


def backward_band(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    output_gradient: float = 1.0,
    deviations: float = 2.0,
) -> BackwardBand:
    """The range in which a network's mean squared gradients lie around `backward_variances`.

    As in `forward_band`, the band is that of a log-normal distribution.

    Args:
        activation: The activation function; see `resolve`.
        layers: The layers in forward order.
        input_second_moment: The mean square of the input's entries.
        output_gradient: The mean square of the gradient with respect to the last layer's
            pre-activations.
        deviations: Half the band's width in standard deviations; 2 contain 95% of the networks.

    Raises:
        ValueError: There is no layer, a number is negative or not finite, or the activation is not
            known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> band = meanfield.backward_band("relu", meanfield.dense([100] * 3, stds=0.1))
        >>> band.low.weights < band.high.weights
        True
    """
    require_number("deviations", deviations, "a number of deviations")
    mean = backward_variances(
        activation,
        layers,
        input_second_moment=input_second_moment,
        output_gradient=output_gradient,
    )
    spread = backward_spread(activation, layers, input_second_moment=input_second_moment)

    def edge(side: float) -> Backward:
        return Backward(
            log_normal_edges(mean.pre_activations, spread.pre_activations, side),
            log_normal_edges(mean.inputs, spread.inputs, side),
            log_normal_edges(mean.weights, spread.weights, side),
        )

    return BackwardBand(edge(-deviations), edge(deviations))


def _moments(kernel: Activation, q: float) -> _Moments:
    q = min(max(q, NEAR), FAR)
    x, weight = kernel.rule(q)
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
    """The covariance of the noises, each of whose exponentials is log-normal.

    A log-normal variable of relative variance v has log-variance ln(1 + v).
    """
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
