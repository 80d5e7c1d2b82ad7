"""A model as a chain of stages, and passes through it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from initstudy.ensemble.batched.convolution import (
    AvgPool2d,
    Conv2d,
    MaxPool2d,
    PatchesConv2d,
)
from initstudy.ensemble.batched.dense import Flatten, Linear
from initstudy.ensemble.batched.elementwise import (
    BY_AUTOGRAD,
    FROM_OUTPUT,
    ByAutograd,
    FromOutput,
)
from initstudy.ensemble.batched.stage import Stage, Tensors

# Values beyond which a convolution is faster than a matrix product with unfolded patches.
LONGEST_PATCH = 75


def stages(model: nn.Module, example: Float[Tensor, "batch ..."]) -> list[Stage] | None:
    """The model as stages one after another; None where it is not such a chain.

    That is an `nn.Sequential` of modules that have a stage.

    Args:
        model: In training mode.
        example: A batch that it takes.
    """
    calls = _calls(model)
    if not calls:
        return None
    found: list[Stage] = []
    shape = tuple(example.shape[1:])
    for name, module in calls:
        stage = _stage(name, module, shape, found)
        if stage is None:
            return None
        found.append(stage)
        with torch.no_grad():
            shape = tuple(module(torch.zeros(2, *shape)).shape[1:])
    trained = [name for stage in found for name in stage.parameters]
    all_of_them = [name for name, _ in model.named_parameters()]
    whole = sorted(trained) == sorted(all_of_them) and not list(model.buffers())
    return found if whole and len(shape) == 1 else None


class Chain:
    """Passes of all members through a chain of stages.

    Args:
        stages: From `stages`.
        members: How many there are.
    """

    def __init__(self, stages: Sequence[Stage], members: int) -> None:
        self.stages = list(stages)
        self.members = members
        with_parameters = [place for place, stage in enumerate(self.stages) if stage.parameters]
        self.first = with_parameters[0]

    def forward(
        self, x: Float[Tensor, "groups batch ..."], params: Tensors, kept: Tensors | None = None
    ) -> Float[Tensor, "members classes batch"]:
        """The logits.

        Args:
            x: An input for each member, or for each of as many groups of neighbours.
            params: The stacked parameters.
            kept: Where to keep the outputs of the stages that it has a name of.
        """
        value, start = self._enter(x)
        for stage in self.stages[start:]:
            value = stage.forward(value, params)
            if kept is not None and stage.name in kept:
                kept[stage.name] = self._by_member(value)
        return value

    def backward(
        self,
        grad: Float[Tensor, "members classes batch"],
        params: Tensors,
        kept: Tensors | None = None,
    ) -> Tensors:
        """The gradients by the parameters, from that by the logits of the last forward pass.

        Args:
            grad: The gradient by the logits.
            params: The stacked parameters.
            kept: Where to keep the gradients by the outputs of the stages that it has a name of.
        """
        grads: Tensors = {}
        value: Tensor | None = grad
        for place in range(len(self.stages) - 1, self.first - 1, -1):
            stage = self.stages[place]
            assert value is not None
            if kept is not None and stage.name in kept:
                kept[stage.name] = self._by_member(value)
            value = stage.backward(value, params, grads, place == self.first)
        return grads

    def _enter(self, x: Tensor) -> tuple[Tensor, int]:
        """The input as the first stage takes it, and which that is."""
        if isinstance(self.stages[0], Flatten) or x.dim() == 3:
            return x.flatten(2).mT, int(isinstance(self.stages[0], Flatten))
        images = x.permute(1, 3, 4, 0, 2).flatten(3)
        return images.permute(0, 3, 1, 2), 0

    def _by_member(self, value: Tensor) -> Float[Tensor, "members batch ..."]:
        if value.dim() == 3:
            return value.mT
        return value.unflatten(1, (self.members, -1)).transpose(0, 1)


def cross_entropy(
    logits: Float[Tensor, "members classes batch"], y: Int[Tensor, "groups batch"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Each member's mean loss and accuracy on its batch, and the loss's gradient by the logits.

    Logits that are not finite predict nothing.
    """
    members, _, batch = logits.shape
    labels = y.repeat_interleave(members // len(y), 0)[:, None]
    # Along an axis whose entries lie apart argmax takes ten times as long.
    predicted = logits.mT.contiguous().argmax(-1)
    hits = (predicted == labels.squeeze(1)) & (logits.abs().amax(1) < torch.inf)
    grad = torch.log_softmax(logits, 1)
    loss = grad.gather(1, labels).mean((1, 2)).neg_()
    grad.exp_().scatter_add_(1, labels, grad.new_full((), -1.0).expand_as(labels))
    return loss, hits.float().mean(1), grad.div_(batch)


def _calls(model: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The modules that an `nn.Sequential` calls, in order; None where it may do anything else.

    A `forward` of a user's own is Python, which may do something else at every call.
    """
    if model._forward_hooks or model._forward_pre_hooks:
        return None
    calls: list[tuple[str, nn.Module]] = []
    for name, module in model.named_children():
        if type(module).forward is nn.Sequential.forward:
            below = _calls(module)
            if below is None:
                return None
            calls += [(f"{name}.{inner}", called) for inner, called in below]
        elif module._forward_hooks or module._forward_pre_hooks:
            return None
        else:
            calls.append((name, module))
    return calls if type(model).forward is nn.Sequential.forward else None


def _stage(
    name: str, module: nn.Module, shape: tuple[int, ...], before: Sequence[Stage]
) -> Stage | None:
    """The stage of a module that takes values of this shape."""
    images = len(shape) == 3
    kind = type(module)
    if kind.__module__.split(".")[0] != "torch":
        # A class of one's own may do anything besides.
        return None
    if kind in FROM_OUTPUT:
        alone = bool(before) and isinstance(before[-1], Linear | Conv2d)
        return FromOutput(name, module, in_place=alone)
    if kind in BY_AUTOGRAD:
        return ByAutograd(name, module)
    if isinstance(module, nn.Linear) and len(shape) == 1:
        return Linear(name, module)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1) and images:
        return Flatten(name, shape)
    if isinstance(module, nn.Conv2d) and images:
        padding = _padding(module)
        if padding is None:
            return None
        on_data = not any(stage.parameters for stage in before)
        patch = module.in_channels * math.prod(module.kernel_size)
        short = patch <= LONGEST_PATCH and module.dilation == (1, 1)
        return (PatchesConv2d if on_data and short else Conv2d)(name, module, padding)
    if isinstance(module, nn.MaxPool2d) and images and not module.return_indices:
        return MaxPool2d(name, module)
    if isinstance(module, nn.AvgPool2d) and images:
        return AvgPool2d(name, module)
    return None


def _padding(module: nn.Conv2d) -> tuple[int, int] | None:
    """Zeros at each end; None where it is anything else, or the channels are in groups."""
    if module.padding_mode != "zeros" or module.groups != 1 or module.transposed:
        return None
    if module.padding == "valid":
        return 0, 0
    if module.padding != "same":
        return tuple(module.padding)  # type: ignore[return-value]
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(r % 2 for r in reach) else (reach[0] // 2, reach[1] // 2)
