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
from initstudy.initializers.policy import ModelPolicy, Policy, Rule, biases_and_norms
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
    optimizer, not to the initialization.

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
