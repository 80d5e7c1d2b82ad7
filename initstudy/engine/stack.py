"""The members of a pack: one architecture, and every parameter once for all of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from initstudy.engine.contiguous import side_by_side

Tensors = dict[str, Tensor]


class Stack:
    """The tensors of all members, each stacked along a first axis of members.

    Args:
        model: The architecture. Its own values are never read, only its structure; it is moved to
            the device.
        members: For each member a mapping from parameter name to tensor, on any device. It may hold
            buffers as well; those that it does not hold are the model's.
        device: Where the members train.

    Attributes:
        size: How many members there are.
        params, buffers: The stacked tensors `[members, ...]` by name. Engines update them in place.
            The parameters lie side by side in one buffer (see `contiguous`).
        frozen: Stacked parameters that do not train, since the model says `requires_grad=False`.
        tensors: All of them, as tensors of which autograd knows nothing.
        grads: Where gradients with respect to the parameters go, in the order of `params`; side by
            side as well.
    """

    def __init__(
        self,
        model: nn.Module,
        members: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.size = len(members)
        trained = {name for name, param in model.named_parameters() if param.requires_grad}
        names = [name for name in members[0] if name in dict(model.named_parameters())]
        values = {name: torch.stack([m[name] for m in members]).to(self.device) for name in names}
        self.frozen = {name: value for name, value in values.items() if name not in trained}
        self._hold(
            {name: value for name, value in values.items() if name in trained},
            {
                name: torch.stack([m.get(name, buffer).to(self.device) for m in members])
                for name, buffer in model.named_buffers()
            },
        )

    def select(self, members: Sequence[int]) -> Stack:
        """A stack of some of the members, with copies of their parameters and buffers."""
        chosen = copy.copy(self)
        index = torch.tensor(members, dtype=torch.long, device=self.device)
        chosen.size = len(members)
        chosen.frozen = {name: value[index] for name, value in self.frozen.items()}
        chosen._hold(
            {name: param.detach()[index] for name, param in self.params.items()},
            {name: buffer[index] for name, buffer in self.buffers.items()},
        )
        return chosen

    def member(self, member: int) -> Tensors:
        """Copies of one member's parameters and buffers, by name."""
        every = self.every_param | self.buffers
        return {name: tensor[member].detach().clone() for name, tensor in every.items()}

    @property
    def every_param(self) -> Tensors:
        """The parameters that train and those that do not."""
        return self.params | self.frozen

    def _hold(self, params: Tensors, buffers: Tensors) -> None:
        """Takes over these tensors, the parameters as copies that lie side by side."""
        values = [value.detach() for value in params.values()]
        views = side_by_side(values)
        for view, value in zip(views, values, strict=True):
            view.copy_(value)
        self.params = {n: p.requires_grad_() for n, p in zip(params, views, strict=True)}
        self.buffers = buffers
        trained = {name: view.detach() for name, view in self.params.items()}
        self.tensors = trained | self.frozen | buffers
        self.grads = side_by_side(values)
