"""Variances layer by layer, forward and backward, for given fans and standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import cast

from initstudy.theory.meanfield.activations import resolve
from initstudy.theory.meanfield.checks import require_count, require_number


@dataclass(frozen=True)
class Layer:
    """A linear layer or a convolution with zero-mean weights, followed by the activation.

    Attributes:
        fan_in: Inputs of one unit; k²·channels of a convolution.
        fan_out: Units that one input feeds; k²·channels of the output, over stride², of a
            convolution.
        std: Standard deviation of the weights.
        bias_std: Of the biases.
        units: Independent units of the layer, for the spread; None for `fan_out`. Of a convolution
            give the output channels: the spread is then that of inputs that do not change over
            positions, and an upper bound for others.

    Raises:
        ValueError: A fan is not a whole number above zero, or a deviation negative or not finite.
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
        """std²·fan_in."""
        return weight_variance(self.std, self.fan_in)

    @property
    def sigma_b2(self) -> float:
        """Variance of the biases."""
        return self.bias_std * self.bias_std

    @property
    def width(self) -> int:
        """Independent units."""
        return self.fan_out if self.units is None else self.units


@dataclass(frozen=True)
class Forward:
    """One number a layer for the signal on its way forward.

    Attributes:
        pre_activations: Of E[z²], before the activation.
        activations: Of E[φ(z)²], after it; a second moment, for relu and others have a mean.
    """

    pre_activations: tuple[float, ...]
    activations: tuple[float, ...]


@dataclass(frozen=True)
class Backward:
    """Second moments of a loss's gradient, one a layer.

    Attributes:
        pre_activations: By one entry of z, before the activation.
        inputs: By one entry of what the layer reads: the previous layer's activations.
        weights: By one weight of a linear layer, for one example. A convolution's weight sums this
            over the positions where it is used.
    """

    pre_activations: tuple[float, ...]
    inputs: tuple[float, ...]
    weights: tuple[float, ...]


def weight_variance(std: float, fan_in: int) -> float:
    """σ_w² = std²·fan_in: the theory's weight variance from an initializer's deviation.

    Args:
        std: Standard deviation of the weights, such as `VarianceScaling.std` gives.
        fan_in: Inputs of one unit; k²·channels of a convolution.

    Raises:
        ValueError: The deviation is negative or not finite, or fan_in not a count.
    """
    require_number("std", std, "a standard deviation")
    require_count("fan_in", fan_in)
    return float(std) * float(std) * fan_in


def dense(
    widths: Sequence[int], stds: float | Sequence[float], bias_stds: float | Sequence[float] = 0.0
) -> list[Layer]:
    """The layers of a fully connected network.

    Args:
        widths: Of the input and of every layer.
        stds: Standard deviation of the weights, one for all layers or one a layer.
        bias_stds: Of the biases, likewise.

    Raises:
        ValueError: There is no layer, the lengths do not match, or a value is out of range.
    """
    count = len(widths) - 1
    if count < 1:
        raise ValueError(f"meanfield.widths={list(widths)}: give an input's and a layer's width")
    weights, biases = _each("stds", stds, count), _each("bias_stds", bias_stds, count)
    fans = zip(widths[:-1], widths[1:], weights, biases, strict=True)
    return [Layer(fan_in, fan_out, std, bias) for fan_in, fan_out, std, bias in fans]


def forward_variances(
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    negative_slope: float = 0.01,
) -> Forward:
    """Second moments of every layer's units, averaged over networks of large width.

    q¹ = σ_w²·E[x²] + σ_b², then the length map layer by layer (Poole et al. 2016, eq. 3).

    Args:
        activation: One of `KNOWN`. Where the last layer has none, ignore its last activation.
        layers: In the order of the signal; `dense` makes those of a plain network.
        input_second_moment: Mean square of the input's entries; 1 for standardized ones.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: There is no layer, the second moment is negative or not finite, or the
            activation is not known.
    """
    kernel = resolve(activation, negative_slope)
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
    activation: str,
    layers: Sequence[Layer],
    *,
    input_second_moment: float = 1.0,
    output_gradient: float = 1.0,
    negative_slope: float = 0.01,
) -> Backward:
    """Second moments of a gradient in every layer, averaged over networks of large width.

    E[(∂L/∂zˡ)²] = std²·fan_out·E[φ'(zˡ)²]·E[(∂L/∂zˡ⁺¹)²] with the next layer's std and fan_out
    (Schoenholz et al. 2017, on backpropagation: the factor is χ₁·fan_out/fan_in), and
    E[(∂L/∂W)²] = E[(∂L/∂z)²]·E[x²]. As there, the weights of the way back are taken as independent
    of those of the way forward.

    Args:
        activation: One of `KNOWN`.
        layers: In the order of the signal.
        input_second_moment: Mean square of the input's entries.
        output_gradient: Mean square of the gradient by the last layer's pre-activations.
        negative_slope: Of "leaky_relu".

    Raises:
        ValueError: There is no layer, a second moment is negative or not finite, or the
            activation is not known.
    """
    require_number("output_gradient", output_gradient, "a second moment")
    forward = forward_variances(
        activation, layers, input_second_moment=input_second_moment, negative_slope=negative_slope
    )
    kernel = resolve(activation, negative_slope)
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
