"""One update of all members, over tensors that stay where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from initstudy.engine.autograd import Pass, differentiate
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.stack import Stack, Tensors


class Stepper:
    """Takes the members a step further, and freezes those that diverge.

    All that a step changes it changes in place, and on a GPU the host never waits for an answer, so
    that a step can be captured.

    Args:
        stack: The members.
        optimizer: Holds `stack.params`.

    Attributes:
        number: How many updates there were.
        alive: Whose losses were always finite.
        diverged_at: The first step whose loss was not, or -1.
        last_loss: That loss, or else the latest.
    """

    def __init__(self, stack: Stack, optimizer: Optimizer) -> None:
        self.stack = stack
        self.optimizer = optimizer
        device = stack.device
        self.number = torch.zeros((), dtype=torch.long, device=device)
        self.alive = torch.ones(stack.size, dtype=torch.bool, device=device)
        self.diverged_at = torch.full((stack.size,), -1, device=device)
        self.last_loss = torch.zeros(stack.size, device=device)

    def __call__(
        self, x: Float[Tensor, "groups batch ..."], y: Int[Tensor, "groups batch"]
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """One update; each member's loss and accuracy on the batch before it."""
        buffers = self.copy_of_buffers()
        seen = differentiate(self.stack, x, y)
        self.update(seen, buffers)
        return seen.loss, seen.hits

    def copy_of_buffers(self) -> Tensors:
        """The buffers, which a pass in training mode changes."""
        return {name: buffer.clone() for name, buffer in self.stack.buffers.items()}

    def update(self, seen: Pass, buffers_before: Tensors) -> None:
        """Updates the members whose loss is finite and freezes the others as they were."""
        if self._all_go_on(seen.loss):
            self.last_loss.copy_(seen.loss)
            self.number.add_(1)
            self.optimizer.step(seen.grads)
            return
        finite = torch.isfinite(seen.loss)
        ends = self.alive & ~finite
        self.last_loss.copy_(torch.where(self.alive, seen.loss, self.last_loss))
        self.diverged_at.copy_(torch.where(ends, self.number, self.diverged_at))
        self.alive.logical_and_(finite)
        self.number.add_(1)
        self.optimizer.step(seen.grads, self.alive)
        for name, buffer in self.stack.buffers.items():
            alive = self.alive.view(-1, *[1] * (buffer.dim() - 1))
            buffer.copy_(torch.where(alive, buffer, buffers_before[name]))

    def _all_go_on(self, loss: Tensor) -> bool:
        """Whether no member has diverged; False also where asking would cost too much."""
        # Of finite losses the sum may overflow; then they are looked at one by one. A GPU would
        # have to stop for the answer.
        on_cpu = self.stack.device.type == "cpu"
        return on_cpu and math.isfinite(loss.sum()) and bool(self.alive.all())

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with the members at these places alone."""
        self.stack = self.stack.select(places)
        self.optimizer.select(list(self.stack.params.values()), places)
        self.alive, self.diverged_at, self.last_loss = (
            t[places] for t in (self.alive, self.diverged_at, self.last_loss)
        )
