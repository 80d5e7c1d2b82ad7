"""Stochastic gradient descent.

Reference: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from initstudy.engine.contiguous import side_by_side
from initstudy.engine.optimizers.base import Common, Fused, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's momentum.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        momentum: The momentum, in the same form.
        nesterov: Whether the momentum is Nesterov's.
        common: See `Common`.
    """

    per_member = (*Optimizer.per_member, "momentum")
    has_fused_kernel = True

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        momentum: PerMember = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.momentum = self._each(momentum)
        self.nesterov = nesterov
        if bool((self.momentum != 0).any()):
            self.state["momentum_buffer"] = side_by_side(self.params)

    def _update_fused(self, fused: Fused, lr: float) -> None:
        torch.ops.aten._fused_sgd_(
            [fused.params],
            [fused.grads],
            list(fused.state.values()),
            weight_decay=fused.settings["weight_decay"],
            momentum=fused.settings["momentum"],
            lr=lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        rates = {scale: -scale * lr for scale in set(self.scales)}
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if self._decays:
                grad = grad.addcmul(param, self.decay_of(param))
            if "momentum_buffer" in self.state:
                momentum = along_members(self.momentum, param)
                buffer = self.state["momentum_buffer"][i].mul_(momentum).add_(grad)
                grad = grad.addcmul(buffer, momentum) if self.nesterov else buffer
            param.addcmul_(grad, along_members(rates[self.scales[i]], param))
