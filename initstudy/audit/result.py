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
        measured_fan_in: What a unit of a transposed convolution sums on average, which noise that
            is sent through it shows; None for all others.
        outliers: The number of entries that the distribution does not explain.
        outlier: How many standard deviations the furthest of them lies from the median.
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
    measured_fan_in: float | None = None
    outliers: int = 0
    outlier: float = 0.0


@dataclass(frozen=True)
class Warned:
    """Something to act on.

    Attributes:
        code: Its name, for programs.
        message: What is so, and what to do.
        where: The parameters or layers it is about, the first culprit first.
        follows: The code of the warning that this one is a consequence of, or None.
        note: Whether it is worth knowing and no fault: a fine-tuned model has frozen layers.
    """

    code: str
    message: str
    where: tuple[str, ...]
    follows: str | None = None
    note: bool = False


@dataclass(frozen=True)
class Audit:
    """What a model starts from, and what that does to signal and gradient.

    Attributes:
        parameters: One row per parameter, in the model's order.
        signal: One forward and backward pass.
        warnings: What to act on, the first cause first; consequences follow their causes.
        notes: What is worth knowing and no fault.
        sharpness: The largest eigenvalue of the loss's Hessian, if a learning rate was given.
    """

    parameters: tuple[ParameterRow, ...]
    signal: Signal
    warnings: tuple[Warned, ...]
    notes: tuple[Warned, ...] = ()
    sharpness: float | None = None

    @property
    def causes(self) -> tuple[Warned, ...]:
        """The warnings that are no consequence of another one."""
        return tuple(warning for warning in self.warnings if warning.follows is None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: numbers that are not finite become text."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
