"""What warnings are drawn from, and how they speak of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from initstudy.audit.result import ParameterRow
from initstudy.audit.signal import LayerSignal, Signal
from initstudy.initializers import WEIGHTED, gain

# Activation functions by the rule that is customary for them.
HE = {"relu", "relu6", "leaky_relu", "prelu", "rrelu"}


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured of a model.

    Attributes:
        model: The model.
        parameters: Its parameters.
        signal: Its pass.
        intended: Whether the parameters were tested against a policy.
        learning_rate: The learning rate of plain gradient descent that is to be used, or None.
        sharpness: The largest eigenvalue of the loss's Hessian, or None if it was not asked for.
    """

    model: nn.Module
    parameters: Sequence[ParameterRow]
    signal: Signal
    intended: bool
    learning_rate: float | None = None
    sharpness: float | None = None

    @property
    def hidden(self) -> list[LayerSignal]:
        """All layers but the last."""
        return list(self.signal.layers[:-1])

    @property
    def normalized(self) -> bool:
        """Whether most hidden layers read or write what a normalization scales."""
        layers = self.hidden
        return sum(s.normalized or s.input_normalized for s in layers) > len(layers) / 2

    def weight_of(self, layer: str) -> ParameterRow | None:
        """The row of a layer's main weight."""
        prefix = f"{layer}." if layer else ""
        rows = [
            row
            for row in self.parameters
            if row.name == layer
            or (row.name.startswith(prefix) and "." not in row.name[len(prefix) :])
        ]
        weights = [r for r in rows if len(r.shape) > 1 and r.role != "bias"]
        return max(weights, key=lambda row: row.std, default=None)

    def bias_of(self, layer: str) -> ParameterRow | None:
        """The row of a layer's bias."""
        name = f"{layer}.bias".removeprefix(".")
        return next((row for row in self.parameters if row.name == name), None)

    def weights(self) -> list[ParameterRow]:
        """The matrices that map a signal."""
        return [
            row
            for row in self.parameters
            if row.kind in WEIGHTED and row.role in ("weight", "recurrent") and len(row.shape) > 1
        ]


def rule_for(activation: str | None) -> str:
    """The rule that keeps a signal's size before an activation function, in words.

    Args:
        activation: The function's name; None where none follows.

    Example:
        >>> from initstudy.audit.evidence import rule_for
        >>> rule_for("relu"), rule_for("silu")
        ('He, √(2/fan_in)', '1.68/√fan_in')
    """
    if activation in HE:
        return "He, √(2/fan_in)"
    if activation == "tanh":
        return "Xavier with gain 5/3"
    if activation in (None, "selu", "linear"):
        return "LeCun, 1/√fan_in"
    return f"{gain_of(activation):.2f}/√fan_in"


def gain_of(activation: str | None) -> float:
    """The factor on 1/√fan_in that keeps a signal's size before an activation function.

    Args:
        activation: The function's name; None where none follows.

    Example:
        >>> from initstudy.audit.evidence import gain_of
        >>> round(gain_of("relu"), 3), gain_of("tanh"), gain_of(None)
        (1.414, 1.6666666666666667, 1.0)
    """
    if activation in (None, "selu", "linear", "sin", "glu"):
        return 1.0
    if activation in ("relu6", "leaky_relu", "prelu", "rrelu", "hardtanh"):
        return gain("tanh" if activation == "hardtanh" else "relu")
    try:
        return gain(activation)
    except ValueError:
        # A class of another library, such as NewGELUActivation.
        known = ("gelu", "silu", "mish", "swish", "relu", "tanh")
        return next((gain(name) for name in known if name in activation), 1.0)


def few(names: Sequence[str]) -> str:
    """Names in a sentence: two of them, and how many more.

    Args:
        names: The names; that of a model which is one layer is empty.

    Example:
        >>> from initstudy.audit.evidence import few
        >>> few(["a", "b", "c"])
        'a, b and 1 more'
    """
    shown = ", ".join(name or "the layer" for name in names[:2])
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more"
