"""Any other optimizer of torch, or of the user's own, for the members of a pack.

If all members have the same settings, and a trial has shown that a stacked parameter is updated as
each member's alone, one optimizer updates the stacked parameters. Otherwise every member has an
optimizer of its own, over views of the stacked parameters, and is updated in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from initstudy.engine.optimizers.base import Common, Optimizer, PerMember
from initstudy.engine.optimizers.clipping import along_members

# From parameters, or groups of them as torch.optim takes them, and settings to an optimizer.
Kind = Callable[..., torch.optim.Optimizer]
TENSOR, DICT, LIST = "tensor", "dict", "list"


@dataclass
class Part:
    """One optimizer, and what it updates.

    Attributes:
        optimizer: The optimizer.
        params: The tensors that it updates, views of the stacked parameters.
        rates: The learning rate of each of its groups, before any schedule; None for a group that
            has none.
    """

    optimizer: torch.optim.Optimizer
    params: list[Tensor]
    rates: list[float | None]

    def step(self, grads: Sequence[Tensor], factor: float | None) -> None:
        """Updates the parameters once.

        Args:
            grads: Their gradients.
            factor: The factor of the learning rate; None to leave it alone.
        """
        for param, grad in zip(self.params, grads, strict=True):
            param.grad = grad
        if factor is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                if rate is not None:
                    group["lr"] = rate * factor
        memory = [param.data for param in self.params]
        self.optimizer.step()
        for param, view in zip(self.params, memory, strict=True):
            if param.data_ptr() != view.data_ptr():
                # It has replaced the tensor, as in `p.data = p.data - lr * p.grad`.
                view.copy_(param.data)
                param.data = view


class Target(Optimizer):
    """An optimizer of torch's form for each member, or one for all of them.

    Args:
        params: The stacked parameters.
        kind: Makes the optimizer.
        options: Its settings that all members share.
        own: Its settings that each member has for itself: for each name a value per member.
        stacked: Whether one optimizer may update the stacked parameters; see `tried`.
        lr: The learning rate, if the optimizer has one; in `own` it is the same.
        weight_decay: The weight decay, likewise.
        common: See `Common`; it has no `scales`.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        kind: Kind,
        options: Mapping[str, Any],
        own: Mapping[str, Sequence[float]],
        stacked: bool = False,
        lr: PerMember = 0.0,
        weight_decay: PerMember = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **common)
        self.kind, self.options = kind, options
        same = all(len(set(values)) == 1 for values in own.values())
        self.stacked = stacked and same and self.uniform
        size = len(self.params[0])
        self.parts = [
            self._part(i, {name: values[i] for name, values in own.items()})
            for i in ([0] if self.stacked else range(size))
        ]

    def _step(
        self,
        grads: Sequence[Tensor],
        alive: Bool[Tensor, " members"] | None,
        number: Int[Tensor, ""] | None,
    ) -> None:
        """See `Optimizer._step`."""
        factors: list[float | None] = [None] * len(self.params[0])
        if self.rates is not None and number is not None:
            factors = self.rates.at(number).tolist()
        if not self.stacked:
            living = range(len(self.parts)) if alive is None else alive.nonzero().flatten().tolist()
            for i in living:
                self.parts[i].step([grad[i] for grad in grads], factors[i])
            return
        if alive is None:
            self.parts[0].step(grads, factors[0])
            return
        before = [param.clone() for param in self.params]
        self.parts[0].step(grads, factors[0])
        for param, values in zip(self.params, before, strict=True):
            param.copy_(torch.where(along_members(alive, param), param, values))

    def keep(self, members: Sequence[int], params: Sequence[Tensor]) -> None:
        """See `Optimizer.keep`."""
        if self.stacked:
            (part,) = self.parts
            for param in part.params:
                for name, value in part.optimizer.state[param].items():
                    if isinstance(value, Tensor) and value.shape == param.shape:
                        part.optimizer.state[param][name] = value[members]
        else:
            self.parts = [self.parts[i] for i in members]
        super().keep(members, params)
        for i, part in enumerate(self.parts):
            for param, view in zip(part.params, self._views(i), strict=True):
                param.grad = None
                param.data = view

    def rest(self) -> dict[str, Tensor]:
        """See `Optimizer.rest`."""
        return flattened([part.optimizer.state_dict() for part in self.parts])

    def restore_rest(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Optimizer.restore_rest`."""
        states = unflattened(tensors)
        if len(states) != len(self.parts):
            raise ValueError("the optimizer is not as it was")
        for part, state in zip(self.parts, states, strict=True):
            part.optimizer.load_state_dict(state)

    def _update(self, grads: Sequence[Tensor], lr: Float[Tensor, " members"]) -> None:
        raise NotImplementedError("`step` does it all")

    def _part(self, member: int, own: Mapping[str, float]) -> Part:
        params = [view.requires_grad_() for view in self._views(member)]
        options = {**self.options, **own}
        plain, vector = float(self.weight_decay[member]), float(self.vector_decay[member])
        groups: list[Any] = params
        if plain != vector:
            axes = 3 if self.stacked else 2
            matrices = [param for param in params if param.dim() >= axes]
            vectors = [param for param in params if param.dim() < axes]
            parted: list[dict[str, Any]] = [
                {"params": matrices},
                {"params": vectors, "weight_decay": vector},
            ]
            groups = [group for group in parted if group["params"]]
        optimizer = self.kind(groups, **options)
        return Part(optimizer, params, [group.get("lr") for group in optimizer.param_groups])

    def _views(self, member: int) -> list[Tensor]:
        """What the optimizer of a member updates; that of all, if one optimizer serves all."""
        every = [param.detach() for param in self.params]
        return every if self.stacked else [param[member] for param in every]


@dataclass(frozen=True)
class Trial:
    """What a few steps on small tensors have shown of an optimizer.

    Attributes:
        draws: Whether it draws random numbers.
        why_not_stacked: Why each member needs an optimizer of its own; None if it does not.
    """

    draws: bool
    why_not_stacked: str | None


MEMBERS, STEPS, LARGEST = 3, 6, 4


def tried(kind: Kind, options: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> Trial:
    """Takes a few steps of an optimizer, on three members alone and on all of them at once.

    Args:
        kind: Makes the optimizer.
        options: Its settings.
        shapes: The shapes of a member's parameters. Smaller ones with as many axes are tried.

    Raises:
        ValueError: It cannot be made, cannot take a step, or has a state that cannot be kept.
    """
    small = sorted({tuple(min(size, LARGEST) for size in shape) for shape in shapes})
    generator = torch.Generator().manual_seed(0)
    # Members whose values and gradients are of other magnitudes show what looks at all of them.
    magnitudes = 10.0 ** torch.arange(MEMBERS)

    def drawn(shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(MEMBERS, *shape, generator=generator)
        return values * along_members(magnitudes, values)

    start = [drawn(shape) for shape in small]
    grads = [[drawn(shape) for shape in small] for _ in range(STEPS)]

    def trained(params: Sequence[Tensor], member: int | None) -> torch.optim.Optimizer:
        leaves = [param.requires_grad_() for param in params]
        optimizer = kind(leaves, **options)
        part = Part(optimizer, leaves, [None for _ in optimizer.param_groups])
        for step in grads:
            part.step([g.clone() if member is None else g[member].clone() for g in step], None)
        return optimizer

    def alone(member: int, seed: int = 0) -> list[Tensor]:
        params = [param[member].clone() for param in start]
        torch.manual_seed(seed)
        flattened([trained(params, member).state_dict()])
        return [param.detach() for param in params]

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        expected = [alone(member) for member in range(MEMBERS)]
        again = alone(0, seed=1)
        if not all(map(torch.equal, expected[0], again)):
            return Trial(True, "it draws random numbers")
        stacked = [param.clone() for param in start]
        try:
            optimizer = trained(stacked, None)
        except Exception as error:
            # What takes a matrix may raise anything for a stack of them.
            return Trial(False, f"{type(error).__name__}: {error}".splitlines()[0])
    for i, param in enumerate(stacked):
        for value in optimizer.state[param].values():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != param.shape:
                return Trial(False, "its state is not one value per parameter")
        for member in range(MEMBERS):
            ours, alone_ = param[member].detach(), expected[member][i]
            rounding = 1e-6 * float(magnitudes[member])
            if not torch.allclose(ours, alone_, rtol=1e-5, atol=rounding, equal_nan=True):
                return Trial(False, "in a trial, stacked members differed from members alone")
    return Trial(False, None)


def flattened(value: Any) -> dict[str, Tensor]:
    """Nested mappings, lists, tensors and plain values as tensors by name.

    Raises:
        ValueError: They hold something else.
    """
    tensors: dict[str, Tensor] = {}

    def described(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"{TENSOR}/{len(tensors)}"
            tensors[name] = value.detach().clone()
            return {TENSOR: name}
        if isinstance(value, Mapping):
            return {DICT: [[described(key), described(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {LIST: [described(item) for item in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(f"its state holds a {type(value).__name__}, which no checkpoint can keep")

    text = json.dumps(described(value))
    tensors["structure"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return tensors


def unflattened(tensors: Mapping[str, Tensor]) -> Any:
    """What `flattened` was given; tuples come back as lists."""

    def restored(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, held),) = value.items()
        if kind == TENSOR:
            return tensors[held].clone()
        if kind == DICT:
            return {restored(key): restored(item) for key, item in held}
        return [restored(item) for item in held]

    return restored(json.loads(bytes(tensors["structure"].tolist())))
