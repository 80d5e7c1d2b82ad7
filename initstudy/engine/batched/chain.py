"""A model as a chain of stages, and passes through it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from initstudy.engine.batched.dense import Flatten
from initstudy.engine.batched.kernels import KERNELS, Call, kernel
from initstudy.engine.batched.stage import Stage, Tensors
from initstudy.engine.batched.tracing import calls
from initstudy.engine.refusal import Refusal, RefusedError


def stages(model: nn.Module, example: Shaped[Tensor, "batch ..."]) -> list[Stage] | Refusal:
    """The model as stages one after another, or why it is no such chain.

    Every module and every function must be one of those that have a kernel, and a module with
    parameters may be called only once.

    Args:
        model: The architecture.
        example: A batch that it takes.
    """
    try:
        return _stages(model, example)
    except RefusedError as error:
        return error.refusal if error.refusal.module else _by_module(model) or error.refusal


class Chain:
    """Passes of all members through a chain of stages.

    Args:
        stages: From the function `stages`. They are copied, since they hold what their backward
            pass needs.
        members: How many there are.
    """

    def __init__(self, stages: Sequence[Stage], members: int) -> None:
        self.stages = [copy.copy(stage) for stage in stages]
        self.members = members
        # No stage before this one has a parameter that needs a gradient.
        self.first = next(i for i, stage in enumerate(self.stages) if stage.parameters)

    def train(self, training: bool) -> None:
        """Sets the mode, as `nn.Module.train` does."""
        for stage in self.stages:
            stage.training = training

    def forward(
        self,
        inputs: Shaped[Tensor, "groups batch ..."],
        tensors: Tensors,
        kept: Tensors | None = None,
    ) -> Float[Tensor, "members classes batch"]:
        """The outputs of the last stage.

        Args:
            inputs: A batch for each member, or for each of as many groups of neighbours as divide
                the members evenly.
            tensors: The stacked parameters and buffers, by name.
            kept: By the names of some stages, where to keep their outputs
                `[members, batch, ...]`.
        """
        value, start = self._enter(inputs)
        for stage in self.stages[start:]:
            value = stage.forward(value, tensors)
            if kept is not None and stage.name in kept:
                # A copy, since the next stage may work in place.
                kept[stage.name] = self._by_member(value.clone())
        return value

    def backward(
        self,
        gradient: Float[Tensor, "members classes batch"],
        tensors: Tensors,
        grads: Tensors,
        kept: Tensors | None = None,
    ) -> None:
        """Fills in the gradients with respect to the parameters.

        Args:
            gradient: The gradient with respect to the outputs of the last forward pass.
            tensors: The stacked parameters and buffers, by name.
            grads: The tensors to fill, by the parameters' names.
            kept: By the names of some stages, where to keep the gradients with respect to their
                outputs `[members, batch, ...]`.
        """
        value: Tensor | None = gradient
        for index in range(len(self.stages) - 1, self.first - 1, -1):
            stage = self.stages[index]
            assert value is not None
            if kept is not None and stage.name in kept:
                kept[stage.name] = self._by_member(value)
            value = stage.backward(value, tensors, grads, index == self.first)

    def _enter(self, inputs: Tensor) -> tuple[Tensor, int]:
        """The inputs in the form that the first stage takes, and the index of that stage."""
        if isinstance(self.stages[0], Flatten) or inputs.dim() == 3:
            return inputs.flatten(2).mT, int(isinstance(self.stages[0], Flatten))
        images = inputs.permute(1, 3, 4, 0, 2).flatten(3)
        return images.permute(0, 3, 1, 2), 0

    def _by_member(self, value: Tensor) -> Float[Tensor, "members batch ..."]:
        if value.dim() == 3:
            return value.mT
        return value.unflatten(1, (self.members, -1)).transpose(0, 1)


def _stages(model: nn.Module, example: Tensor) -> list[Stage]:
    chain: list[Stage] = []
    shape = tuple(example.shape[1:])
    for name, module in calls(model):
        chain.append(kernel(Call(name, module, shape, chain)))
        with torch.no_grad():
            # A copy, so that a batch of zeros leaves no trace in running statistics.
            shape = tuple(copy.deepcopy(module)(example.new_zeros(2, *shape)).shape[1:])
    if frozen := [name for name, param in model.named_parameters() if not param.requires_grad]:
        raise RefusedError(f"{frozen[0]} is frozen")
    trained = [name for stage in chain for name in stage.parameters]
    if not trained:
        raise RefusedError("it has no parameters")
    _check_complete(trained, [name for name, _ in model.named_parameters()])
    _check_complete(
        [name for stage in chain for name in stage.buffers],
        [name for name, _ in model.named_buffers()],
    )
    if len(shape) != 1:
        raise RefusedError(f"its outputs have the shape {shape}, not one axis of classes")
    return chain


def _by_module(model: nn.Module) -> Refusal | None:
    """The refusal of the first of torch's modules that has no kernel.

    It tells more than what happens to the module's output: an LSTM is refused because of itself,
    and not because of the `[:, -1]` behind it.
    """
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    for name, module in model.named_modules():
        of_torch = type(module).__module__.startswith("torch.nn.modules.")
        if of_torch and type(module) not in KERNELS and not isinstance(module, containers):
            return Call(name, module, (), ()).refuse().refusal
    return None


def _check_complete(used: Sequence[str], own: Sequence[str]) -> None:
    """Checks that the chain has each of the model's tensors once."""
    for name in own:
        if name not in used:
            raise RefusedError(f"{name} belongs to no layer of the chain")
    for name in used:
        if name not in own or used.count(name) > 1:
            raise RefusedError(f"{name} is shared between layers")
