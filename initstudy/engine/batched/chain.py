"""A model as a chain of stages, and passes through it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.convolution import AvgPool2d, Conv2d, MaxPool2d, PatchesConv2d
from initstudy.engine.batched.dense import Flatten, Linear
from initstudy.engine.batched.elementwise import BY_AUTOGRAD, FROM_OUTPUT, ByAutograd, FromOutput
from initstudy.engine.batched.normalization import BatchNorm, LayerNorm
from initstudy.engine.batched.stage import Stage, Tensors
from initstudy.engine.batched.tracing import calls

# Values beyond which a convolution is faster than a matrix product with unfolded patches.
LONGEST_PATCH = 75


def stages(model: nn.Module, example: Float[Tensor, "batch ..."]) -> list[Stage] | None:
    """The model as stages one after another; None where it is not such a chain.

    Every module and every function must be one of those that have a stage, and a module with
    parameters may be called but once.

    Args:
        model: The architecture.
        example: A batch that it takes.
    """
    called = calls(model)
    if called is None:
        return None
    found: list[Stage] = []
    shape = tuple(example.shape[1:])
    for name, module in called:
        stage = _stage(name, module, shape, found)
        if stage is None:
            return None
        found.append(stage)
        with torch.no_grad():
            # A copy, so that a batch of zeros leaves no trace in running statistics.
            shape = tuple(copy.deepcopy(module)(example.new_zeros(2, *shape)).shape[1:])
    trained = [name for stage in found for name in stage.parameters]
    kept = [name for stage in found for name in stage.buffers]
    whole = sorted(trained) == sorted(name for name, _ in model.named_parameters())
    whole &= sorted(kept) == sorted(name for name, _ in model.named_buffers())
    return found if whole and trained and len(shape) == 1 else None


class Chain:
    """Passes of all members through a chain of stages.

    Args:
        stages: From `stages`.
        members: How many there are.

    Attributes:
        on_images: Whether it has convolutions.
    """

    def __init__(self, stages: Sequence[Stage], members: int) -> None:
        self.stages = list(stages)
        self.members = members
        with_parameters = [place for place, stage in enumerate(self.stages) if stage.parameters]
        self.first = with_parameters[0]
        self.on_images = any(isinstance(stage, Conv2d) for stage in self.stages)

    def train(self, training: bool) -> None:
        """Sets the mode, as `nn.Module.train` does."""
        for stage in self.stages:
            stage.training = training

    def forward(
        self, x: Float[Tensor, "groups batch ..."], tensors: Tensors, kept: Tensors | None = None
    ) -> Float[Tensor, "members classes batch"]:
        """The logits.

        Args:
            x: An input for each member, or for each of as many groups of neighbours.
            tensors: The stacked parameters and buffers, by name.
            kept: Where to keep the outputs of the stages that it has a name of.
        """
        value, start = self._enter(x)
        for stage in self.stages[start:]:
            value = stage.forward(value, tensors)
            if kept is not None and stage.name in kept:
                # A copy, since the next stage may work in place.
                kept[stage.name] = self._by_member(value.clone())
        return value

    def backward(
        self,
        grad: Float[Tensor, "members classes batch"],
        tensors: Tensors,
        grads: Tensors,
        kept: Tensors | None = None,
    ) -> None:
        """The gradients by the parameters, from that by the logits of the last forward pass.

        Args:
            grad: The gradient by the logits.
            tensors: The stacked parameters and buffers, by name.
            grads: What to fill with the gradients by the parameters, by name.
            kept: Where to keep the gradients by the outputs of the stages that it has a name of.
        """
        value: Tensor | None = grad
        for place in range(len(self.stages) - 1, self.first - 1, -1):
            stage = self.stages[place]
            assert value is not None
            if kept is not None and stage.name in kept:
                kept[stage.name] = self._by_member(value)
            value = stage.backward(value, tensors, grads, place == self.first)

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


def _stage(
    name: str, module: nn.Module, shape: tuple[int, ...], before: Sequence[Stage]
) -> Stage | None:
    """The stage of a module that takes values of this shape."""
    images = len(shape) == 3
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules."):
        # Of a class of one's own nobody knows what it does besides.
        return None
    if kind in FROM_OUTPUT:
        alone = bool(before) and isinstance(before[-1], Linear | Conv2d | BatchNorm)
        return FromOutput(name, module, in_place=alone)
    if kind in BY_AUTOGRAD:
        return ByAutograd(name, module)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Flatten(name, shape) if images else ByAutograd(name, nn.Identity())
    if isinstance(module, nn.Conv2d):
        return _convolution(name, module, before) if images else None
    if isinstance(module, nn.Linear):
        return Linear(name, module) if len(shape) == 1 else None
    if isinstance(module, nn.LayerNorm):
        return LayerNorm(name, module) if module.normalized_shape == shape[-1:] == shape else None
    if isinstance(module, nn.BatchNorm2d if images else nn.BatchNorm1d):
        return BatchNorm(name, module)
    if isinstance(module, nn.MaxPool2d) and images and not module.return_indices:
        return MaxPool2d(name, module)
    if isinstance(module, nn.AvgPool2d) and images:
        return AvgPool2d(name, module)
    return None


def _convolution(name: str, module: nn.Conv2d, before: Sequence[Stage]) -> Stage | None:
    padding = _padding(module)
    if padding is None:
        return None
    on_data = not any(stage.parameters or stage.buffers for stage in before)
    patch = module.in_channels * math.prod(module.kernel_size)
    short = patch <= LONGEST_PATCH and module.dilation == (1, 1)
    return (PatchesConv2d if on_data and short else Conv2d)(name, module, padding)


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
