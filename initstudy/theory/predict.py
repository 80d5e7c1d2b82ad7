"""What mean-field theory predicts for a given model and its initial weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from initstudy.initializers import Fans, compute_fans
from initstudy.theory import meanfield

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hard_tanh",
    nn.GELU: "gelu",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    nn.Identity: "linear",
}
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Of a deviation: how far a mean may stray before weights or biases do not count as centred.
CENTRED = 0.2
DRAWS = 4096


class NotCoveredError(ValueError):
    """Why theory says nothing of a model."""


@dataclass(frozen=True)
class Prediction:
    """What theory expects of the first pass, by the names of the layers.

    Attributes:
        activations: Root mean square of each layer's activation (of the last one's output).
        gradients: Root mean square of the mean cross-entropy's gradient by it.
        critical_std: The deviation at which the hidden layers neither grow nor shrink a signal, or
            None where they differ in fan_in or the activation function has no such deviation.
        activation: Name of the activation function, as `meanfield` knows it.
        sigma_w2: Variance of the weights times fan_in, the mean over the layers between hidden
            ones; None where there is no such layer.
        sigma_b2: Variance of their biases, likewise.
    """

    activations: dict[str, float]
    gradients: dict[str, float]
    critical_std: float | None
    activation: str
    sigma_w2: float | None
    sigma_b2: float | None


def predict(
    model: nn.Module, values: Mapping[str, Tensor], second_moment: float, batch: int
) -> Prediction:
    """The prediction for a chain of layers with one activation function between them.

    Weights count by their measured mean square, so every initializer of zero mean is covered.
    Layer by layer this is `meanfield.forward_variances` and `meanfield.backward_variances`; the
    gradient enters at the logits, which are taken as Gaussian (see `logit_gradient`).

    Args:
        model: The architecture.
        values: Its initial parameters, by name.
        second_moment: Mean square of the inputs' entries.
        batch: Examples that the loss is a mean of.

    Raises:
        NotCoveredError: The model is no such chain, or its weights or biases are not centred.
    """
    names, activation, slope, layers = _chain(model, values)
    forward = meanfield.forward_variances(
        activation, layers, input_second_moment=second_moment, negative_slope=slope
    )
    classes = layers[-1].width
    logits = forward.pre_activations[-1]
    if not math.isfinite(logits):
        raise NotCoveredError("the signal overflows")
    backward = meanfield.backward_variances(
        activation,
        layers,
        input_second_moment=second_moment,
        output_gradient=logit_gradient(logits, classes) / batch**2,
        negative_slope=slope,
    )
    # A hidden layer is read after its activation function: where the next one reads.
    seen = (*forward.activations[:-1], logits)
    back = (*backward.inputs[1:], backward.pre_activations[-1])
    return Prediction(
        {name: math.sqrt(value) for name, value in zip(names, seen, strict=True)},
        {name: math.sqrt(value) for name, value in zip(names, back, strict=True)},
        _critical_std(activation, slope, layers),
        activation,
        _mean(layer.sigma_w2 for layer in layers[1:-1]),
        _mean(layer.sigma_b2 for layer in layers[1:-1]),
    )


def logit_gradient(variance: float, classes: int) -> float:
    """Mean square of one example's cross-entropy gradient by its logits, softmax(z) - onehot.

    For logits z of independent N(0, variance) entries and a label that they know nothing of: the
    mean over classes of E[p²] - 2·E[p]/classes + 1/classes, with E[p] = 1/classes. E[p²] is taken
    over fixed draws.

    Args:
        variance: Of the logits.
        classes: Number of classes.
    """
    z = np.random.default_rng(0).standard_normal((DRAWS, classes)) * math.sqrt(variance)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float((p**2).mean() - 2 / classes**2 + 1 / classes)


def _chain(
    model: nn.Module, values: Mapping[str, Tensor]
) -> tuple[list[str], str, float, list[meanfield.Layer]]:
    """Names of the layers, the activation function between them, its slope, and the layers."""
    names: list[str] = []
    layers: list[meanfield.Layer] = []
    between: list[nn.Module] = []
    waiting = False
    for name, module in _leaves(model):
        if isinstance(module, LAYERS):
            if waiting:
                raise NotCoveredError(f"nothing stands between {names[-1]} and {name}")
            names.append(name)
            layers.append(_layer(name, module, values))
            waiting = True
        elif type(module) in ACTIVATIONS and waiting:
            between.append(module)
            waiting = False
        elif not isinstance(module, nn.Flatten):
            raise NotCoveredError(f"{name} is a {type(module).__name__}")
    if not layers or not waiting:
        raise NotCoveredError("the last module is no linear or convolution layer")
    kinds = {(ACTIVATIONS[type(m)], getattr(m, "negative_slope", 0.01)) for m in between}
    if len(kinds) > 1:
        raise NotCoveredError("its activation functions differ")
    activation, slope = next(iter(kinds), ("linear", 0.01))
    return names, activation, slope, layers


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a Sequential of Sequentials, in running order."""
    if not isinstance(model, nn.Sequential):
        raise NotCoveredError(f"a {type(model).__name__} is no chain of layers")
    for name, module in model.named_children():
        if isinstance(module, nn.Sequential):
            yield from ((f"{name}.{below}", leaf) for below, leaf in _leaves(module))
        else:
            yield name, module


def _layer(name: str, module: nn.Module, values: Mapping[str, Tensor]) -> meanfield.Layer:
    fans: Fans = compute_fans(module, "weight")
    if fans.blocks > 1:
        raise NotCoveredError(f"{name} is a grouped convolution")
    std = _centred_std(f"{name}.weight", values)
    bias = _centred_std(f"{name}.bias", values) if f"{name}.bias" in values else 0.0
    units = values[f"{name}.weight"].shape[0]
    return meanfield.Layer(fans.fan_in, fans.fan_out, std, bias, units=units)


def _centred_std(name: str, values: Mapping[str, Tensor]) -> float:
    tensor = values[name].detach().double()
    square, mean = float(tensor.square().mean()), float(tensor.mean())
    if not math.isfinite(square) or abs(mean) > CENTRED * math.sqrt(square) + 4 * math.sqrt(
        square / tensor.numel()
    ):
        raise NotCoveredError(f"{name} has not zero mean")
    return math.sqrt(square)


def _critical_std(activation: str, slope: float, layers: Sequence[meanfield.Layer]) -> float | None:
    hidden = {layer.fan_in for layer in layers[1:-1]}
    if len(hidden) != 1:
        return None
    try:
        critical = meanfield.critical_sigma_w2(activation, layers[1].sigma_b2, negative_slope=slope)
    except ValueError:
        return None
    return math.sqrt(critical / hidden.pop())


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


@torch.no_grad()
def second_moment(inputs: Tensor) -> float:
    """Mean square of the entries of a batch of inputs."""
    return float(inputs.double().square().mean())
