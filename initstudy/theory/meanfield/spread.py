"""How far networks of finite width stray from the prediction for infinite width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from initstudy.theory.meanfield.activations import resolve
from initstudy.theory.meanfield.checks import require_count, require_number
from initstudy.theory.meanfield.kernels import Kernel
from initstudy.theory.meanfield.layers import Forward, Layer, forward_variances, require_layers


@dataclass(frozen=True)
class Band:
    """Where a network's mean squares lie, layer by layer."""

    low: Forward
    high: Forward


def relu_spread(widths: Sequence[int]) -> float:
    """The relative variance of a relu network's squared length over draws of its weights.

    With Gaussian weights and no biases, M = |φ(z)|²/n after layers of these widths has

        Var M / (E M)² = Π (1 + 5/n) - 1

    exactly, whatever the weight variance: a layer multiplies E[M²] by E[M]'s factor squared times
    1 + (E[φ⁴]/E[φ²]² - 1)/n, and E[φ⁴]/E[φ²]² is (3/2)/(1/2)² = 6. This is the growth, exponential
    in the sum of 1/n, of Hanin & Rolnick 2018, How to Start Training.

    Args:
        widths: Units of each layer with an activation, without the input.

    Raises:
        ValueError: A width is not a whole number above zero.
    """
    return _expm1(sum(math.log1p(5 / n) for n in _counts(widths)))


def relu_spread_limit(widths: Sequence[int]) -> float:
    """`relu_spread` for wide layers, exp(5β) - 1 with β the sum of 1/width.

    The squared length is then log-normal, its logarithm with mean -5β/2 and variance 5β (Hanin &
    Nica 2020, Products of Many Large Random Matrices and Gradients in Deep Neural Networks).

    Args:
        widths: Units of each layer with an activation, without the input.

    Raises:
        ValueError: A width is not a whole number above zero.
    """
    return _expm1(5 * sum(1 / n for n in _counts(widths)))


def forward_spread(
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    negative_slope: float = 0.01,
) -> Forward:
    """Relative variances, over draws of the weights, of each layer's mean squares.

    Given the layer before, a layer's n units are independent and normal with a variance Q that is
    itself random, so by the law of total variance, with G(q) = E[φ(√q·z)²],

        Var[mean z²]     = Var Q + (2/n)·E[Q²]
        Var[mean φ(z)²]  = G'(q)²·Var Q + (E[φ⁴] - G²)/n
        Var Q of the next = (std²·fan_in)²·Var[mean φ(z)²]

    This is the recursion of the four-point vertex in Roberts et al. 2022, The Principles of Deep
    Learning Theory, section 4.3. relu, leaky_relu and linear keep Var Q in the last term too, which
    makes it exact for Gaussian weights and equal to `relu_spread`; for others it is right to
    leading order in 1/width, and so it is for weights that are not Gaussian. It holds for one
    input; a mean over a batch varies at most as much.

    Args:
        activation: One of `KNOWN`.
        layers: In the order of the signal.
        input_second_moment: Mean square of the input's entries.
        negative_slope: Of "leaky_relu".

    Returns:
        Var/mean² of the layer's mean of z² and of φ(z)²; 0 where the mean is 0.

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.
    """
    require_layers(layers)
    kernel = resolve(activation, negative_slope)
    mean = forward_variances(
        activation, layers, input_second_moment=input_second_moment, negative_slope=negative_slope
    )
    before: list[float] = []
    after: list[float] = []
    relative = 0.0
    for layer, q, moment in zip(layers, mean.pre_activations, mean.activations, strict=True):
        if after:
            # The biases' share of q does not vary with what the layer reads.
            relative = after[-1] * _share(q - layer.sigma_b2, q) ** 2
        extra = relative if kernel.homogeneous else 0.0
        before.append(relative + 2 / layer.width * (1 + relative) if q > 0 else 0.0)
        excess = _excess(kernel, q)
        sensitivity = _share(q * kernel.length_slope(q), moment)
        spread = sensitivity**2 * relative + excess / layer.width * (1 + extra)
        after.append(spread if moment > 0 else 0.0)
    return Forward(tuple(before), tuple(after))


def forward_band(
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    deviations: float = 2.0,
    negative_slope: float = 0.01,
) -> Band:
    """Where a network's mean squares lie around `forward_variances`.

    The band is that of a log-normal with the predicted mean and the variance of `forward_spread`,
    so it stays above zero; for relu the log-normal is the limit (see `relu_spread_limit`), and for
    small spreads the band is mean ± deviations.

    Args:
        activation: One of `KNOWN`.
        layers: In the order of the signal.
        input_second_moment: Mean square of the input's entries.
        deviations: Half the band's width in standard deviations; 2 hold 95% of the networks.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: There is no layer, a number is negative or not finite, or the activation is not
            known.
    """
    require_number("deviations", deviations, "a number of deviations")
    arguments = {"input_second_moment": input_second_moment, "negative_slope": negative_slope}
    mean = forward_variances(activation, layers, **arguments)
    spread = forward_spread(activation, layers, **arguments)

    def edge(side: float) -> Forward:
        return Forward(
            log_normal_edges(mean.pre_activations, spread.pre_activations, side),
            log_normal_edges(mean.activations, spread.activations, side),
        )

    return Band(edge(-deviations), edge(deviations))


def log_normal_edges(
    means: Sequence[float], spreads: Sequence[float], side: float
) -> tuple[float, ...]:
    """So many deviations from the middle of log-normals of these means and relative variances."""
    logs = [math.log1p(spread) for spread in spreads]
    return tuple(
        mean * math.exp(side * math.sqrt(log) - log / 2)
        for mean, log in zip(means, logs, strict=True)
    )


def _counts(widths: Sequence[int]) -> Sequence[int]:
    for width in widths:
        require_count("widths", width)
    return widths


def _excess(kernel: Kernel, q: float) -> float:
    """E[φ⁴]/E[φ²]² - 1."""
    # Far from 1 the fourth moment leaves the range of a double, and the ratio no longer changes.
    q = min(max(q, 1e-30), 1e30)
    # A saturated activation is ±1: no more than rounding is left, of either sign.
    return max(0.0, kernel.fourth_moment(q) / kernel.second_moment(q) ** 2 - 1)


def _share(part: float, whole: float) -> float:
    if whole == math.inf:
        return 1.0
    return part / whole if whole > 0 else 0.0


def _expm1(exponent: float) -> float:
    # The largest exponent whose power a double holds.
    return math.expm1(exponent) if exponent < 709 else math.inf
