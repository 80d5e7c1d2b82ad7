"""Lion.

Reference: Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, Algorithm 2
(https://arxiv.org/abs/2302.06675). The names are those of the authors' PyTorch code
(https://github.com/google/automl/blob/master/lion/lion_pytorch.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from jaxtyping import Float
from torch import Tensor

from initstudy.engine.contiguous import side_by_side
from initstudy.engine.optimizers.base import Common, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members


class Lion(Optimizer):
    """The sign of an interpolation between the momentum and the gradient; the decay is decoupled.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        betas: The momentum's part in the update's direction, and its decay rate.
        common: See `Common`.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        betas: tuple[float, float] | list[float] = (0.9, 0.99),
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.betas = betas
        self.state["exp_avg"] = side_by_side(self.params)

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        beta1, beta2 = self.betas
        for param, grad, exp_avg, scale in zip(
            self.params, grads, self.state["exp_avg"], self.scales, strict=True
        ):
            rate = along_members(lr * scale, param)
            if self._decays:
                param.mul_(1 - rate * self.decay_of(param))
            param.addcmul_(exp_avg.lerp(grad, 1 - beta1).sign_(), -rate)
            exp_avg.lerp_(grad, 1 - beta2)
