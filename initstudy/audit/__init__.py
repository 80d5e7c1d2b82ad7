"""What a model really starts from: `audit_model(model, batch)`, or `initstudy audit` in a shell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from initstudy.audit.advice import advise
from initstudy.audit.parameters import Chosen, parameter_rows
from initstudy.audit.result import Audit, ParameterRow, Warned
from initstudy.audit.signal import LayerSignal, LossFunction, Signal, measure_signal
from initstudy.audit.table import show

__all__ = ["Audit", "LayerSignal", "ParameterRow", "Signal", "Warned", "audit_model", "show"]


def audit_model(
    model: nn.Module,
    batch: Tensor | Sequence[Tensor],
    targets: Tensor | None = None,
    *,
    loss: LossFunction | None = None,
    policy: Chosen | None = None,
) -> Audit:
    """Reads a model's initial weights, and what they do to one batch.

    The model's parameters, buffers, gradients and modes and torch's random state are left as they
    are.

    Args:
        model: Any module, on any device.
        batch: The model's input, or a sequence of its positional arguments, on the same device.
        targets: The labels `[batch]` of a classifier; by default random ones.
        loss: A function from the model's output to a scalar, for a model that is no classifier.
        policy: The policy by which the model was to be initialized. Without it, the
            initialization of each parameter is recognized from its values.

    Returns:
        One row per parameter, one row per layer, the loss, and warnings.
        `initstudy.audit.show(rich.console.Console(), result)` prints them as tables.

    Raises:
        ValueError: The model cannot run on the batch, or the targets do not fit its output.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(20)), nn.Linear(64, 10))
        >>> result = audit_model(net, torch.randn(32, 64))
        >>> result.parameters[0].name, result.parameters[0].fan_in
        ('0.weight', 64)
        >>> "gradient" in {warning.code for warning in result.warnings}
        True
    """
    inputs = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    if not any(True for _ in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameters to audit")
    if any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in inputs):
        raise ValueError("the batch holds NaN or infinities")
    rows = tuple(parameter_rows(model, policy))
    try:
        signal = measure_signal(model, inputs, targets, loss)
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{type(model).__name__} cannot run on inputs of shape {shapes}: {reason}"
        ) from error
    return Audit(rows, signal, tuple(advise(model, rows, signal, intended=policy is not None)))
