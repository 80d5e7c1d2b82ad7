"""Clipping each member's gradients by their norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# What torch adds to the norm before it divides by it.
EPSILON = 1e-6


def clip(grads: Sequence[Tensor], largest: Float[Tensor, " members"]) -> None:
    """Scales each member's gradients in place, as `torch.nn.utils.clip_grad_norm_` does.

    The norm is that of all of a member's gradients together. Gradients that are not finite stay so.

    Args:
        grads: The stacked gradients `[members, ...]`.
        largest: The largest norm of each member; infinity for a member that is not clipped.
    """
    norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
    total = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
    factor = (largest / (total + EPSILON)).clamp(max=1.0)
    # An infinite norm below no limit at all is no reason to divide.
    factor = torch.where(largest.isinf(), 1.0, factor)
    for grad in grads:
        grad.mul_(along_members(factor, grad))


def along_members(values: Tensor, like: Tensor) -> Tensor:
    """One value per member, shaped to broadcast over a stacked tensor."""
    return values.view(-1, *[1] * (like.dim() - 1))
