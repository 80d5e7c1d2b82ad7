"""The largest stable learning rate: the loss's curvature by power iteration."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.audit.call import Call
from initstudy.audit.scalar import LossFunction, scalar_of
from initstudy.audit.signal import _restored
from initstudy.audit.tensors import is_real
from initstudy.probes.forward import as_written

# Products with the Hessian, at most, and the change at which the iteration ends.
ITERATIONS = 60
TOLERANCE = 1e-3


def measure_sharpness(
    model: nn.Module, call: Call, targets: Any, loss: LossFunction | None
) -> float | None:
    """The largest eigenvalue of the loss's Hessian, or None if the loss has no second derivative.

    Power iteration finds the eigenvalue of the largest magnitude. If that one is negative, the
    Hessian is shifted by it and the iteration repeated.

    Args:
        model: Any module; it is left as it was.
        call: Its arguments.
        targets: Its targets, or None for random labels.
        loss: A loss of the user's own.
    """
    with _restored(model), torch.enable_grad(), as_written(recurrent=True):
        torch.manual_seed(0)
        scalar = scalar_of(call.run(model), call.tensors(), targets, loss)
        parameters: list[Tensor] = [p for p in model.parameters() if is_real(p) and p.is_leaf]
        found = torch.autograd.grad(scalar.value, parameters, create_graph=True, allow_unused=True)
        pairs = [
            (p, g) for p, g in zip(parameters, found, strict=True) if g is not None and g.grad_fn
        ]
        if not scalar.loss or not pairs:
            return None
        largest = _power(pairs, 0.0)
        if largest is not None and largest < 0:
            shifted = _power(pairs, largest)
            largest = None if shifted is None else shifted + largest
        return largest


def _power(pairs: list[tuple[Tensor, Tensor]], shift: float) -> float | None:
    """The eigenvalue of largest magnitude of the Hessian less a shift."""
    parameters, gradients = zip(*pairs, strict=True)
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    value = 0.0
    for _ in range(ITERATIONS):
        length = math.sqrt(sum(float(v.double().square().sum()) for v in vector))
        if not 0 < length < math.inf:
            return None if length else value
        vector = [v / length for v in vector]
        found = torch.autograd.grad(
            gradients, parameters, vector, retain_graph=True, allow_unused=True
        )
        product = [
            (torch.zeros_like(v) if h is None else h) - shift * v
            for h, v in zip(found, vector, strict=True)
        ]
        before, value = (
            value,
            sum(
                float((h.double() * v.double()).sum()) for h, v in zip(product, vector, strict=True)
            ),
        )
        if abs(value - before) <= TOLERANCE * abs(value):
            break
        vector = product
    return value
