"""What engines that launch one kernel after another have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from initstudy.engine.contract import Batch, Capabilities, Engine
from initstudy.engine.health import Health
from initstudy.engine.losses import CROSS_ENTROPY, Loss, Losses
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer
from initstudy.probes.statistics import measure, update_ratios

# Where a state holds what an optimizer keeps besides its tensors per parameter.
REST = "optimizer_rest/"


@dataclass(frozen=True)
class Pass:
    """A forward and a backward pass of all members on a batch.

    Attributes:
        losses: The losses of each member.
        grads: The gradients of each member's loss with respect to its parameters, in the stack's
            order; they are the stack's own tensors, which its next pass overwrites.
        outputs: The activations `[members, batch, ...]` of the layers that were asked for.
        output_grads: The gradients of each member's loss with respect to them.
    """

    losses: Losses
    grads: list[Tensor]
    outputs: Tensors = field(default_factory=dict)
    output_grads: Tensors = field(default_factory=dict)


class EagerEngine(ABC):
    """An engine that passes forward and back, and then updates; see `contract.Engine`.

    Everything that a step changes, it changes in place, and on a GPU the host never waits for an
    answer, so that a step can be captured.

    Args:
        stack: The members.
        optimizer: It holds `stack.params`, in their order.
        layers: Where probes measure.
        loss: What the members minimize.
    """

    capabilities: ClassVar[Capabilities]

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        layers: Sequence[Layer] = (),
        loss: Loss = CROSS_ENTROPY,
    ) -> None:
        self.stack = stack
        self.optimizer = optimizer
        self.layers: Sequence[Layer] = list(layers)
        self.loss = loss
        self.health = Health(stack.size, stack.device)

    @classmethod
    @abstractmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`."""

    @classmethod
    def build(
        cls, workload: Workload, stack: Stack, optimizer: Optimizer, layers: Sequence[Layer]
    ) -> Engine:
        """See `EngineKind.build`."""
        return cls(stack, optimizer, layers, workload.loss)

    @property
    def size_invariant(self) -> bool:
        """See `Engine.size_invariant`; a GPU's matrix products may round in another way."""
        folded = self.capabilities.folded
        none_folded = not any(isinstance(m, folded) for m in self.stack.model.modules())
        return self.stack.device.type == "cpu" and none_folded

    @abstractmethod
    def differentiate(self, batch: Batch, layers: Sequence[Layer] = ()) -> Pass:
        """Passes forward and back.

        Args:
            batch: The batch.
            layers: The layers of which to keep activations and gradients.
        """

    @abstractmethod
    def measure(self, chunk: Batch) -> Losses:
        """The losses of all members in the current mode, on examples that they share."""

    def step(self, batch: Batch) -> Losses:
        """See `Engine.step`."""
        buffers = self._copy_of_buffers()
        passed = self.differentiate(batch)
        self._update(passed, buffers)
        return passed.losses

    def probe_step(self, batch: Batch, preset: str, *, updating: bool) -> tuple[Losses, Tensors]:
        """See `Engine.probe_step`."""
        params = {name: param.detach() for name, param in self.stack.every_param.items()}
        buffers = self._copy_of_buffers()
        passed = self.differentiate(batch, self.layers)
        measurements = measure(
            self.layers,
            passed.outputs,
            passed.output_grads,
            params,
            dict(zip(self.stack.params, passed.grads, strict=True)),
            full=preset == "full",
        )
        if not updating:
            for name, buffer in buffers.items():
                self.stack.buffers[name].copy_(buffer)
            return passed.losses, measurements
        before = {name: param.clone() for name, param in params.items()}
        self._update(passed, buffers)
        ratios = update_ratios(self.layers, before, params, measurements)
        return passed.losses, measurements | ratios

    @torch.no_grad()
    def scores(self, chunk: Batch) -> Losses:
        """See `Engine.scores`."""
        with self._evaluating():
            return self.measure(chunk)

    def keep(self, members: Sequence[int]) -> None:
        """See `Engine.keep`."""
        self.stack = self.stack.select(members)
        self.optimizer.keep(members, list(self.stack.params.values()))
        self.health.keep(members)

    def alone(self, member: int) -> Engine:
        """See `Engine.alone`."""
        return type(self)(self.stack.select([member]), self.optimizer, self.layers, self.loss)

    def state(self) -> Tensors:
        """See `Engine.state`."""
        # Copies, since a view of a buffer would be stored with all of that buffer.
        live = {name: tensor.detach().clone() for name, tensor in self._live().items()}
        return live | {f"{REST}{name}": tensor for name, tensor in self.optimizer.rest().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Engine.restore`."""
        for name, tensor in self._live().items():
            saved = tensors.get(name)
            if saved is None or saved.shape != tensor.shape or saved.dtype != tensor.dtype:
                raise ValueError(f"{name} is not as it was")
            tensor.copy_(saved)
        rest = {k.removeprefix(REST): t for k, t in tensors.items() if k.startswith(REST)}
        try:
            self.optimizer.restore_rest(rest)
        except (KeyError, TypeError) as error:
            # An optimizer of the user's own may have changed in any way.
            raise ValueError(f"the optimizer is not as it was: {error}") from error

    def train(self, training: bool) -> None:
        """Sets the mode of all members, as `nn.Module.train` does."""
        self.stack.model.train(training)

    def _update(self, passed: Pass, buffers_before: Tensors) -> None:
        """Updates the members whose loss is finite and freezes the others as they were."""
        loss = passed.losses.loss
        if self._all_go_on(loss):
            self.health.last_loss.copy_(loss)
            self.optimizer.step(passed.grads, number=self.health.updates)
            self.health.updates.add_(1)
            return
        self.health.record(loss)
        self.optimizer.step(passed.grads, self.health.alive, self.health.updates)
        self.health.updates.add_(1)
        for name, buffer in self.stack.buffers.items():
            alive = self.health.alive.view(-1, *[1] * (buffer.dim() - 1))
            buffer.copy_(torch.where(alive, buffer, buffers_before[name]))

    def _all_go_on(self, loss: Tensor) -> bool:
        """Whether no member has diverged; False also if the answer would cost too much."""
        # The sum of finite losses may overflow; then they are looked at one by one. A GPU would
        # have to stop for the answer.
        on_cpu = self.stack.device.type == "cpu"
        return on_cpu and math.isfinite(loss.sum()) and bool(self.health.alive.all())

    def _copy_of_buffers(self) -> Tensors:
        """The buffers, which a pass in training mode changes."""
        return {name: buffer.clone() for name, buffer in self.stack.buffers.items()}

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.train(False)
        try:
            yield
        finally:
            self.train(True)

    def _live(self) -> Tensors:
        """The tensors that training updates, by name."""
        tensors = {f"param/{name}": value for name, value in self.stack.params.items()}
        tensors |= {f"buffer/{name}": value for name, value in self.stack.buffers.items()}
        for name, values in self.optimizer.state.items():
            tensors |= {f"optimizer/{name}/{i}": value for i, value in enumerate(values)}
        return tensors | {f"health/{k}": value for k, value in self.health.tensors().items()}
