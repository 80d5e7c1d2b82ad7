"""What the runs of a pack have in common, as far as the choice of an engine depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from initstudy.engine.batched.chain import stages
from initstudy.engine.batched.stage import Stage
from initstudy.engine.losses import CROSS_ENTROPY, Loss
from initstudy.engine.optimizers import SGD, Optimizer
from initstudy.engine.refusal import Refusal
from initstudy.trees import TensorTree


@dataclass(frozen=True)
class Workload:
    """A model and how it is to be trained, known before any parameter is drawn.

    Attributes:
        model: The architecture. Only its structure and its parameters' dtypes are read.
        example: The inputs of at least two examples.
        targets: Their targets; None if only the model is asked about.
        optimizer_draws: Whether the optimizer draws random numbers.
        precision: "highest", "tf32" or "bf16", which is autocast to bfloat16.
        members: How many runs train together.
        device: Where they train.
        optimizer: The class of their optimizer.
        loss: What they minimize.
    """

    model: nn.Module
    example: TensorTree
    members: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    optimizer: type[Optimizer] = SGD
    loss: Loss = CROSS_ENTROPY
    targets: TensorTree | None = None
    optimizer_draws: bool = False
    precision: str = "highest"

    def of(self, members: int) -> Workload:
        """The same workload for another number of members; the model is not traced again."""
        other = replace(self, members=members)
        if "stages" in vars(self):
            vars(other)["stages"] = self.stages
        return other

    @cached_property
    def stages(self) -> list[Stage] | Refusal:
        """The model as a chain of batched kernels, or why it is none."""
        if not isinstance(self.example, Tensor):
            return Refusal("the model takes several inputs")
        return stages(self.model, self.example)
