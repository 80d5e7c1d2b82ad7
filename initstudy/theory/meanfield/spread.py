"""How much the signal of a network of finite width varies around the limit of infinite width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from initstudy.theory.meanfield.activation import Activation
from initstudy.theory.meanfield.checks import require_count, require_number
from initstudy.theory.meanfield.layers import Forward, Layer, forward_variances, require_layers
from initstudy.theory.meanfield.names import ActivationLike, resolve


@dataclass(frozen=True)
class Band:
    """The range in which a network's mean squares lie.

    Attributes:
        low: The lower edge, for every layer.
        high: The upper edge, for every layer.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([100, 100, 100], stds=(2 / 100) ** 0.5)
        >>> band = meanfield.forward_band("relu", layers)
        >>> band.low.activations < band.high.activations
        True
    """

    low: Forward
    high: Forward


def relu_spread(widths: Sequence[int]) -> float:
    """The relative variance of a relu network's squared length over random weights.

    With Gaussian weights and no biases, M = |φ(z)|²/n after layers of these widths has

        Var M / (E M)² = Π (1 + 5/n) - 1

    exactly, for every weight variance: a layer multiplies E[M²] by the square of its factor for
    E[M] times 1 + (E[φ⁴]/E[φ²]² - 1)/n, and E[φ⁴]/E[φ²]² is (3/2)/(1/2)² = 6. This is the growth,
    exponential in the sum of 1/n, of Hanin & Rolnick 2018, How to Start Training.

    Args:
        widths: The units of each layer that has an activation function, without the input.

    Raises:
        ValueError: A width is not a whole number above zero.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.relu_spread([10, 10]), 6)
        1.25
    """
    return _expm1(sum(math.log1p(5 / n) for n in _counts(widths)))


def relu_spread_limit(widths: Sequence[int]) -> float:
    """The limit of `relu_spread` for wide layers, exp(5β) - 1 with β the sum of 1/width.

    The squared length is then log-normal; its logarithm has mean -5β/2 and variance 5β (Hanin &
    Nica 2020, Products of Many Large Random Matrices and Gradients in Deep Neural Networks).

    Args:
        widths: The units of each layer that has an activation function, without the input.

    Raises:
        ValueError: A width is not a whole number above zero.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.relu_spread_limit([1000] * 100), 6)
        0.648721
    """
    return _expm1(5 * sum(1 / n for n in _counts(widths)))


def forward_spread(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
) -> Forward:
    """The relative variance of every layer's mean squares over random weights.

    Given the previous layer, the n units of a layer are independent and normal with a variance Q
    that is itself random, so by the law of total variance, with G(q) = E[φ(√q·z)²],

        Var[mean z²]     = Var Q + (2/n)·E[Q²]
        Var[mean φ(z)²]  = G'(q)²·Var Q + (E[φ⁴] - G²)/n
        Var[Q of the next layer] = (std²·fan_in)²·Var[mean φ(z)²]

    This is the recursion of the four-point vertex in Roberts et al. 2022, The Principles of Deep
    Learning Theory, section 4.3. For relu, leaky_relu and linear the last term includes Var Q,
    which makes the result exact for Gaussian weights and equal to `relu_spread`. For other
    activation functions and for weights that are not Gaussian it is correct to leading order in
    1/width. It holds for one input; a mean over a batch varies at most as much.

    Args:
        activation: The activation function; see `resolve`.
        layers: The layers in forward order.
        input_second_moment: The mean square of the input's entries.

    Returns:
        Var/mean² of every layer's mean of z² and of φ(z)²; 0 if the mean is 0.

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([10, 10, 10], stds=0.4)
        >>> [round(v, 6) for v in meanfield.forward_spread("relu", layers).activations]
        [0.5, 1.25]
    """
    require_layers(layers)
    kernel = resolve(activation)
    mean = forward_variances(activation, layers, input_second_moment=input_second_moment)
    before: list[float] = []
    after: list[float] = []
    relative = 0.0
    for layer, q, moment in zip(layers, mean.pre_activations, mean.activations, strict=True):
        if after:
            # The part of q that comes from the biases does not vary with the layer's input.
            relative = after[-1] * _share(q - layer.sigma_b2, q) ** 2
        extra = relative if kernel.homogeneous else 0.0
        before.append(relative + 2 / layer.width * (1 + relative) if q > 0 else 0.0)
        excess = _excess(kernel, q)
        sensitivity = _share(q * kernel.length_slope(q), moment)
        spread = sensitivity**2 * relative + excess / layer.width * (1 + extra)
        after.append(spread if moment > 0 else 0.0)
    return Forward(tuple(before), tuple(after))


def forward_band(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    deviations: float = 2.0,
) -> Band:
    """The range in which a network's mean squares lie around `forward_variances`.

    The band is that of a log-normal distribution with the predicted mean and the variance of
    `forward_spread`, so it stays above zero. For relu the log-normal distribution is the limit (see
    `relu_spread_limit`); if the spread is small, the band is mean ± deviations.

    Args:
        activation: The activation function; see `resolve`.
        layers: The layers in forward order.
        input_second_moment: The mean square of the input's entries.
        deviations: Half the band's width in standard deviations; 2 contain 95% of the networks.

    Raises:
        ValueError: There is no layer, a number is negative or not finite, or the activation is not
            known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> band = meanfield.forward_band("relu", meanfield.dense([100, 100], stds=0.1))
        >>> band.low.activations < band.high.activations
        True
    """
    require_number("deviations", deviations, "a number of deviations")
    mean = forward_variances(activation, layers, input_second_moment=input_second_moment)
    spread = forward_spread(activation, layers, input_second_moment=input_second_moment)

    def edge(side: float) -> Forward:
        return Forward(
            log_normal_edges(mean.pre_activations, spread.pre_activations, side),
            log_normal_edges(mean.activations, spread.activations, side),
        )

    return Band(edge(-deviations), edge(deviations))


def log_normal_edges(
    means: Sequence[float], spreads: Sequence[float], side: float
) -> tuple[float, ...]:
    """Quantiles of log-normal distributions.

    Args:
        means: The mean of each distribution.
        spreads: The relative variance Var/mean² of each distribution.
        side: The distance of the quantile from the median, in deviations of the logarithm.
    """
    logs = [math.log1p(spread) for spread in spreads]
    return tuple(
        mean * math.exp(side * math.sqrt(log) - log / 2)
        for mean, log in zip(means, logs, strict=True)
    )


def _counts(widths: Sequence[int]) -> Sequence[int]:
    for width in widths:
        require_count("widths", width)
    return widths


def _excess(kernel: Activation, q: float) -> float:
    """E[φ⁴]/E[φ²]² - 1."""
    # For very small or large q the fourth moment overflows, while the ratio no longer changes.
    q = min(max(q, 1e-30), 1e30)
    # A saturated activation is ±1, and only rounding of either sign is left.
    return max(0.0, kernel.fourth_moment(q) / kernel.second_moment(q) ** 2 - 1)


def _share(part: float, whole: float) -> float:
    if whole == math.inf:
        return 1.0
    return part / whole if whole > 0 else 0.0


def _expm1(exponent: float) -> float:
    # The largest exponent that does not overflow.
    return math.expm1(exponent) if exponent < 709 else math.inf
