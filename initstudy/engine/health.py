"""Which members still train, and since when not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Health:
    """The members' condition, in tensors on the device that every step updates in place.

    Args:
        members: How many there are.
        device: Where they train.

    Attributes:
        updates: How many updates there were.
        alive: Whether all of a member's losses were finite so far.
        diverged_at: The first step whose loss was not finite; -1 for a member that is alive.
        last_loss: That loss; the latest loss for a member that is alive.
    """

    def __init__(self, members: int, device: torch.device) -> None:
        self.updates: Int[Tensor, ""] = torch.zeros((), dtype=torch.long, device=device)
        self.alive: Bool[Tensor, " members"] = torch.ones(members, dtype=torch.bool, device=device)
        self.diverged_at: Int[Tensor, " members"] = torch.full((members,), -1, device=device)
        self.last_loss: Float[Tensor, " members"] = torch.zeros(members, device=device)

    def record(self, loss: Float[Tensor, " members"]) -> None:
        """Notes the losses of one step; a member whose loss is not finite is alive no more."""
        finite = torch.isfinite(loss)
        ends = self.alive & ~finite
        self.last_loss.copy_(torch.where(self.alive, loss, self.last_loss))
        self.diverged_at.copy_(torch.where(ends, self.updates, self.diverged_at))
        self.alive.logical_and_(finite)

    def keep(self, members: Sequence[int]) -> None:
        """Goes on with these members alone."""
        self.alive, self.diverged_at, self.last_loss = (
            tensor[members] for tensor in (self.alive, self.diverged_at, self.last_loss)
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return dict(vars(self))
