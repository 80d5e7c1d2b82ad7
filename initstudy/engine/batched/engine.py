"""The engine of batched kernels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from initstudy.engine.batched.chain import Chain
from initstudy.engine.batched.kernels import KERNELS
from initstudy.engine.batched.stage import Stage
from initstudy.engine.contract import Batch, Capabilities, Engine
from initstudy.engine.eager import EagerEngine, Pass
from initstudy.engine.losses import KernelLoss, Losses
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.refusal import Refusal
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer


class Batched(EagerEngine):
    """Every layer of all members in one kernel, with backward passes written by hand.

    Args:
        stack: The members.
        optimizer: It holds `stack.params`, in their order.
        layers: Where probes measure.
        loss: What the members minimize.
        stages: The model as a chain of batched kernels.
    """

    capabilities: ClassVar = Capabilities(
        name="batched",
        purpose="every layer of all members in one kernel, differentiated by hand",
        modules=frozenset(KERNELS),
        any_forward=False,
        optimizers=None,
        losses=("cross_entropy",),
        precisions=("highest", "tf32"),
        probes=("basic", "full"),
        devices=("cpu", "cuda"),
        together=True,
        folded=(nn.Conv2d, nn.BatchNorm2d),
    )

    loss: KernelLoss

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        layers: Sequence[Layer],
        loss: KernelLoss,
        stages: Sequence[Stage],
    ) -> None:
        super().__init__(stack, optimizer, layers, loss)
        self.chain = Chain(stages, stack.size)

    @classmethod
    def build(
        cls, workload: Workload, stack: Stack, optimizer: Optimizer, layers: Sequence[Layer]
    ) -> Engine:
        """See `EngineKind.build`."""
        stages = workload.stages
        assert not isinstance(stages, Refusal)
        assert isinstance(workload.loss, KernelLoss)
        # Copies: a stage keeps what its backward pass needs, which would outlive the members.
        return cls(stack, optimizer, layers, workload.loss, copy.deepcopy(stages))

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`; traces the model."""
        return workload.stages.reason if isinstance(workload.stages, Refusal) else None

    def differentiate(self, batch: Batch, layers: Sequence[Layer] = ()) -> Pass:
        """See `EagerEngine.differentiate`."""
        stack = self.stack
        with torch.no_grad():
            outputs: Tensors = dict.fromkeys([layer.output for layer in layers], torch.empty(0))
            output_grads = dict(outputs)
            inputs, targets = batch.single()
            last = self.chain.forward(inputs, stack.tensors, outputs)
            losses, gradient = self.loss.differentiate(last, targets)
            grads = dict(zip(stack.params, stack.grads, strict=True))
            self.chain.backward(gradient, stack.tensors, grads, output_grads)
        return Pass(losses, stack.grads, outputs, output_grads)

    def measure(self, chunk: Batch) -> Losses:
        """See `EagerEngine.measure`."""
        inputs, targets = chunk.single()
        outputs = self.chain.forward(inputs[None], self.stack.tensors)
        return self.loss.measure(outputs, targets[None])

    def keep(self, members: Sequence[int]) -> None:
        """See `Engine.keep`."""
        super().keep(members)
        self.chain = Chain(self.chain.stages, len(members))

    def alone(self, member: int) -> Engine:
        """See `Engine.alone`."""
        stack = self.stack.select([member])
        return Batched(stack, self.optimizer, self.layers, self.loss, self.chain.stages)

    def train(self, training: bool) -> None:
        """Sets the mode of all members, as `nn.Module.train` does."""
        super().train(training)
        self.chain.train(training)
