"""What mean-field theory predicts for a given model and its initial weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from initstudy.initializers import compute_fans
from initstudy.theory import meanfield

# Modules that apply one function to every entry, and nothing else.
ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.GELU,
    nn.SELU,
    nn.CELU,
    nn.ELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.Tanhshrink,
    nn.Softshrink,
    nn.LogSigmoid,
    nn.Identity,
)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Weights or biases whose mean exceeds this share of their root mean square are not centred.
CENTRED = 0.2
SAMPLES = 4096


class NotCoveredError(ValueError):
    """The theory does not cover a model; the message says why."""


@dataclass(frozen=True)
class Prediction:
    """What theory expects of the first forward and backward pass, by the names of the layers.

    Attributes:
        activations: The root mean square of each layer's activation; for the last layer, of its
            output.
        gradients: The root mean square of the gradient of the mean cross-entropy with respect to
            that activation.
        spreads: The relative variance of the mean square of each layer's activation, over random
            weights: `meanfield.forward_spread`.
        critical_std: The standard deviation of the weights at which the hidden layers neither
            amplify nor shrink a signal. None if the hidden layers differ in fan_in, or if the
            activation function has no such deviation.
        activation: The name of the activation function.
        sigma_w2: The variance of the weights times fan_in, averaged over the layers between hidden
            layers. None if there is no such layer.
        sigma_b2: The variance of the biases, averaged over the same layers.
    """

    activations: dict[str, float]
    gradients: dict[str, float]
    spreads: dict[str, float]
    critical_std: float | None
    activation: str
    sigma_w2: float | None
    sigma_b2: float | None


def predict(
    model: nn.Module, values: Mapping[str, Tensor], second_moment: float, batch: int
) -> Prediction:
    """The prediction for a chain of layers with one activation function between them.

    Only the measured mean square of the weights matters, so every initializer of mean zero is
    covered. Layer by layer this is `meanfield.forward_variances` and
    `meanfield.backward_variances`; the gradient at the logits is that of Gaussian logits (see
    `logit_gradient`).

    Args:
        model: The architecture; its own parameters are not read.
        values: The initial parameters by name.
        second_moment: The mean square of the inputs' entries.
        batch: The number of examples that the loss averages over.

    Raises:
        NotCoveredError: The model is not such a chain, its weights or biases are not centred, or
            the signal overflows.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import KaimingNormal, initialize
        >>> from initstudy.theory.predict import predict
        >>> model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> values = dict(initialize(model, KaimingNormal(), seed=0).named_parameters())
        >>> found = predict(model, values, second_moment=1.0, batch=32)
        >>> round(found.activations["0"], 2), found.activation
        (1.0, 'relu')
    """
    names, activation, layers = _chain(model, values)
    forward = meanfield.forward_variances(activation, layers, input_second_moment=second_moment)
    classes = layers[-1].width
    logits = forward.pre_activations[-1]
    if not math.isfinite(logits):
        raise NotCoveredError("the signal overflows")
    backward = meanfield.backward_variances(
        activation,
        layers,
        input_second_moment=second_moment,
        output_gradient=logit_gradient(logits, classes) / batch**2,
    )
    # A hidden layer is read after its activation function, which is the next layer's input.
    signals = (*forward.activations[:-1], logits)
    gradients = (*backward.inputs[1:], backward.pre_activations[-1])
    spread = meanfield.forward_spread(activation, layers, input_second_moment=second_moment)
    spreads = (*spread.activations[:-1], spread.pre_activations[-1])
    return Prediction(
        {name: math.sqrt(value) for name, value in zip(names, signals, strict=True)},
        {name: math.sqrt(value) for name, value in zip(names, gradients, strict=True)},
        dict(zip(names, spreads, strict=True)),
        _critical_std(activation, layers),
        activation.name,
        _mean(layer.sigma_w2 for layer in layers[1:-1]),
        _mean(layer.sigma_b2 for layer in layers[1:-1]),
    )


def logit_gradient(variance: float, classes: int) -> float:
    """The mean square of one example's cross-entropy gradient by its logits, softmax(z) - onehot.

    For logits z of independent N(0, variance) entries and a label that is independent of them, this
    is the mean over classes of E[p²] - 2·E[p]/classes + 1/classes, with E[p] = 1/classes. E[p²] is
    a mean over a fixed sample.

    Args:
        variance: The variance of the logits.
        classes: The number of classes.

    Example:
        >>> from initstudy.theory.predict import logit_gradient
        >>> round(logit_gradient(0.0, classes=10), 6)
        0.09
    """
    z = np.random.default_rng(0).standard_normal((SAMPLES, classes)) * math.sqrt(variance)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float((p**2).mean() - 2 / classes**2 + 1 / classes)


def _chain(
    model: nn.Module, values: Mapping[str, Tensor]
) -> tuple[list[str], meanfield.Activation, list[meanfield.Layer]]:
    """The names of the layers, the activation function between them, and the layers."""
    names: list[str] = []
    layers: list[meanfield.Layer] = []
    between: list[meanfield.Activation] = []
    waiting = False
    for name, module in _leaves(model):
        if isinstance(module, LAYERS):
            if waiting:
                raise NotCoveredError(f"there is no activation function from {names[-1]} to {name}")
            names.append(name)
            layers.append(_layer(name, module, values))
            waiting = True
        elif type(module) in ELEMENTWISE and waiting:
            between.append(meanfield.resolve(module))
            waiting = False
        elif not isinstance(module, nn.Flatten):
            raise NotCoveredError(f"{name} is a {type(module).__name__}")
    if not layers or not waiting:
        raise NotCoveredError("the last module is not a linear or convolution layer")
    if len({_constants(activation) for activation in between}) > 1:
        raise NotCoveredError("its activation functions differ")
    return names, between[0] if between else meanfield.resolve("linear"), layers


def _constants(activation: meanfield.Activation) -> tuple[float, ...]:
    """What tells two activation functions apart: their values at a few points."""
    return tuple(activation.function(np.array([-3.0, -0.7, 0.4, 7.0])).tolist())


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a Sequential of Sequentials, in the order in which they run."""
    if not isinstance(model, nn.Sequential):
        raise NotCoveredError(f"a {type(model).__name__} is not a chain of layers")
    for name, module in model.named_children():
        if isinstance(module, nn.Sequential):
            yield from ((f"{name}.{below}", leaf) for below, leaf in _leaves(module))
        else:
            yield name, module


def _layer(name: str, module: nn.Module, values: Mapping[str, Tensor]) -> meanfield.Layer:
    if f"{name}.weight" not in values:
        raise NotCoveredError(f"{name}.weight is made of other parameters")
    fans = compute_fans(module, "weight")
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
        raise NotCoveredError(f"the mean of {name} is not zero")
    return math.sqrt(square)


def _critical_std(
    activation: meanfield.Activation, layers: Sequence[meanfield.Layer]
) -> float | None:
    hidden = {layer.fan_in for layer in layers[1:-1]}
    if len(hidden) != 1:
        return None
    try:
        critical = meanfield.critical_sigma_w2(activation, layers[1].sigma_b2)
    except ValueError:
        return None
    return math.sqrt(critical / hidden.pop())


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None


@torch.no_grad()
def second_moment(inputs: Tensor) -> float:
    """The mean square of the entries of a batch of inputs.

    Args:
        inputs: A tensor of any shape.

    Example:
        >>> import torch
        >>> from initstudy.theory.predict import second_moment
        >>> second_moment(torch.tensor([[1.0, 3.0]]))
        5.0
    """
    return float(inputs.double().square().mean())
