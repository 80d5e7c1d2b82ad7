"""What all optimizers of stacked members share.

Every member has a learning rate, a weight decay and more of its own. The algorithms are those of
their reference pages, step for step, and the state has the names that it has there. Everything is
updated in place; a member that is not alive keeps its parameters.

If all members have the same settings and their tensors lie side by side (see `contiguous`), one of
torch's fused CPU kernels updates them all, where there is one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypedDict, Unpack

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from initstudy.engine.contiguous import contiguous_buffer, side_by_side
from initstudy.engine.optimizers.clipping import along_members, clip
from initstudy.engine.optimizers.rates import Rates, scaled

PerMember = float | Sequence[float] | Float[Tensor, " members"]


class Common(TypedDict, total=False):
    """What every optimizer takes besides its own settings.

    Attributes:
        scales: For each parameter a factor of the learning rate, as parameter groups have in
            torch.optim; 1 by default.
        vector_decay: The weight decay of parameters that are no matrices (of fewer than two axes),
            one number for all members or one per member; that of all parameters by default.
        clip_norm: The largest norm of a member's gradients, in the same form; they are scaled
            down to it before the update. Infinity sets no limit. Nothing is clipped by default.
        rates: The factors of the learning rate by step; 1 by default.
    """

    scales: Sequence[float] | None
    vector_decay: PerMember | None
    clip_norm: PerMember | None
    rates: Rates | None


class Optimizer(ABC):
    """Updates stacked tensors `[members, ...]` in place.

    Args:
        params: The stacked parameters.
        lr: The learning rate, one number for all members or one number per member.
        weight_decay: The weight decay, in the same form.
        common: See `Common`.

    Attributes:
        per_member: The names of the settings that may differ between members. Each is an attribute
            that holds one number per member.
        has_fused_kernel: Whether `_update_fused` exists.
        state: What is kept between steps, by torch.optim's name; updated in place.
        rates: The factors of the learning rate by step; None if they are 1.
    """

    per_member: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "vector_decay")
    has_fused_kernel: ClassVar[bool] = False

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: PerMember,
        weight_decay: PerMember = 0.0,
        **common: Unpack[Common],
    ) -> None:
        self.params = list(params)
        scales, clip_norm = common.get("scales"), common.get("clip_norm")
        vector_decay = common.get("vector_decay")
        self.scales = [1.0] * len(self.params) if scales is None else list(scales)
        self.state: dict[str, list[Tensor]] = {}
        self.lr = self._each(lr)
        self.weight_decay = self._each(weight_decay)
        self.vector_decay = self._each(weight_decay if vector_decay is None else vector_decay)
        self.clip_norm = None if clip_norm is None else self._each(clip_norm)
        self.rates = common.get("rates")
        self._decays = bool(((self.weight_decay != 0) | (self.vector_decay != 0)).any())
        self._uniform: bool | None = None
        self._fused: Fused | None = None
        self._fused_for: Sequence[Tensor] | None = None

    @torch.no_grad()
    def step(
        self,
        grads: Sequence[Tensor],
        alive: Bool[Tensor, " members"] | None = None,
        number: Int[Tensor, ""] | None = None,
    ) -> None:
        """Updates every living member once.

        Args:
            grads: The gradients `[members, ...]`, in the order of the parameters. They are changed
                if they are clipped.
            alive: Which members to update; all of them by default. The gradients of the others may
                hold anything, infinities and NaN included.
            number: How many updates there were before this one; needed if the learning rate
                changes over the steps.
        """
        # Without the number a schedule would be left out without a word.
        assert self.rates is None or number is not None
        if self.clip_norm is not None:
            clip(grads, self.clip_norm)
        self._step(grads, alive, number)

    def _step(
        self,
        grads: Sequence[Tensor],
        alive: Bool[Tensor, " members"] | None,
        number: Int[Tensor, ""] | None,
    ) -> None:
        """Does what `step` says with gradients that are clipped."""
        if self._fused_for is not grads:
            self._fused, self._fused_for = Fused.of(self, grads), grads
        if self._fused is not None:
            lr = self._fused.settings["lr"]
            if self.rates is not None and number is not None:
                lr *= self.rates.shared_at(int(number))
            with self._unchanged([] if alive is None else (~alive).nonzero().flatten()):
                self._update_fused(self._fused, lr)
            return
        rates = self.rates_at(number)
        if alive is not None:
            # A learning rate of zero alone would not do: zero times NaN is NaN.
            grads = [torch.where(along_members(alive, g), g, 0.0) for g in grads]
            rates = torch.where(alive, rates, 0.0)
        self._update(grads, rates)

    def rates_at(self, number: Int[Tensor, ""] | None) -> Float[Tensor, " members"]:
        """The members' learning rates after so many updates."""
        if self.rates is None or number is None:
            return self.lr
        return scaled(self.lr, self.rates.at(number))

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
        if self.clip_norm is not None:
            self.clip_norm = self.clip_norm[members]
        if self.rates is not None:
            self.rates = self.rates.keep(members)

    def rest(self) -> dict[str, Tensor]:
        """Copies of what further steps depend on besides `state`, as tensors by name."""
        return {}

    def restore_rest(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `rest` gave.

        Raises:
            ValueError: Another optimizer gave it.
        """
        if tensors:
            raise ValueError("the optimizer is not as it was")

    def settings(self) -> dict[str, Float[Tensor, " members"]]:
        """The settings that may differ between members, by name."""
        return {name: getattr(self, name) for name in self.per_member}

    @property
    def uniform(self) -> bool:
        """Whether all members began with the same settings."""
        if self._uniform is None:
            same = all(bool((v == v[0]).all()) for v in self.settings().values())
            self._uniform = same and (self.rates is None or self.rates.same)
        return self._uniform

    @abstractmethod
    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        """Updates one parameter after the other."""

    def _update_fused(self, fused: Fused, lr: float) -> None:
        """Updates all parameters in one kernel, at this learning rate."""
        raise NotImplementedError

    def decay_of(self, param: Tensor) -> Float[Tensor, " members ..."]:
        """The members' weight decay of a stacked parameter, shaped to broadcast over it."""
        # The first axis is that of the members.
        return along_members(self.weight_decay if param.dim() > 2 else self.vector_decay, param)

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
class Fused:
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
    def of(cls, optimizer: Optimizer, grads: Sequence[Tensor]) -> Fused | None:
        """None if the optimizer and these gradients need an update per parameter."""
        # On a GPU the host would have to wait for the device each time that a member diverges.
        on_cpu = optimizer.lr.device.type == "cpu"
        same = optimizer.uniform and set(optimizer.scales) == {1.0}
        if not (optimizer.has_fused_kernel and on_cpu and same):
            return None
        if not torch.equal(optimizer.weight_decay, optimizer.vector_decay):
            return None
        buffers = {"params": contiguous_buffer(optimizer.params), "grads": contiguous_buffer(grads)}
        state = {name: contiguous_buffer(tensors) for name, tensors in optimizer.state.items()}
        if any(buffer is None for buffer in (*buffers.values(), *state.values())):
            return None
        settings = {name: float(values[0]) for name, values in optimizer.settings().items()}
        return cls(**buffers, state=state, settings=settings)  # type: ignore[arg-type]
