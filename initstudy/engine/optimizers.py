"""SGD, Adam and AdamW for all members of a pack at once.

Every member has a learning rate, a weight decay and a momentum of its own. The algorithms are those
of the reference pages, step for step (https://docs.pytorch.org/docs/stable/optim.html: SGD, Adam,
AdamW), and the state has the names that it has there. Everything is updated in place; a member that
is not alive keeps its parameters.

If all members have the same settings and their tensors lie side by side (see `contiguous`), one of
torch's fused CPU kernels updates them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from initstudy.engine.contiguous import contiguous_buffer, side_by_side

PerMember = float | Sequence[float] | Float[Tensor, " members"]


class Optimizer(ABC):
    """Updates stacked tensors `[members, ...]` in place.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        scales: For each parameter a factor of the learning rate, as parameter groups have in
            torch.optim; 1 by default.

    Attributes:
        per_member: The names of the settings that may differ between members. Each is an attribute
            that holds one number per member.
        has_fused_kernel: Whether `_update_fused` exists.
        state: What is kept between steps, by torch.optim's name; updated in place.
    """

    per_member: ClassVar[tuple[str, ...]] = ("lr", "weight_decay")
    has_fused_kernel: ClassVar[bool] = False

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
        self.state: dict[str, list[Tensor]] = {}
        self.lr = self._each(lr)
        self.weight_decay = self._each(weight_decay)
        self._decays = bool((self.weight_decay != 0).any())
        self._uniform: bool | None = None
        self._fused: _Fused | None = None
        self._fused_for: Sequence[Tensor] | None = None

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], alive: Bool[Tensor, " members"] | None = None) -> None:
        """Updates every living member once.

        Args:
            grads: The gradients `[members, ...]`, in the order of the parameters.
            alive: Which members to update; all of them by default. The gradients of the others may
                hold anything, infinities and NaN included.
        """
        if self._fused_for is not grads:
            self._fused, self._fused_for = _Fused.of(self, grads), grads
        if self._fused is not None:
            with self._unchanged([] if alive is None else (~alive).nonzero().flatten()):
                self._update_fused(self._fused)
            return
        lr = self.lr
        if alive is not None:
            # A learning rate of zero alone would not do: zero times NaN is NaN.
            grads = [torch.where(_as(alive, g), g, 0.0) for g in grads]
            lr = torch.where(alive, lr, 0.0)
        self._update(grads, lr)

    def keep(self, members: Sequence[int], params: Sequence[Tensor]) -> None:
        """Goes on with some of the members, whose parameters are now these."""
        # The answer for all members stays: with another kernel the others would change in the
        # last bit as soon as the one with another learning rate has left.
        self._uniform = self.uniform
        self.params = list(params)
        self._fused = self._fused_for = None
        for name, tensors in self.state.items():
            chosen = [tensor[members] for tensor in tensors]
            self.state[name] = side_by_side(chosen)
            for view, values in zip(self.state[name], chosen, strict=True):
                view.copy_(values)
        for name, values in self.settings().items():
            setattr(self, name, values[members])

    def settings(self) -> dict[str, Float[Tensor, " members"]]:
        """The settings that may differ between members, by name."""
        return {name: getattr(self, name) for name in self.per_member}

    @property
    def uniform(self) -> bool:
        """Whether all members began with the same settings."""
        if self._uniform is None:
            self._uniform = all(bool((v == v[0]).all()) for v in self.settings().values())
        return self._uniform

    @abstractmethod
    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        """Updates one parameter after the other."""

    def _update_fused(self, fused: _Fused) -> None:
        """Updates all parameters in one kernel."""
        raise NotImplementedError

    def _each(self, value: PerMember) -> Float[Tensor, " members"]:
        like = self.params[0]
        values = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        return values.expand(len(like))

    @contextmanager
    def _unchanged(self, members: Sequence[int] | Tensor) -> Iterator[None]:
        """Puts back the parameters of these members after what happens inside."""
        before = [param[members] for param in self.params] if len(members) else []
        yield
        for param, values in zip(self.params, before, strict=False):
            param[members] = values


@dataclass(frozen=True)
class _Fused:
    """The arguments of a fused kernel: one tensor per quantity, one number for all members.

    Attributes:
        params: The buffer of all parameters.
        grads: The buffer of their gradients.
        state: The buffers of the optimizer's state, by name.
        settings: The settings that all members share, by name.
    """

    params: Float[Tensor, " values"]
    grads: Float[Tensor, " values"]
    state: Mapping[str, Shaped[Tensor, " _"]]
    settings: Mapping[str, float]

    @classmethod
    def of(cls, optimizer: Optimizer, grads: Sequence[Tensor]) -> _Fused | None:
        """None if the optimizer and these gradients need an update per parameter."""
        # On a GPU the host would have to wait for the device each time that a member diverges.
        on_cpu = optimizer.lr.device.type == "cpu"
        same = optimizer.uniform and set(optimizer.scales) == {1.0}
        if not (optimizer.has_fused_kernel and on_cpu and same):
            return None
        buffers = {"params": contiguous_buffer(optimizer.params), "grads": contiguous_buffer(grads)}
        state = {name: contiguous_buffer(tensors) for name, tensors in optimizer.state.items()}
        if any(buffer is None for buffer in (*buffers.values(), *state.values())):
            return None
        settings = {name: float(values[0]) for name, values in optimizer.settings().items()}
        return cls(**buffers, state=state, settings=settings)  # type: ignore[arg-type]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's momentum.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        momentum: The momentum, in the same form.
        nesterov: Whether the momentum is Nesterov's.
        scales: For each parameter a factor of the learning rate; 1 by default.
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
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, scales=scales)
        self.momentum = self._each(momentum)
        self.nesterov = nesterov
        if bool((self.momentum != 0).any()):
            self.state["momentum_buffer"] = side_by_side(self.params)

    def _update_fused(self, fused: _Fused) -> None:
        torch.ops.aten._fused_sgd_(
            [fused.params],
            [fused.grads],
            list(fused.state.values()),
            weight_decay=fused.settings["weight_decay"],
            momentum=fused.settings["momentum"],
            lr=fused.settings["lr"],
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        rates = {scale: -scale * lr for scale in set(self.scales)}
        for i, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            if self._decays:
                grad = grad.addcmul(param, _as(self.weight_decay, param))
            if "momentum_buffer" in self.state:
                momentum = _as(self.momentum, param)
                buffer = self.state["momentum_buffer"][i].mul_(momentum).add_(grad)
                grad = grad.addcmul(buffer, momentum) if self.nesterov else buffer
            param.addcmul_(grad, _as(rates[self.scales[i]], param))


class Adam(Optimizer):
    """Adam, with the weight decay added to the gradient.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        betas: The decay rates of the averages of the gradient and of its square.
        eps: Added to the denominator.
        scales: For each parameter a factor of the learning rate; 1 by default.
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
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, scales=scales)
        self.betas = betas
        self.eps = eps
        for name in ("exp_avg", "exp_avg_sq"):
            self.state[name] = side_by_side(self.params)
        # On the device, so that a captured step goes on counting; in double precision, since
        # 0.999 ** step is too coarse in single precision.
        self.state["step"] = side_by_side([self.lr.double()])

    def _update_fused(self, fused: _Fused) -> None:
        step = fused.state["step"].add_(1)[:1].float()
        kernel = torch.ops.aten._fused_adamw_ if self.decoupled else torch.ops.aten._fused_adam_
        kernel(
            [fused.params],
            [fused.grads],
            [fused.state["exp_avg"]],
            [fused.state["exp_avg_sq"]],
            [],
            [step],
            lr=fused.settings["lr"],
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
                decay = _as(self.weight_decay, param)
                if self.decoupled:
                    param.mul_(1 - _as(lr * scale, param) * decay)
                else:
                    grad = grad.addcmul(param, decay)
            exp_avg.lerp_(grad, 1 - beta1)
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            # One temporary tensor: on a CPU fresh memory costs more than the arithmetic.
            denominator = exp_avg_sq.sqrt().add_(_as(eps, param))
            update = torch.div(exp_avg, denominator, out=denominator)
            param.addcmul_(update, _as(corrected * scale, param))


class AdamW(Adam):
    """Adam with decoupled weight decay; the arguments are those of `Adam`."""

    decoupled = True


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def _as(values: Tensor, like: Tensor) -> Tensor:
    """One value per member, shaped to broadcast over a stacked tensor."""
    return values.view(-1, *[1] * (like.dim() - 1))
