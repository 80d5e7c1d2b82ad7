"""What an audit finds, as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from initstudy.audit.signal import Signal


@dataclass(frozen=True)
class ParameterRow:
    """One parameter.

    Attributes:
        name: In the model.
        layer: The class of the module that owns it.
        kind: The layer's kind as policies name it, or None where it is not known.
        role: "weight", "recurrent", "bias", or None.
        shape: Of the parameter.
        fan_in: Inputs that a unit really sums; None where the layer's kind is not known.
        fan_out: Outputs that an input really feeds.
        distribution: The initialization that its values have.
        intended_std: The deviation that this initialization means; None where none is known.
        std: Measured deviation.
        mean: Measured mean.
        pvalue: Goodness of fit: of the Kolmogorov–Smirnov test against the distribution.
        convention: By whose count of fans it was scaled, "layer" or "torch".
    """

    name: str
    layer: str
    kind: str | None
    role: str | None
    shape: tuple[int, ...]
    fan_in: int | None
    fan_out: int | None
    distribution: str
    intended_std: float | None
    std: float
    mean: float
    pvalue: float | None
    convention: str


@dataclass(frozen=True)
class Warned:
    """Something to act on.

    Attributes:
        code: Its name, for programs.
        message: What is so, and what to do.
        where: The parameters or layers it is about.
    """

    code: str
    message: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What a model starts from, and what that does to signal and gradient.

    Attributes:
        parameters: A row a parameter, in the model's order.
        signal: One forward and backward pass.
        warnings: What to act on, most urgent first.
    """

    parameters: tuple[ParameterRow, ...]
    signal: Signal
    warnings: tuple[Warned, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: numbers that are not finite become text."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
