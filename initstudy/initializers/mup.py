"""Maximal update parametrization: initial variances that let learning rates carry over widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type, require_finite
from initstudy.initializers.distributions import Normal
from initstudy.initializers.fans import Fans
from initstudy.initializers.kinds import WEIGHTED, kind
from initstudy.initializers.laws import Law
from initstudy.initializers.policy import (
    ModelPolicy,
    Policy,
    Rule,
    biases_and_norms,
    named_parameters,
)
from initstudy.initializers.presets import WEIGHTS
from initstudy.initializers.schemes import VarianceScaling


@dataclass(frozen=True)
class MuPOutput(Initializer):
    """N(0, gain²·base_fan_in/fan_in²): an output layer's, shrinking faster with width than others'.

    At fan_in = base_fan_in it is variance gain²/fan_in (Yang et al. 2022, Tensor Programs V, table
    3: output weights have variance proportional to 1/fan_in²).
    """

    base_fan_in: int = 128
    gain: float = 1.0

    def __post_init__(self) -> None:
        require_finite("base_fan_in", self.base_fan_in, "the base width's fan_in", low=1)
        require_finite("gain", self.gain, "a gain")

    def _normal(self, fans: Fans) -> Normal:
        return Normal(self.gain * math.sqrt(self.base_fan_in) / fans.fan_in)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self._normal(fans)(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self._normal(fans).law(shape, fans)


@dataclass(frozen=True)
class MuP(ModelPolicy):
    """muP's initial weights: hidden ones of variance gain²/fan_in, the output's as `MuPOutput`.

    Yang et al. 2022, Tensor Programs V, table 3. Its learning rates by width belong to the
    optimizer, not to the initialization: see `mup_learning_rates`.

    Args:
        base_width: The fan_in of the output layer at which it is no narrower than other layers.
        gain: Of input and hidden layers, √2 for ReLU.
        output: Pattern of the output weights' names; the model's last layer by default.
    """

    base_width: int = 128
    gain: float = math.sqrt(2)
    output: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        require_finite("base_width", self.base_width, "the base width", low=1)
        require_finite("gain", self.gain, "a gain")

    def of(self, model: nn.Module) -> Policy:
        """The rules for one model.

        Raises:
            ValueError: It has no layer.
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
    """MuP's factor of the learning rate for each parameter, by name; all 1 at the base width.

    Yang et al. 2022, Tensor Programs V, table 3. Adam: weights that read a hidden layer learn at
    1/width, all else at one rate. SGD: the first layer's weights, and biases, scales and offsets
    of hidden layers, learn at width; hidden weights at one rate; the output's at 1/width. A
    convolution's width is its channels.

    Args:
        model: A chain of linear and convolution layers: the first reads the data, the last writes
            the logits.
        optimizer: "sgd", "adam" or "adamw".
        base_width: Width at which every factor is 1.

    Raises:
        ValueError: It has fewer than two layers, or one of another kind.
    """
    layers = {n: m for n, m in model.named_modules() if kind(m) in WEIGHTED}
    other = [name for name, module in layers.items() if kind(module) not in ("linear", "conv")]
    if other or len(layers) < 2:
        found = f"{other[0]} is a {type(layers[other[0]]).__name__}" if other else "it has not two"
        raise ValueError(
            f"optimizer.base_width={base_width}: muP's rates cover models of at least two linear "
            f"or convolution layers; {found}"
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
