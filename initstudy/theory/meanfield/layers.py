"""Second moments of signals and gradients in every layer, for given fans and deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import cast

from initstudy.theory.meanfield.checks import require_count, require_number
from initstudy.theory.meanfield.names import ActivationLike, resolve


@dataclass(frozen=True)
class Layer:
    """A linear layer or a convolution with zero-mean weights, followed by the activation.

    Attributes:
        fan_in: The number of inputs that one unit sums; k²·channels for a convolution.
        fan_out: The number of units that one input feeds; k²·(output channels)/stride² for a
            convolution.
        std: The standard deviation of the weights.
        bias_std: The standard deviation of the biases.
        units: The number of independent units of the layer, for the spread; `fan_out` if None. For
            a convolution give the output channels: the spread is then that of inputs that do not
            vary over positions, and an upper bound for others.

    Raises:
        ValueError: A fan is not a whole number above zero, or a deviation is negative or not
            finite.

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.Layer(fan_in=9 * 16, fan_out=9 * 32, std=0.1, units=32).width
        32
    """

    fan_in: int
    fan_out: int
    std: float
    bias_std: float = 0.0
    units: int | None = None

    def __post_init__(self) -> None:
        require_count("fan_in", self.fan_in)
        require_count("fan_out", self.fan_out)
        require_number("std", self.std, "a standard deviation")
        require_number("bias_std", self.bias_std, "a standard deviation")
        if self.units is not None:
            require_count("units", self.units)

    @property
    def sigma_w2(self) -> float:
        """The variance of the weights times fan_in, std²·fan_in."""
        return weight_variance(self.std, self.fan_in)

    @property
    def sigma_b2(self) -> float:
        """The variance of the biases."""
        return self.bias_std * self.bias_std

    @property
    def width(self) -> int:
        """The number of independent units."""
        return self.fan_out if self.units is None else self.units


@dataclass(frozen=True)
class Forward:
    """One number per layer for the forward pass; mean squares unless a function says otherwise.

    Attributes:
        pre_activations: E[z²], before the activation function.
        activations: E[φ(z)²], after it: a second moment, since φ(z) may have a mean.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([100, 100, 100], stds=(2 / 100) ** 0.5)
        >>> forward = meanfield.forward_variances("relu", layers)
        >>> [round(v, 3) for v in forward.activations]
        [1.0, 1.0]
    """

    pre_activations: tuple[float, ...]
    activations: tuple[float, ...]


@dataclass(frozen=True)
class Backward:
    """One number per layer for the backward pass; mean squares unless a function says otherwise.

    Attributes:
        pre_activations: The gradient with respect to one entry of z, before the activation
            function.
        inputs: The gradient with respect to one entry of the layer's input, which is the previous
            layer's activation.
        weights: The gradient with respect to one weight of a linear layer, for one example. For a
            convolution this is summed over the positions at which the weight is used.

    Example:
        >>> from initstudy.theory import meanfield
        >>> layers = meanfield.dense([100, 100, 100], stds=(2 / 100) ** 0.5)
        >>> backward = meanfield.backward_variances("relu", layers)
        >>> [round(v, 3) for v in backward.pre_activations]
        [1.0, 1.0]
    """

    pre_activations: tuple[float, ...]
    inputs: tuple[float, ...]
    weights: tuple[float, ...]


def weight_variance(std: float, fan_in: int) -> float:
    """σ_w² = std²·fan_in, the theory's weight variance for a standard deviation of the weights.

    Args:
        std: The standard deviation of the weights, as returned by `VarianceScaling.std`.
        fan_in: The number of inputs that one unit sums; k²·channels for a convolution.

    Raises:
        ValueError: The deviation is negative or not finite, or fan_in is not a whole number above
            zero.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.weight_variance(std=0.1, fan_in=200), 12)
        2.0
    """
    require_number("std", std, "a standard deviation")
    require_count("fan_in", fan_in)
    return float(std) * float(std) * fan_in


def dense(
    widths: Sequence[int], stds: float | Sequence[float], bias_stds: float | Sequence[float] = 0.0
) -> list[Layer]:
    """The layers of a fully connected network.

    Args:
        widths: The width of the input, then of every layer.
        stds: The standard deviation of the weights, one for all layers or one per layer.
        bias_stds: The standard deviation of the biases, one for all layers or one per layer.

    Raises:
        ValueError: There is no layer, the lengths do not match, or a value is out of range.

    Example:
        >>> from initstudy.theory import meanfield
        >>> [layer.fan_in for layer in meanfield.dense([64, 128, 10], stds=0.1)]
        [64, 128]
    """
    count = len(widths) - 1
    if count < 1:
        raise ValueError(f"meanfield.widths={list(widths)}: give an input's and a layer's width")
    weights, biases = _each("stds", stds, count), _each("bias_stds", bias_stds, count)
    fans = zip(widths[:-1], widths[1:], weights, biases, strict=True)
    return [Layer(fan_in, fan_out, std, bias) for fan_in, fan_out, std, bias in fans]


def forward_variances(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
) -> Forward:
    """Second moments of every layer's units, averaged over networks of large width.

    q¹ = σ_w²·E[x²] + σ_b², then the length map layer by layer (Poole et al. 2016, eq. 3).

    Args:
        activation: The activation function after every layer; see `resolve`. If the last layer has
            none, ignore the last activation.
        layers: The layers in forward order; `dense` makes those of a fully connected network.
        input_second_moment: The mean square of the input's entries, 1 for standardized inputs.

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> he = meanfield.dense([64, 128, 128], stds=[(2 / 64) ** 0.5, (2 / 128) ** 0.5])
        >>> [round(m, 12) for m in meanfield.forward_variances("relu", he).activations]
        [1.0, 1.0]
    """
    kernel = resolve(activation)
    require_layers(layers)
    require_number("input_second_moment", input_second_moment, "a second moment")
    before, after = [], []
    moment = float(input_second_moment)
    for layer in layers:
        q = layer.sigma_w2 * moment + layer.sigma_b2
        moment = kernel.second_moment(q)
        before.append(q)
        after.append(moment)
    return Forward(tuple(before), tuple(after))


def backward_variances(
    activation: ActivationLike,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    output_gradient: float = 1.0,
) -> Backward:
    """Second moments of a gradient in every layer, averaged over networks of large width.

    E[(∂L/∂zˡ)²] = std²·fan_out·E[φ'(zˡ)²]·E[(∂L/∂zˡ⁺¹)²] with the next layer's std and fan_out
    (Schoenholz et al. 2017, on backpropagation: the factor is χ₁·fan_out/fan_in), and
    E[(∂L/∂W)²] = E[(∂L/∂z)²]·E[x²]. As in that paper, the
    weights of the backward pass are taken to be independent of those of the forward pass.

    Args:
        activation: The activation function; see `resolve`.
        layers: The layers in forward order.
        input_second_moment: The mean square of the input's entries.
        output_gradient: The mean square of the gradient with respect to the last layer's
            pre-activations.

    Raises:
        ValueError: There is no layer, a second moment is negative or not finite, or the
            activation is not known.

    Example:
        >>> from initstudy.theory import meanfield
        >>> he = meanfield.dense([64, 64, 64], stds=(2 / 64) ** 0.5)
        >>> [round(m, 12) for m in meanfield.backward_variances("relu", he).pre_activations]
        [1.0, 1.0]
    """
    require_number("output_gradient", output_gradient, "a second moment")
    forward = forward_variances(activation, layers, input_second_moment=input_second_moment)
    kernel = resolve(activation)
    gradient = float(output_gradient)
    before, inputs = [], []
    for layer, q in zip(reversed(layers), (*forward.pre_activations[-2::-1], None), strict=True):
        before.append(gradient)
        inputs.append(weight_variance(layer.std, layer.fan_out) * gradient)
        if q is not None:
            gradient = kernel.derivative_moment(q) * inputs[-1]
    reads = (float(input_second_moment), *forward.activations[:-1])
    weights = tuple(g * x for g, x in zip(reversed(before), reads, strict=True))
    return Backward(tuple(reversed(before)), tuple(reversed(inputs)), weights)


def require_layers(layers: Sequence[Layer]) -> None:
    """Raises ValueError unless there is a layer."""
    if not layers:
        raise ValueError("meanfield.layers=[]: give at least one layer")


def _each(key: str, values: float | Sequence[float], count: int) -> Sequence[float]:
    if isinstance(values, Real):
        return [float(values)] * count
    each = list(cast(Sequence[float], values))
    if len(each) != count:
        raise ValueError(f"meanfield.{key}: {len(each)} values for {count} layers")
    return each
