"""What a model really starts from: `initstudy.audit(model, batch)`, `python -m initstudy.audit`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from initstudy.audit.advice import advise
from initstudy.audit.parameters import Chosen, parameter_rows
from initstudy.audit.result import Audit, ParameterRow, Warned
from initstudy.audit.signal import LayerSignal, LossFunction, Signal, measure_signal
from initstudy.audit.table import show

__all__ = ["Audit", "LayerSignal", "ParameterRow", "Signal", "Warned", "audit", "show"]


def audit(
    model: nn.Module,
    batch: Tensor | Sequence[Tensor],
    targets: Tensor | None = None,
    *,
    loss: LossFunction | None = None,
    policy: Chosen | None = None,
) -> Audit:
    """Reads a model's initial weights, and what they do to one batch.

    Parameters, buffers, gradients, modes and the random state stay as they are.

    Args:
        model: Any module, on any device.
        batch: Its input, or a sequence of its positional arguments, on the same device.
        targets: Labels `[batch]` of a classifier; without them, random ones.
        loss: From the model's output to a scalar, for a model that is no classifier.
        policy: What the model was to be initialized by; without it, every parameter's
            initialization is read off its values.

    Returns:
        Rows for parameters and layers, the loss, and warnings. `show(rich.console.Console(),
        audit)` prints it.

    Raises:
        ValueError: The model cannot run on the batch, or the targets do not fit its output.
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


class _CallableModule(ModuleType):
    """`initstudy.audit` is the module of that name and, called, the function in it."""

    def __call__(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return audit(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
