"""Policies for a whole model: what a framework or an article does by default."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers.fans import Fans
from initstudy.initializers.policy import Policy, Rule, as_policy
from initstudy.initializers.schemes import Constant, Initializer, Normal, Shape, Type, Uniform

# torch draws the weights of linear and convolution layers with kaiming_uniform_(a=sqrt(5)), which
# is U(±1/sqrt(fan_in)), by its own count of fans, and their biases from the same interval
# (reset_parameters of torch.nn.Linear and torch.nn.modules.conv._ConvNd).
TORCH_LAYERS = ("linear", "conv", "conv_transpose")


@dataclass(frozen=True)
class _InverseRootFanIn(Initializer):
    """U(±1/sqrt(fan_in))."""

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        bound = 1 / math.sqrt(fans.fan_in)
        return Uniform(bound)(shape, fans, generator=generator, dtype=dtype)


def article(std: float = 1.0) -> Policy:
    """The W&B tutorial's: every weight and embedding from N(0, std²), biases zero.

    The padding row of an embedding is zero, normalizations start with scale one and offset zero
    (Weights & Biases, tutorial on initializing weights in PyTorch, function `_init_weights`).
    """
    return as_policy(Normal(std))


def torch_default() -> Policy:
    """What each module of torch does in `reset_parameters`."""
    return Policy(
        (
            Rule(_InverseRootFanIn(), kind=TORCH_LAYERS, convention="torch"),
            Rule(Normal(1.0), kind="embedding"),
            Rule(Constant(1.0), kind="norm", role="weight"),
            Rule(Constant(0.0), kind="norm", role="bias"),
        )
    )
