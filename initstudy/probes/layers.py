"""Which modules of a model are its layers, and where a layer's activation is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from initstudy.probes.forward import as_written, first_tensor, hooked
from initstudy.trees import TensorTree, arguments, call, count

Limits = tuple[float, float]
_INF = float("inf")

# The values that an activation function approaches but does not pass.
LIMITS: dict[type[nn.Module], Limits] = {
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.ReLU6: (0.0, 6.0),
    nn.SELU: (-1.7580993408473766, _INF),
    nn.ELU: (-1.0, _INF),
    nn.CELU: (-1.0, _INF),
}
# Layers whose weight is a matrix even where it has one row or one column.
MATRIX_LAYERS = (nn.Linear, nn.Bilinear, nn.Embedding, nn.modules.conv._ConvNd, nn.RNNBase)
ACTIVATIONS = (
    *LIMITS,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Hardswish,
)


@dataclass(frozen=True)
class Layer:
    """A module with a weight matrix, and the module whose output is its activation.

    Attributes:
        name: The module's name in the model.
        weights: The names of its weight matrices (parameters of two dimensions or more).
        output: The module whose output is read: the first activation module that runs after this
            layer and before the next one, or else the layer itself.
        shape: The shape of that output, without the batch.
        limits: The values at which the activation function saturates, or None if it does not.
        units: The axis of the units in its stacked output: 2, the channels, after a convolution,
            and the last one otherwise.
    """

    name: str
    weights: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    limits: Limits | None
    units: int = -1


def find_layers(model: nn.Module, inputs: TensorTree) -> list[Layer]:
    """The layers of a model in the order in which they run on a batch.

    Activations must be modules to be seen (`nn.ReLU`, not `F.relu`); a layer followed by a
    function is read before it. A module whose output does not have the batch's size along its first
    axis (positions that all examples share) has no activation to read, and is left out. A weight
    that several layers share has one name, its first.

    Args:
        model: The model.
        inputs: A batch that it takes: a tensor `[batch, ...]`, or a tuple or dict of tensors.
    """
    calls = _calls(model, inputs)
    called = {name for name, _, _ in calls}
    first_names = {id(param): name for name, param in model.named_parameters()}
    names = {
        name: first_names[id(param)]
        for name, param in model.named_parameters(remove_duplicate=False)
    }
    calls = [each for each in calls if each[2][:1] == (count(inputs),)]
    layers: list[Layer] = []
    for name, module, shape in calls:
        weights = tuple(dict.fromkeys(names[key] for key in _matrices(name, module, called)))
        if weights and all(layer.name != name for layer in layers):
            units = 2 if isinstance(module, nn.modules.conv._ConvNd) else -1
            layers.append(Layer(name, weights, name, shape[1:], None, units))
        elif isinstance(module, ACTIVATIONS) and layers and layers[-1].output == layers[-1].name:
            last = layers[-1]
            layers[-1] = replace(last, output=name, shape=shape[1:], limits=_limits(module))
    return layers


@torch.no_grad()
def first_nonfinite(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    inputs: TensorTree,
    layers: list[Layer],
) -> str:
    """The first layer, in running order, with a weight or an activation that is not finite.

    Args:
        model: The architecture.
        tensors: One member's parameters and buffers, by name.
        inputs: The batch on which it diverged.
        layers: The model's layers.

    Returns:
        The layer's name, or "loss" if every layer is finite and only the loss overflowed.
    """
    bad: set[str] = set()

    def look(name: str, _module: nn.Module, output: object) -> None:
        if not torch.isfinite(first_tensor(output)).all():
            bad.add(name)

    names = {name for layer in layers for name in (layer.name, layer.output)}
    with hooked({name: model.get_submodule(name) for name in names}, look), as_written():
        torch.func.functional_call(model, dict(tensors), *arguments(inputs))
    for layer in layers:
        weights_finite = all(bool(torch.isfinite(tensors[w]).all()) for w in layer.weights)
        if layer.name in bad or layer.output in bad or not weights_finite:
            return layer.name
    return "loss"


def _matrices(name: str, module: nn.Module, called: set[str]) -> Iterator[str]:
    """The names of a module's own weight matrices, and of those of children that it never calls.

    Attention multiplies by its output projection's weight without running that module. A parameter
    that extends along one axis alone is no matrix, whatever its number of dimensions.
    """
    prefix = f"{name}." if name else ""
    own = [prefix + key for key in _own_matrices(module)]
    yield from own
    for child, below in module.named_children():
        if own and f"{prefix}{child}" not in called:
            yield from (f"{prefix}{child}.{key}" for key in _own_matrices(below))


def _own_matrices(module: nn.Module) -> Iterator[str]:
    always = isinstance(module, MATRIX_LAYERS)
    for key, value in module.named_parameters(recurse=False):
        if sum(size > 1 for size in value.shape) >= 2 or (always and value.dim() >= 2):
            yield key


@torch.no_grad()
def _calls(model: nn.Module, inputs: TensorTree) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """The name, the module and the shape of the output of every module's first call."""
    calls: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

    def record(name: str, module: nn.Module, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) and output else output
        if isinstance(tensor, Tensor):
            calls.setdefault(name, (module, tuple(tensor.shape)))

    training = model.training
    try:
        # In evaluation mode a batch leaves no trace in running statistics.
        with hooked(dict(model.named_modules()), record), as_written():
            call(model.eval(), inputs)
    finally:
        model.train(training)
    return [(name, module, shape) for name, (module, shape) in calls.items()]


def _limits(module: nn.Module) -> Limits | None:
    return LIMITS.get(type(module))
