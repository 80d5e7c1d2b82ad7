"""Which engine takes the steps of a group's packs, and why no faster one does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched import stages
from initstudy.engine.batched.stage import Stage
from initstudy.engine.compiled.layout import linear_layers
from initstudy.engine.stack import Stack, Tensors, not_vectorizable


@dataclass(frozen=True)
class EngineChoice:
    """The fastest engine that can train a model.

    Attributes:
        name: "compiled", "CUDA graph", "batched", "vmap" or "one by one".
        reasons: Why each faster engine cannot, by its name, the fastest first.
        stages: The model as batched kernels, if it is a chain of layers that have some.
    """

    name: str
    reasons: dict[str, str]
    stages: Sequence[Stage] | None = None

    def together(self, members: int) -> bool:
        """Whether so many members take their steps as one program."""
        return self.stages is not None or (self.name == "vmap" and members > 1)

    def stack(self, model: nn.Module, members: Sequence[Tensors], device: torch.device) -> Stack:
        """The members of a pack, to be trained by this engine."""
        return Stack(
            model,
            members,
            device=device,
            vectorized=self.together(len(members)),
            # Copies, since a stage keeps what its backward pass needs.
            stages=copy.deepcopy(self.stages),
        )


def choose(
    model: nn.Module, example: Float[Tensor, "batch ..."], device: torch.device, members: int
) -> EngineChoice:
    """Chooses the engine for packs of a model.

    Args:
        model: The model; its own values are not read.
        example: A batch of inputs that the model takes.
        device: The device on which the packs train.
        members: The most runs that may train together.
    """
    chain = stages(model, example)
    fastest = "compiled" if device.type == "cpu" else "CUDA graph"
    if chain is None:
        why = "the model is not a chain of layers that have batched kernels"
        reasons = {fastest: why, "batched": why}
        alone = "there is one run" if members == 1 else _not_together(model, example)
        if alone is None:
            return EngineChoice("vmap", reasons)
        return EngineChoice("one by one", {**reasons, "vmap": alone})
    if device.type != "cpu":
        return EngineChoice(fastest, {}, chain)
    if not linear_layers(chain):
        why = "the model has layers other than nn.Linear and nn.ReLU"
    elif any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        why = "the model's parameters are not float32"
    else:
        return EngineChoice(fastest, {}, chain)
    return EngineChoice("batched", {fastest: why}, chain)


def _not_together(model: nn.Module, example: Tensor) -> str | None:
    """Why the members cannot be stacked, in one line; None if they can."""
    try:
        return not_vectorizable(model, example)
    except Exception as error:
        # Under `vmap` a user's model may raise anything; one by one it may still train.
        return f"{type(error).__name__}: {error}".splitlines()[0]
