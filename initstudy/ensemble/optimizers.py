"""SGD, Adam and AdamW on stacked parameters.

Each member has its own learning rate, weight decay and momentum. The algorithms are those of the
reference pages, step for step (https://docs.pytorch.org/docs/stable/optim.html: SGD, Adam, AdamW).
The state is updated in place; a member that is not alive keeps its parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PerMember = float | Sequence[float] | Float[Tensor, " members"]


class Optimizer(ABC):
    """Updates stacked tensors `[members, ...]` in place.

    Args:
        params: The stacked parameters.
        lr: Learning rate, one number or one a member.
        weight_decay: Likewise.
        scales: A factor of the learning rate for each parameter, as groups of parameters have in
            torch.optim; 1 by default.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        scales: Sequence[float] | None = None,
    ) -> None:
        self.params = list(params)
        self.scales = [1.0] * len(self.params) if scales is None else list(scales)
        # What is kept between steps, updated in place.
        self.state: dict[str, list[Tensor]] = {}
        self.lr = self._per_member(lr)
        self.weight_decay = self._per_member(weight_decay)
        self._decays = bool((self.weight_decay != 0).any())

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], alive: Bool[Tensor, " members"] | None = None) -> None:
        """One update of every living member.

        Args:
            grads: The gradients `[members, ...]`, in the order of the parameters.
            alive: Which members to update; all of them by default. The gradients of the others
                may hold anything, infinities and NaN included.
        """
        lr = self.lr
        if alive is not None:
            # A rate of zero alone would not do: zero times NaN is NaN.
            grads = [torch.where(_as(alive, g), g, 0.0) for g in grads]
            lr = torch.where(alive, lr, 0.0)
        self._update(grads, lr)

    def select(self, params: Sequence[Tensor], places: Sequence[int]) -> None:
        """Goes on with some of the members, whose parameters are now these."""
        self.params = list(params)
        self.state = {name: [t[places] for t in tensors] for name, tensors in self.state.items()}
        for name, values in vars(self).items():
            if isinstance(values, Tensor):
                setattr(self, name, values[places])

    @abstractmethod
    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None: ...

    def _per_member(self, value: PerMember) -> Float[Tensor, " members"]:
        like = self.params[0]
        values = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        return values.expand(len(like))


class SGD(Optimizer):
    """Stochastic gradient descent with (Nesterov) momentum."""

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        momentum: PerMember = 0.0,
        nesterov: bool = False,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, scales=scales)
        self.momentum = self._per_member(momentum)
        self.nesterov = nesterov
        if bool((self.momentum != 0).any()):
            self.state["momentum"] = [torch.zeros_like(p) for p in self.params]

    def _update(self, grads: Sequence[Tensor], lr: Tensor) -> None:
        rates = {scale: -scale * lr for scale in set(self.scales)}
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if self._decays:
                grad = grad.addcmul(param, _as(self.weight_decay, param))
            if "momentum" in self.state:
                momentum = _as(self.momentum, param)
                buffer = self.state["momentum"][i].mul_(momentum).add_(grad)
                grad = grad.addcmul(buffer, momentum) if self.nesterov else buffer
            param.addcmul_(grad, _as(rates[self.scales[i]], param))


class Adam(Optimizer):
    """Adam, with L2 regularization in the gradient."""

    decoupled = False

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, scales=scales)
        self.betas = betas
        self.eps = eps
        for name in ("mean", "square"):
            self.state[name] = [torch.zeros_like(p) for p in self.params]
        # On the device, so that a captured step counts on; 0.999 is too coarse in single precision.
        self.state["updates"] = [
            torch.zeros(len(self.lr), dtype=torch.float64, device=self.lr.device)
        ]

    def _update(self, grads: Sequence[Tensor], lr: Tensor) -> None:
        beta1, beta2 = self.betas
        updates = self.state["updates"][0].add_(1)
        correction1 = 1 - beta1**updates
        correction2 = (1 - beta2**updates).sqrt_()
        # Both corrections on one number a member, and not on all of their parameters'.
        corrected = lr * (correction2 / -correction1).to(lr.dtype)
        eps = (self.eps * correction2).to(lr.dtype)
        state = self.state["mean"], self.state["square"]
        for param, grad, mean, square, scale in zip(
            self.params, grads, *state, self.scales, strict=True
        ):
            if self._decays:
                decay = _as(self.weight_decay, param)
                if self.decoupled:
                    param.mul_(1 - _as(lr * scale, param) * decay)
                else:
                    grad = grad.addcmul(param, decay)
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            # One temporary, since fresh memory costs a CPU more than the numbers do.
            size = square.sqrt().add_(_as(eps, param))
            param.addcmul_(torch.div(mean, size, out=size), _as(corrected * scale, param))


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    decoupled = True


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def _as(values: Tensor, like: Tensor) -> Tensor:
    """One value a member, shaped to broadcast over a stacked tensor."""
    return values.view(-1, *[1] * (like.dim() - 1))
