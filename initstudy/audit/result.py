"""What an audit finds, as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from initstudy.audit.signal import Signal

if TYPE_CHECKING:
    import altair

    from initstudy.audit.repair import Repair


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


@dataclass(frozen=True, repr=False)
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

    def chart(self) -> altair.LayerChart:
        """Signal and gradient through depth, with the culprit marked; needs Altair.

        Raises:
            ValueError: The audit had no inputs, so that there are no layers to draw.

        Example:
            >>> import torch
            >>> from initstudy import audit_model
            >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
            >>> picture = audit_model(net, torch.randn(4, 8)).chart()
            >>> len(picture.layer)
            3
        """
        from initstudy.audit.chart import as_chart

        return as_chart(self)

    def repair(self) -> Repair:
        """The smallest change that removes the causes of the warnings and keeps all else.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> from initstudy import audit_model
            >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
            >>> _ = nn.init.constant_(net[0].weight, 0.1)
            >>> found = audit_model(net, torch.randn(64, 8)).repair()
            >>> [(rule.name, type(rule.initializer).__name__) for rule in found.rules]
            [(('0.weight',), 'KaimingNormal')]
        """
        from initstudy.audit.repair import repair

        return repair(self)

    def _repr_html_(self) -> str:
        from initstudy.audit.html import as_html

        return as_html(self)

    def __repr__(self) -> str:
        codes = ", ".join(warning.code for warning in self.causes) or "no warnings"
        size = f"{len(self.parameters)} parameters, {len(self.signal.layers)} layers"
        return f"Audit({size}: {codes})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: numbers that are not finite become text."""
        return plain(asdict(self))


def plain(value: Any) -> Any:
    """A value for JSON: tuples become lists, and numbers that are not finite text.

    Args:
        value: Dicts, lists, tuples, numbers and text.
    """
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
