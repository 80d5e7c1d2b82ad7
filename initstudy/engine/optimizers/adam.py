"""Adam and AdamW.

Reference: https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html and AdamW.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from initstudy.engine.contiguous import side_by_side
from initstudy.engine.optimizers.base import Common, Fused, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members


class Adam(Optimizer):
    """Adam, with the weight decay added to the gradient.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        betas: The decay rates of the averages of the gradient and of its square.
        eps: Added to the denominator.
        common: See `Common`.
    """

    decoupled: ClassVar[bool] = False
    has_fused_kernel = True

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        betas: tuple[float, float] | list[float] = (0.9, 0.999),
        eps: float = 1e-8,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.betas = betas
        self.eps = eps
        for name in ("exp_avg", "exp_avg_sq"):
            self.state[name] = side_by_side(self.params)
        # On the device, so that a captured step goes on counting; in double precision, since
        # 0.999 ** step is too coarse in single precision.
        self.state["step"] = side_by_side([self.lr.double()])

    def _update_fused(self, fused: Fused, lr: float) -> None:
        step = fused.state["step"].add_(1)[:1].float()
        kernel = torch.ops.aten._fused_adamw_ if self.decoupled else torch.ops.aten._fused_adam_
        kernel(
            [fused.params],
            [fused.grads],
            [fused.state["exp_avg"]],
            [fused.state["exp_avg_sq"]],
            [],
            [step],
            lr=lr,
            weight_decay=fused.settings["weight_decay"],
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        beta1, beta2 = self.betas
        step = self.state["step"][0].add_(1)
        correction1 = 1 - beta1**step
        correction2 = (1 - beta2**step).sqrt_()
        # Both corrections are applied to one number per member instead of all their parameters.
        corrected = lr * (correction2 / -correction1).to(lr.dtype)
        eps = (self.eps * correction2).to(lr.dtype)
        state = self.state["exp_avg"], self.state["exp_avg_sq"]
        for param, grad, exp_avg, exp_avg_sq, scale in zip(
            self.params, grads, *state, self.scales, strict=True
        ):
            if self._decays:
                decay = self.decay_of(param)
                if self.decoupled:
                    param.mul_(1 - along_members(lr * scale, param) * decay)
                else:
                    grad = grad.addcmul(param, decay)
            exp_avg.lerp_(grad, 1 - beta1)
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            # One temporary tensor: on a CPU fresh memory costs more than the arithmetic.
            denominator = exp_avg_sq.sqrt().add_(along_members(eps, param))
            update = torch.div(exp_avg, denominator, out=denominator)
            param.addcmul_(update, along_members(corrected * scale, param))


class AdamW(Adam):
    """Adam with decoupled weight decay; the arguments are those of `Adam`."""

    decoupled = True
