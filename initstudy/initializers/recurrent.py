"""Initializations of recurrent layers that are about time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type
from initstudy.initializers.distributions import Constant
from initstudy.initializers.fans import Fans
from initstudy.initializers.kinds import WEIGHTED, kind
from initstudy.initializers.laws import Law
from initstudy.initializers.policy import Action, ModelPolicy, Policy, Reset, Rule


@dataclass(frozen=True)
class ChronoBias(Initializer):
    """An LSTM's bias: log U(1, t_max - 1) for the forget gate, its negative for the input gate.

    The biases of the other gates are zero. A forget gate of bias log(t - 1) forgets over about t
    steps (Tallec & Ollivier 2018, Can recurrent neural networks warp time?, eq. 16). torch stacks
    the gates as input, forget, cell, output, and adds two biases, of which only one should be
    filled so.

    Args:
        t_max: The longest range of dependencies, in steps; above 2.

    Example:
        >>> from initstudy.initializers import ChronoBias
        >>> bias = ChronoBias(t_max=100)((12,))
        >>> bool((bias[:3] == -bias[3:6]).all()), bias[6:].tolist()
        (True, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """

    t_max: float = 784.0
    kinds = ("lstm",)

    def __post_init__(self) -> None:
        self._number("t_max", "a number of steps")
        if self.t_max <= 2:
            raise ValueError(f"init.t_max={self.t_max}: must be above 2, or log U is of nothing")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if len(shape) != 1 or shape[0] % 4 or fans.blocks not in (1, 4):
            raise ValueError(f"ChronoBias fills the four gates' bias of an LSTM, not {shape}")
        hidden = shape[0] // 4
        forget = torch.empty(hidden, dtype=dtype).uniform_(1, self.t_max - 1, generator=generator)
        bias = torch.zeros(shape, dtype=dtype)
        bias[hidden : 2 * hidden] = forget.log()
        bias[:hidden] = -bias[hidden : 2 * hidden]
        return bias

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return Law("chrono bias", 0.0, math.nan, tested=False)


@dataclass(frozen=True)
class Chrono(ModelPolicy):
    """LSTMs with `ChronoBias`; every other parameter as its module makes it.

    Args:
        t_max: The longest range of dependencies, in steps; above 2.
        others: What fills every other parameter.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import Chrono, initialize
        >>> layer = initialize(nn.LSTM(3, 4), Chrono(t_max=50), seed=0)
        >>> bool((layer.bias_ih_l0[4:8] >= 0).all()), layer.bias_hh_l0.any().item()
        (True, False)
    """

    t_max: float = 784.0
    others: Action = Reset()  # noqa: RUF009 - it is immutable

    def __post_init__(self) -> None:
        object.__setattr__(self, "t_max", ChronoBias(self.t_max).t_max)

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Not used.

        Raises:
            ValueError: The model has no LSTM.
        """
        if not any(kind(module) == "lstm" for module in model.modules()):
            raise ValueError(f"init: Chrono found no LSTM in the {type(model).__name__}")
        return Policy(
            (
                Rule(ChronoBias(self.t_max), kind="lstm", role="bias", name="*bias_ih*"),
                Rule(Constant(0.0), kind="lstm", role="bias"),
                Rule(self.others, kind=(*WEIGHTED, "norm", "prelu")),
            )
        )
