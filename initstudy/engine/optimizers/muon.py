"""Muon: momentum whose matrices are orthogonalized.

References: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), and
https://docs.pytorch.org/docs/stable/generated/torch.optim.Muon.html, whose steps these are. As in
the authors' code, parameters that are not matrices of hidden layers are updated by AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from initstudy.engine.contiguous import side_by_side
from initstudy.engine.optimizers.adam import AdamW
from initstudy.engine.optimizers.base import Common, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members

# The coefficients of the iteration, and what keeps it from dividing by zero.
A, B, C = 3.4445, -4.7750, 2.0315
EPSILON = 1e-7


class Muon(Optimizer):
    """Muon for matrices, and AdamW for the other parameters.

    Args:
        params: The stacked parameters.
        lr: The learning rate of the matrices, one number for all members or one per member.
        weight_decay: The decoupled weight decay of all parameters, in the same form.
        momentum: The momentum, in the same form.
        nesterov: Whether the momentum is Nesterov's.
        ns_steps: The number of Newton-Schulz iterations.
        adjust_lr_fn: How the learning rate follows from a matrix's shape, as in torch: "original",
            "match_rms_adamw" or "spectral_unclamped".
        adamw_lr: The learning rate of the other parameters. It follows the same schedule.
        betas: AdamW's decay rates.
        eps: What AdamW adds to the denominator.
        by_adamw: For each parameter whether it is AdamW's; by default if it is no matrix. A
            parameter that is no matrix always is.
        common: See `Common`.
    """

    per_member = (*Optimizer.per_member, "momentum")

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        momentum: PerMember = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "original",
        adamw_lr: PerMember = 3e-4,
        betas: tuple[float, float] | list[float] = (0.9, 0.95),
        eps: float = 1e-10,
        by_adamw: Sequence[bool] | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.momentum = self._each(momentum)
        self.nesterov = nesterov
        self.ns_steps = ns_steps
        asked = [False] * len(self.params) if by_adamw is None else by_adamw
        # The first axis is that of the members.
        self.matrices = [i for i, p in enumerate(self.params) if p.dim() == 3 and not asked[i]]
        self.others = [i for i in range(len(self.params)) if i not in self.matrices]
        self.adjusted = {
            i: adjustment(self.params[i].shape[1:], adjust_lr_fn) for i in self.matrices
        }
        if self.matrices:
            self.state["momentum_buffer"] = side_by_side(self._chosen(self.matrices))
        # A schedule has scaled `lr` already, and scales both rates alike.
        self.ratio = self._each(adamw_lr) / self.lr
        self.adamw = self._adamw(betas, eps) if self.others else None
        if self.adamw is not None:
            self.state |= self.adamw.state

    def keep(self, members: Sequence[int], params: Sequence[Tensor]) -> None:
        """See `Optimizer.keep`."""
        super().keep(members, params)
        self.ratio = self.ratio[members]
        if self.adamw is not None:
            self.adamw.keep(members, self._chosen(self.others))
            self.state |= self.adamw.state

    def _adamw(self, betas: Sequence[float], eps: float) -> AdamW:
        return AdamW(
            self._chosen(self.others),
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=list(betas),
            eps=eps,
            scales=[self.scales[i] for i in self.others],
            vector_decay=self.vector_decay,
        )

    def _chosen(self, indices: Sequence[int]) -> list[Tensor]:
        return [self.params[i] for i in indices]

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        buffers = self.state.get("momentum_buffer", [])
        for i, buffer in zip(self.matrices, buffers, strict=True):
            param, grad, rate = self.params[i], grads[i], lr * self.scales[i]
            momentum = along_members(self.momentum, param)
            buffer.lerp_(grad, 1 - momentum)
            update = torch.lerp(grad, buffer, momentum) if self.nesterov else buffer
            update = orthogonalized(update, self.ns_steps).to(param.dtype)
            if self._decays:
                param.mul_(1 - along_members(rate, param) * self.decay_of(param))
            param.addcmul_(update, along_members(-rate * self.adjusted[i], param))
        if self.adamw is not None:
            self.adamw._update([grads[i] for i in self.others], lr * self.ratio)


def orthogonalized(
    matrices: Float[Tensor, "members rows columns"], steps: int
) -> BFloat16[Tensor, "members rows columns"]:
    """The matrices with singular values near 1, by a Newton-Schulz iteration in bfloat16.

    Args:
        matrices: A matrix per member.
        steps: The number of iterations.
    """
    values = matrices.bfloat16()
    tall = values.shape[1] > values.shape[2]
    values = values.mT if tall else values
    norms = torch.linalg.vector_norm(values.flatten(1), dim=1).clamp(min=EPSILON)
    values = values / along_members(norms, values)
    for _ in range(steps):
        gram = values @ values.mT
        values = torch.baddbmm(
            values, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), values, beta=A
        )
    return values.mT if tall else values


def adjustment(shape: Sequence[int], kind: str) -> float:
    """The factor of the learning rate of a matrix of this shape, `(outputs, inputs)`.

    Raises:
        ValueError: There is no such kind.
    """
    rows, columns = shape
    if kind == "original":
        return math.sqrt(max(1, rows / columns))
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if kind == "spectral_unclamped":
        return math.sqrt(rows / columns)
    raise ValueError(f"adjust_lr_fn={kind}: there is no such adjustment")
