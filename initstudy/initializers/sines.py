"""Networks of sines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from initstudy.initializers.branches import is_layer
from initstudy.initializers.checks import finite
from initstudy.initializers.graph import trace
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.policy import ModelPolicy, Policy, Reset, Rule
from initstudy.initializers.schemes import FanBound


@dataclass(frozen=True)
class Siren(ModelPolicy):
    """U(±1/fan_in) for the layer that reads the data, U(±√(6/fan_in)/w0) for every other one.

    It is for activation functions sin(w0·x), so that pre-activations times w0 are standard normal
    in every layer. Biases are as torch makes them (Sitzmann et al. 2020, Implicit neural
    representations with periodic activation functions, section 3.2 and supplement 1.5; the
    authors' code, https://github.com/vsitzmann/siren, modules.py).

    Args:
        w0: The factor of the sines' argument.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import Siren, initialize
        >>> model = nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 3))
        >>> model = initialize(model, Siren(w0=30), seed=0)
        >>> bool(model[0].weight.abs().max() <= 1 / 2), bool(model[1].weight.abs().max() <= 0.0103)
        (True, True)
    """

    w0: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "w0", finite("w0", self.w0, "an angular frequency"))
        if self.w0 == 0:
            raise ValueError("init.w0=0: must be above 0")

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no layer with weights.
        """
        layers = [node.name for node in trace(model, batch).nodes if is_layer(node)]
        if not layers:
            raise ValueError(f"init: Siren found no layer in the {type(model).__name__}")
        first = f"{layers[0]}.weight".removeprefix(".")
        return Policy(
            (
                Rule(FanBound(1.0, 1.0), name=first),
                Rule(FanBound(math.sqrt(6) / self.w0, 0.5), kind=WEIGHTED, role="weight"),
                Rule(Reset(), kind=(*WEIGHTED, "norm", "prelu")),
            )
        )
