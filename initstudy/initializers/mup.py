"""Maximal update parametrization: initial variances that let learning rates carry over widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type
from initstudy.initializers.checks import require_finite
from initstudy.initializers.distributions import Normal
from initstudy.initializers.fans import Fans
from initstudy.initializers.kinds import WEIGHTED, kind
from initstudy.initializers.laws import Law
from initstudy.initializers.policy import (
    ModelPolicy,
    Policy,
    Rule,
    biases_and_norms,
)
from initstudy.initializers.presets import WEIGHTS
from initstudy.initializers.schemes import VarianceScaling
from initstudy.initializers.slots import named_parameters


@dataclass(frozen=True)
class MuPOutput(Initializer):
    """N(0, gain²·base_fan_in/fan_in²), for an output layer.

    At fan_in = base_fan_in the variance is gain²/fan_in, as in other layers; it falls faster with
    the width (Yang et al. 2022, Tensor Programs V, table 3: output weights have a variance
    proportional to 1/fan_in²).

    Args:
        base_fan_in: The fan_in at which the output layer is like any other.
        gain: The factor on the standard deviation.

    Example:
        >>> from initstudy.initializers import Fans, MuPOutput
        >>> MuPOutput(base_fan_in=100).law((10, 400), Fans(400, 10)).std
        0.025
    """

    base_fan_in: int = 128
    gain: float = 1.0

    def __post_init__(self) -> None:
        require_finite("base_fan_in", self.base_fan_in, "the base width's fan_in", low=1)
        self._number("gain", "a gain")

    def _normal(self, fans: Fans) -> Normal:
        return Normal(self.gain * math.sqrt(self.base_fan_in) / fans.fan_in)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self._normal(fans)(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self._normal(fans).law(shape, fans)


@dataclass(frozen=True)
class MuP(ModelPolicy):
    """muP's initial weights: variance gain²/fan_in, and `MuPOutput` for the output layer.

    Yang et al. 2022, Tensor Programs V, table 3. Its learning rates by width belong to the
    optimizer, not to the initialization: see `mup_learning_rates`.

    Args:
        base_width: The fan_in at which the output layer is like any other.
        gain: The gain of the input and hidden layers, √2 for ReLU.
        output: A pattern for the names of the output weights; the model's last layer by default.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import MuP, initialize
        >>> model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
        >>> model = initialize(model, MuP(base_width=128), seed=0)
        >>> round(model[2].weight.std().item(), 3)  # √128/512
        0.022
    """

    base_width: int = 128
    gain: float = math.sqrt(2)
    output: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        require_finite("base_width", self.base_width, "the base width", low=1)
        require_finite("gain", self.gain, "a gain")

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Not used.

        Raises:
            ValueError: The model has no layer of a known kind.
        """
        layers = [name for name, module in model.named_modules() if kind(module) in WEIGHTED]
        if not layers:
            raise ValueError("init: muP found no layer of a known kind")
        output = self.output or f"{layers[-1]}.weight".removeprefix(".")
        hidden = VarianceScaling(self.gain**2, "fan_in", "normal")
        return Policy(
            (
                Rule(MuPOutput(self.base_width), role="weight", name=output),
                Rule(hidden, kind=WEIGHTED, role=WEIGHTS),
                *biases_and_norms(),
            )
        )


def mup_learning_rates(model: nn.Module, optimizer: str, base_width: int) -> dict[str, float]:
    """MuP's factor on the learning rate of every parameter, by name; all are 1 at the base width.

    Yang et al. 2022, Tensor Programs V, table 3. For Adam the factor is 1/width for weights that
    read a hidden layer, and 1 for all other parameters. For SGD it is the width for the first
    layer's weights and for the biases, scales and offsets of hidden layers, 1 for hidden weights,
    and 1/width for the output weights. The width is relative to the base width; that of a
    convolution is its number of channels.

    Args:
        model: A chain of linear and convolution layers, of which the first reads the data and the
            last computes the logits.
        optimizer: "sgd", "adam" or "adamw".
        base_width: The width at which every factor is 1.

    Returns:
        The factors by the parameters' names.

    Raises:
        ValueError: The model has fewer than two layers, a layer of another kind, or layers that are
            not a chain: one that reads something else than the layer before it.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import mup_learning_rates
        >>> model = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> mup_learning_rates(model, "adam", base_width=128)["2.weight"]
        0.5
    """
    layers = {n: m for n, m in model.named_modules() if kind(m) in WEIGHTED}
    reason = _not_a_chain(layers)
    if reason is not None:
        raise ValueError(
            f"optimizer.base_width={base_width}: muP's rates cover chains of at least two linear "
            f"or convolution layers; {reason}"
        )
    first, *_, last = layers
    grows = optimizer == "sgd"
    rates, width = {}, 1.0
    for name, _, key, parameter in named_parameters(model):
        owner = name.rpartition(".")[0]
        is_weight = owner in layers and key == "weight"
        reads = width
        width = len(parameter) / base_width if is_weight else width
        if is_weight and owner == last:
            rates[name] = 1 / reads
        elif is_weight and owner != first:
            rates[name] = 1.0 if grows else 1 / reads
        else:
            rates[name] = width if grows and owner != last else 1.0
    return rates


def _not_a_chain(layers: Mapping[str, nn.Module]) -> str | None:
    """Why layers are not a chain, or None if every layer reads the one before it."""
    other = [name for name, module in layers.items() if kind(module) not in ("linear", "conv")]
    if other:
        return f"{other[0]} is a {type(layers[other[0]]).__name__}"
    if len(layers) < 2:
        return "it has not two"
    before = None
    for name, module in layers.items():
        outputs, inputs = module.get_parameter("weight").shape[:2]
        # A linear layer may read every position of a convolution's channels.
        differs = kind(module) == "conv" and inputs != before
        if before is not None and (differs or inputs % before):
            return f"{name} reads {inputs} inputs and the layer before it has {before} outputs"
        before = outputs
    return None
