"""Initializations that look at data: sampled first, then rescaled layer by layer on a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from initstudy.initializers.base import Initializer
from initstudy.initializers.checks import require_finite
from initstudy.initializers.distributions import Normal
from initstudy.initializers.fans import compute_fans
from initstudy.initializers.kinds import kind
from initstudy.initializers.matrices import as_kernels, from_kernels
from initstudy.initializers.policy import ModelPolicy, Policy, as_policy
from initstudy.initializers.structured import Orthogonal

Values = dict[str, Tensor]
AFFINE = ("linear", "conv", "conv_transpose")


@dataclass(frozen=True)
class Cost:
    """What a calibration has used.

    Attributes:
        examples: The number of examples in the batch.
        passes: The number of forward passes of the batch, each up to the layer that was measured.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import LSUV, calibrate, draw
        >>> net, batch = nn.Linear(16, 8), torch.randn(64, 16)
        >>> values = draw(net, LSUV().start(), seed=0)
        >>> calibrate(net, LSUV(), values, batch)[1].examples
        64
    """

    examples: int
    passes: int


@dataclass(frozen=True)
class Calibrated(ABC):
    """An initialization that is adjusted on a batch of data.

    Linear and convolution layers are adjusted one after another, in the order in which they run.
    Other layers (recurrent, attention, embeddings) keep what was sampled.

    Args:
        initializer: What samples the weights first: an initializer or a whole policy.
        bias: The value of the biases.

    Example:
        >>> from initstudy.initializers import LSUV, Normal, WithinLayer
        >>> WithinLayer(initializer=Normal(0.5)).bias, isinstance(LSUV(), Calibrated)
        (0.0, True)
    """

    initializer: Initializer | Policy | ModelPolicy = field(default_factory=Orthogonal)
    bias: float = 0.0

    def start(self) -> Policy | ModelPolicy:
        """The policy that samples the parameters before the data is looked at."""
        return as_policy(self.initializer, self.bias)

    @abstractmethod
    def _adjust(self, layer: Layer, values: Values) -> int:
        """Adjusts one layer's values in place; returns the number of passes."""


@dataclass(frozen=True)
class LSUV(Calibrated):
    """Layer-sequential unit variance: weights divided by the deviation of their layer's output.

    The division is repeated until the variance over the batch is within the tolerance (Mishkin &
    Matas 2016, All you need is a good init, algorithm 1).

    Args:
        initializer: What samples the weights first; orthogonal in the paper.
        bias: The value of the biases.
        tolerance: The largest distance of the variance from one.
        iterations: The largest number of passes per layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import LSUV, initialize
        >>> x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
        >>> layer = initialize(nn.Linear(16, 8), LSUV(), seed=0, batch=x)
        >>> bool(abs(layer(x).var() - 1) < 0.1)
        True
    """

    tolerance: float = 0.1
    iterations: int = 10

    def __post_init__(self) -> None:
        require_finite("tolerance", self.tolerance, "the tolerance")
        require_finite("iterations", self.iterations, "the limit of iterations", low=1)

    def _adjust(self, layer: Layer, values: Values) -> int:
        for trial in range(1, self.iterations + 1):
            variance = float(layer.output(values).double().var(correction=0))
            if abs(variance - 1) <= self.tolerance:
                return trial
            if not 0 < variance < float("inf"):
                break
            values[layer.weight] = values[layer.weight] / variance**0.5
        raise ValueError(
            f"init: LSUV cannot bring {layer.name} to unit variance: it reached {variance:.4g} "
            f"in {trial} iterations (tolerance {self.tolerance:g})"
        )


@dataclass(frozen=True)
class WithinLayer(Calibrated):
    """Every channel of every layer starts with mean zero and variance one over the batch.

    The weights and the bias of a channel are divided by its deviation, and the bias shifted by its
    mean (Krähenbühl, Doersch, Donahue & Darrell 2016, Data-dependent initializations of
    convolutional neural networks, algorithm 1). A layer without a bias is only rescaled.

    Args:
        initializer: What samples the weights first; N(0, 1) in the paper.
        bias: The value of the biases of layers that are not adjusted.
        mean: The mean of every channel afterwards, the paper's β.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import WithinLayer, initialize
        >>> x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
        >>> layer = initialize(nn.Linear(16, 2), WithinLayer(), seed=0, batch=x)
        >>> [round(v, 4) for v in layer(x).var(0, correction=0).tolist()]
        [1.0, 1.0]
    """

    initializer: Initializer | Policy | ModelPolicy = field(default_factory=Normal)
    mean: float = 0.0

    def _adjust(self, layer: Layer, values: Values) -> int:
        channels = layer.by_channel(layer.output(values))
        std, mean = torch.std_mean(channels.double(), dim=1, correction=0)
        if not bool(((std > 0) & torch.isfinite(std)).all()):
            worst = float(std[std.isnan() | (std == 0) | std.isinf()][0] ** 2)
            raise ValueError(
                f"init: {layer.name} cannot be brought to unit variance: a channel has {worst:.4g}"
            )
        layer.scale(values, 1 / std)
        if layer.bias is not None:
            old = values[layer.bias].double()
            values[layer.bias] = ((old - mean) / std + self.mean).to(values[layer.bias].dtype)
        return 1


class Layer:
    """One affine layer of a model, and its output for given values of all parameters."""

    def __init__(self, model: nn.Module, name: str, batch: Tensor, seed: int) -> None:
        self.model, self.name, self.batch, self.seed = model, name, batch, seed
        self.module = model.get_submodule(name)
        self.weight = f"{name}.weight".removeprefix(".")
        has_bias = getattr(self.module, "bias", None) is not None
        self.bias = f"{name}.bias".removeprefix(".") if has_bias else None

    def output(self, values: Values) -> Tensor:
        """The layer's output before any activation function; the pass ends there.

        Args:
            values: The values of all parameters, by name.
        """

        def stop(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            raise _Reached(output)

        handle = self.module.register_forward_hook(stop)
        try:
            _forward(self.model, values, self.batch, self.seed)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise AssertionError(f"{self.name} did not run")

    def by_channel(self, output: Tensor) -> Float[Tensor, "channels rest"]:
        """An output with its channels, or units, first.

        Args:
            output: An output of the layer.
        """
        axis = output.dim() - 1 if kind(self.module) == "linear" else 1
        return output.movedim(axis, 0).flatten(1)

    def scale(self, values: Values, factors: Float[Tensor, " channels"]) -> None:
        """Multiplies the weights of every output channel, in place of the old values.

        Args:
            values: The values of all parameters, by name.
            factors: One factor per output channel.
        """
        fans = compute_fans(self.module, "weight")
        kernels = as_kernels(values[self.weight], fans)
        by_block = factors.to(kernels.dtype).view(fans.blocks, -1)
        by_block = by_block.view(*by_block.shape, *[1] * (kernels.dim() - 2))
        values[self.weight] = from_kernels(kernels * by_block, fans)


class _Reached(Exception):  # noqa: N818 - it is not an error
    def __init__(self, output: Tensor) -> None:
        self.output = output


@torch.no_grad()
def calibrate(
    model: nn.Module,
    calibrated: Calibrated,
    values: Values,
    batch: Shaped[Tensor, "examples ..."],
    *,
    seed: int = 0,
) -> tuple[Values, Cost]:
    """Adjusts sampled values on a batch. The model itself does not change.

    Args:
        model: The model, in the mode in which it will train.
        calibrated: The initialization.
        values: The values of every parameter, as `draw` gives them.
        batch: The inputs.
        seed: The seed of what the model itself samples in a pass, such as the masks of dropout.

    Returns:
        The new values, and what they cost.

    Raises:
        ValueError: The batch is not finite, the model has no affine layer, or a layer cannot be
            brought to unit variance.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import LSUV, calibrate, draw
        >>> net, batch = nn.Linear(16, 8), torch.randn(64, 16)
        >>> values = draw(net, LSUV().start(), seed=0)
        >>> calibrated, cost = calibrate(net, LSUV(), values, batch)
        >>> outputs = batch @ calibrated["weight"].T
        >>> bool(abs(outputs.var() - 1) < 0.1), cost.examples
        (True, 64)
    """
    if not bool(torch.isfinite(batch).all()):
        raise ValueError("init: the batch that calibrates the layers holds NaN or infinities")
    values = dict(values)
    passes = 1
    seen: set[str] = set()
    names = list(_affine_layers(model, values, batch, seed))
    if not names:
        raise ValueError("init: the model has no linear or convolution layer to calibrate")
    for name in names:
        layer = Layer(model, name, batch, seed)
        if layer.weight in seen or layer.weight not in values:
            continue
        seen.add(layer.weight)
        passes += calibrated._adjust(layer, values)
    return values, Cost(len(batch), passes)


def _affine_layers(model: nn.Module, values: Values, batch: Tensor, seed: int) -> Iterator[str]:
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.named_modules()
        if kind(module) in AFFINE
    ]
    try:
        _forward(model, values, batch, seed)
    finally:
        for handle in handles:
            handle.remove()
    yield from dict.fromkeys(order)


def _forward(model: nn.Module, values: Values, batch: Tensor, seed: int) -> None:
    # Running statistics of normalizations must not see the calibration.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _own_random_state(batch.device, seed):
        functional_call(model, values | buffers, (batch,))


@contextmanager
def _own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """A random state that depends on the seed alone; the global one is as before afterwards."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Not torch.manual_seed, which would seed every GPU for good.
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
