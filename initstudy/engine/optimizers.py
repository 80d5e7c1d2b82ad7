"""SGD, Adam and AdamW on stacked parameters.

Each member has its own learning rate, weight decay and momentum. The algorithms are those of the
reference pages, step for step (https://docs.pytorch.org/docs/stable/optim.html: SGD, Adam, AdamW).
The state is updated in place; a member that is not alive keeps its parameters.

Where all members share their settings and their values lie side by side (`flat`), one of torch's
fused kernels for the CPU updates them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from initstudy.engine.flat import side_by_side, whole

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
        self._fused: _Fused | None = None
        self._alike: bool | None = None

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], alive: Bool[Tensor, " members"] | None = None) -> None:
        """One update of every living member.

        Args:
            grads: The gradients `[members, ...]`, in the order of the parameters.
            alive: Which members to update; all of them by default. The gradients of the others
                may hold anything, infinities and NaN included.
        """
        if self._fused is None or self._fused.grads is not grads:
            self._fused = _Fused.of(self, grads)
        if self._fused.values is not None:
            with self._keeping([] if alive is None else (~alive).nonzero().flatten()):
                self._update_together(self._fused)
            return
        lr = self.lr
        if alive is not None:
            # A rate of zero alone would not do: zero times NaN is NaN.
            grads = [torch.where(_as(alive, g), g, 0.0) for g in grads]
            lr = torch.where(alive, lr, 0.0)
        self._update(grads, lr)

    def select(self, params: Sequence[Tensor], places: Sequence[int]) -> None:
        """Goes on with some of the members, whose parameters are now these."""
        # As it was with all of them, since another kernel would round otherwise.
        self._alike = self.alike
        self.params, self._fused = list(params), None
        for name, tensors in self.state.items():
            chosen = [t[places] for t in tensors]
            self.state[name] = side_by_side(chosen)
            for place, values in zip(self.state[name], chosen, strict=True):
                place.copy_(values)
        for name, values in vars(self).items():
            if isinstance(values, Tensor):
                setattr(self, name, values[places])

    @property
    def alike(self) -> bool:
        """Whether all members began with the same settings."""
        if self._alike is None:
            values = [v for v in vars(self).values() if isinstance(v, Tensor)]
            self._alike = all(bool((v == v[0]).all()) for v in values)
        return self._alike

    @abstractmethod
    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None: ...

    @abstractmethod
    def _update_together(self, fused: _Fused) -> None: ...

    def _per_member(self, value: PerMember) -> Float[Tensor, " members"]:
        like = self.params[0]
        values = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        return values.expand(len(like))

    @contextmanager
    def _keeping(self, places: Sequence[int] | Tensor) -> Iterator[None]:
        """What happens inside changes no parameter of these members."""
        kept = [param[places] for param in self.params] if len(places) else []
        yield
        for param, values in zip(self.params, kept, strict=False):
            param[places] = values


@dataclass(frozen=True)
class _Fused:
    """What a fused kernel takes: everything as one tensor, and one number for all members.

    Attributes:
        grads: The gradients that it is for.
        values: The parameters; None where there is no such kernel for them.
        gradients: Likewise.
        state: By name.
        settings: By name.
    """

    grads: Sequence[Tensor]
    values: Tensor | None = None
    gradients: Tensor | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, optimizer: Optimizer, grads: Sequence[Tensor]) -> _Fused:
        # A GPU would have to wait for the host where a member diverges.
        on_cpu = optimizer.lr.device.type == "cpu"
        if not (on_cpu and optimizer.alike and set(optimizer.scales) == {1.0}):
            return cls(grads)
        values, gradients = whole(optimizer.params), whole(grads)
        if values is None or gradients is None:
            return cls(grads)
        state = {name: whole(tensors) for name, tensors in optimizer.state.items()}
        settings = {n: float(v[0]) for n, v in vars(optimizer).items() if isinstance(v, Tensor)}
        return cls(grads, values, gradients, state, settings)  # type: ignore[arg-type]


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
            self.state["momentum"] = side_by_side(self.params)

    def _update_together(self, fused: _Fused) -> None:
        momenta = [fused.state["momentum"]] if "momentum" in fused.state else []
        torch.ops.aten._fused_sgd_(
            [fused.values],
            [fused.gradients],
            momenta,
            **fused.settings,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )

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
            self.state[name] = side_by_side(self.params)
        # On the device, so that a captured step counts on; 0.999 is too coarse in single precision.
        self.state["updates"] = side_by_side([self.lr.double()])

    def _update_together(self, fused: _Fused) -> None:
        update = fused.state["updates"].add_(1)[:1].float()
        kernel = torch.ops.aten._fused_adamw_ if self.decoupled else torch.ops.aten._fused_adam_
        kernel(
            [fused.values],
            [fused.gradients],
            [fused.state["mean"]],
            [fused.state["square"]],
            [],
            [update],
            **fused.settings,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

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
