"""RMSprop.

Reference: https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from initstudy.engine.contiguous import side_by_side
from initstudy.engine.optimizers.base import Common, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members


class RMSprop(Optimizer):
    """The gradient divided by the root of an average of its square; the decay is added to it.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        momentum: The momentum, in the same form.
        alpha: The decay rate of the average of the gradient's square.
        eps: Added to the denominator.
        centered: Whether the average of the gradient, squared, is taken off that of its square.
        common: See `Common`.
    """

    per_member = (*Optimizer.per_member, "momentum")

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        momentum: PerMember = 0.0,
        alpha: float = 0.99,
        eps: float = 1e-8,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.momentum = self._each(momentum)
        self.alpha = alpha
        self.eps = eps
        self.state["square_avg"] = side_by_side(self.params)
        if centered:
            self.state["grad_avg"] = side_by_side(self.params)
        if bool((self.momentum != 0).any()):
            self.state["momentum_buffer"] = side_by_side(self.params)

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if self._decays:
                grad = grad.addcmul(param, self.decay_of(param))
            square_avg = self.state["square_avg"][i]
            square_avg.mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
            if "grad_avg" in self.state:
                grad_avg = self.state["grad_avg"][i].lerp_(grad, 1 - self.alpha)
                denominator = square_avg.addcmul(grad_avg, grad_avg, value=-1).sqrt_()
            else:
                denominator = square_avg.sqrt()
            update = torch.div(grad, denominator.add_(self.eps), out=denominator)
            if "momentum_buffer" in self.state:
                buffer = self.state["momentum_buffer"][i]
                update = buffer.mul_(along_members(self.momentum, param)).add_(update)
            param.addcmul_(update, along_members(-lr * self.scales[i], param))
