"""What a model really starts from: `audit_model(model, batch)`, or `initstudy audit` in a shell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from initstudy.audit.advice import advise
from initstudy.audit.call import Call, as_call
from initstudy.audit.evidence import Evidence
from initstudy.audit.parameters import parameter_rows
from initstudy.audit.result import Audit, ParameterRow, Warned
from initstudy.audit.scalar import LossFunction
from initstudy.audit.sharpness import measure_sharpness
from initstudy.audit.signal import LayerSignal, Signal, measure_signal
from initstudy.audit.table import show
from initstudy.audit.tensors import is_real
from initstudy.initializers.inplace import AnyPolicy

__all__ = ["Audit", "LayerSignal", "ParameterRow", "Signal", "Warned", "audit_model", "show"]


def audit_model(
    model: nn.Module,
    *inputs: Any,
    targets: Any = None,
    loss: LossFunction | None = None,
    policy: AnyPolicy | None = None,
    learning_rate: float | None = None,
    **keywords: Any,
) -> Audit:
    """Reads a model's initial weights, and what they do to one batch.

    The model's parameters, buffers, gradients and modes and torch's random state are left as they
    are. Without inputs, and on the meta device, the parameters alone are read.

    Args:
        model: Any module, on any device.
        *inputs: The model's positional arguments: tensors, arrays, or lists and dicts of them. A
            tuple that stands alone holds all of them, and a dict that stands alone the keyword
            arguments, if the model takes arguments of its names.
        targets: Labels `[batch]` of a classifier (random ones by default), tokens `[batch, length]`
            of a language model, or real numbers of the output's shape for a regression.
        loss: A function of what the model returns, or of that and the targets, to a scalar.
        policy: What the model was to be initialized with: a policy, an initializer or a name, as
            `initstudy.initialize` takes them. Without it, the initialization of each parameter is
            recognized from its values.
        learning_rate: The learning rate of plain gradient descent that is to be used, which is
            compared with the curvature of the loss.
        **keywords: Further keyword arguments of the model.

    Returns:
        One row per parameter, one row per layer, the loss, and warnings, the first cause first.
        `initstudy.audit.show(rich.console.Console(), result)` prints them as tables.

    Raises:
        ValueError: The model cannot run on the inputs, the targets do not fit its output, or the
            policy is not for it.

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
    model = _unwrapped(model)
    call = as_call(model, inputs, keywords)
    rows = parameter_rows(model, policy)
    meta = any(p.is_meta for p in model.parameters())
    signal, sharpness = Signal(), None
    if call and not meta:
        _require_finite(call)
        signal = _measured(lambda: measure_signal(model, call, targets, loss), model, call)
    if learning_rate is not None and call and not meta:
        sharpness = _measured(lambda: measure_sharpness(model, call, targets, loss), model, call)
    evidence = Evidence(model, rows, signal, policy is not None, learning_rate, sharpness)
    warnings, notes = advise(evidence)
    return Audit(rows, signal, tuple(warnings), tuple(notes), sharpness)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module itself, out of a compiled or data-parallel one.

    Raises:
        ValueError: It is no module that can be read, or has no parameters.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: a {type(model).__name__} is no torch.nn.Module")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"model: a {type(model).__name__} is compiled by TorchScript, which runs no hooks; "
            "audit the module that it was made from"
        )
    if next(model.parameters(), None) is None:
        raise ValueError(f"{type(model).__name__} has no parameters to audit")
    return model


def _require_finite(call: Call) -> None:
    if any(is_real(t) and not bool(torch.isfinite(t).all()) for t in call.tensors()):
        raise ValueError("the batch holds NaN or infinities")


def _measured(measure: Any, model: nn.Module, call: Call) -> Any:
    try:
        return measure()
    except ValueError as error:
        # The audit's own, unless a model raised it.
        if error.__traceback__ is not None and _is_ours(error):
            raise
        raise _cannot_run(model, call, error) from error
    except Exception as error:
        # A model may raise anything.
        raise _cannot_run(model, call, error) from error


def _is_ours(error: ValueError) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    name = "" if last is None else str(last.tb_frame.f_globals.get("__name__", ""))
    return name.startswith("initstudy.audit")


def _cannot_run(model: nn.Module, call: Call, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0] if not isinstance(error, KeyError) else f"KeyError {lines[0]}"
    return ValueError(f"{type(model).__name__} cannot run on {call}: {reason}")
