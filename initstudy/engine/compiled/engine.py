"""The engine of machine code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from initstudy.columns import ACCURACY
from initstudy.engine.batched.engine import Batched
from initstudy.engine.batched.stage import Stage
from initstudy.engine.compiled.arrays import Results, Scratch
from initstudy.engine.compiled.blas import one_thread
from initstudy.engine.compiled.layout import (
    dense_layers,
    layers_of,
    members_of,
    rule_of,
    scratch_for,
)
from initstudy.engine.contract import Batch, Capabilities
from initstudy.engine.losses import KernelLoss, Losses
from initstudy.engine.optimizers import SGD, Adam, AdamW, Optimizer, Target
from initstudy.engine.refusal import Refusal, RefusedError
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer

# Statistics of no member, for a step that measures nothing.
_NOTHING = torch.empty(0, 0, 0, dtype=torch.float64)
ALGORITHMS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class Compiled(Batched):
    """Linear layers, with or without a ReLU behind each, in machine code, a member at a time.

    It computes the step of `Batched`, with sums that may be taken in another order. A member's
    result does not depend on the other members of the pack.

    Steps that measure more than the basic statistics, or other layers than the linear ones, and
    evaluations of a single member that has diverged, are those of `Batched`.

    Args:
        stack: The members.
        optimizer: It holds `stack.params`, in their order.
        layers: Where probes measure.
        loss: What the members minimize.
        stages: The model as a chain of batched kernels.
    """

    capabilities: ClassVar = Capabilities(
        name="compiled",
        purpose="forward, backward and update in machine code, a member at a time",
        modules=frozenset((nn.Linear, nn.ReLU, nn.Flatten, nn.Identity)),
        any_forward=False,
        optimizers=tuple(ALGORITHMS),
        losses=("cross_entropy",),
        precisions=("highest",),
        probes=("basic",),
        devices=("cpu",),
        together=True,
        machine_code=True,
    )

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        layers: Sequence[Layer],
        loss: KernelLoss,
        stages: Sequence[Stage],
    ) -> None:
        super().__init__(stack, optimizer, layers, loss, stages)
        self.dense = dense_layers(stages)
        self._lay_out()

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`."""
        stages = workload.stages
        if isinstance(stages, Refusal):
            return f"{stages.module} is not compiled yet" if stages.module else stages.reason
        if workload.optimizer not in ALGORITHMS.values():
            own = workload.optimizer is Target
            name = "of torch's or your own" if own else workload.optimizer.__name__
            return f"the optimizer {name} is not compiled yet"
        if any(param.dtype != torch.float32 for param in workload.model.parameters()):
            return "only models in single precision are compiled"
        try:
            dense_layers(stages)
        except RefusedError as error:
            return error.refusal.reason
        return None

    def step(self, batch: Batch) -> Losses:
        """See `Engine.step`.

        Raises:
            IndexError: A target is not one of the model's classes.
        """
        return self._run(batch, _NOTHING, updating=True)

    def probe_step(self, batch: Batch, preset: str, *, updating: bool) -> tuple[Losses, Tensors]:
        """See `Engine.probe_step`.

        Raises:
            IndexError: A target is not one of the model's classes.
        """
        if preset != "basic" or not self._measures_layers:
            return super().probe_step(batch, preset, updating=updating)
        columns = self._statistics.COLUMNS
        values = torch.zeros(self.stack.size, len(self.layers), len(columns), dtype=torch.float64)
        losses = self._run(batch, values, updating=updating)
        return losses, {
            column.of(layer.name): values[:, i, j].float()
            for i, layer in enumerate(self.layers)
            for j, column in enumerate(columns)
        }

    def scores(self, chunk: Batch) -> Losses:
        """See `Engine.scores`.

        Raises:
            IndexError: A target is not one of the model's classes.
        """
        inputs, targets = chunk.single()
        examples, classes = inputs.flatten(1).contiguous().numpy(), targets.contiguous().numpy()

        def work(begin: int, end: int, scratch: Scratch, results: Results) -> None:
            params = self._members.params
            self._kernels.evaluate(
                examples, classes, begin, end, self._arrays, params, scratch, results
            )

        return self._on_all_threads(work, len(examples), _NOTHING)

    def keep(self, members: Sequence[int]) -> None:
        """See `Engine.keep`."""
        super().keep(members)
        self._lay_out()

    def _lay_out(self) -> None:
        """Takes the members as arrays, in the memory in which they are."""
        self._arrays = layers_of(self.dense, self.stack, self.optimizer)
        self._rule = rule_of(self.optimizer)
        self._members = members_of(self.stack, self.optimizer, self.health)
        # By the number of examples, one for each thread.
        self._scratch: dict[int, list[Scratch]] = {}

    @cached_property
    def _kernels(self) -> Any:
        # Importing numba takes half a second, which only those pay who need it.
        from initstudy.engine.compiled import kernels

        return kernels

    @cached_property
    def _statistics(self) -> Any:
        from initstudy.engine.compiled import statistics

        return statistics

    @cached_property
    def _measures_layers(self) -> bool:
        """Whether the compiled statistics are those of the layers that probes measure."""
        compiled = [dense.linear.weight for dense in self.dense]
        unlimited = all(layer.limits is None for layer in self.layers)
        return unlimited and [name for layer in self.layers for name in layer.weights] == compiled

    def _run(
        self,
        batch: Batch,
        measurements: Float64[Tensor, "members layers statistics"],
        *,
        updating: bool,
    ) -> Losses:
        inputs, targets = batch.single()
        examples, classes = inputs.flatten(2).contiguous().numpy(), targets.contiguous().numpy()
        number, members = int(self.health.updates), self._members
        if self.optimizer.rates is not None:
            members = members._replace(lr=self.optimizer.rates_at(self.health.updates).numpy())

        def work(begin: int, end: int, scratch: Scratch, results: Results) -> None:
            self._kernels.step(
                examples,
                classes,
                begin,
                end,
                number,
                self._arrays,
                self._rule,
                members,
                scratch,
                results,
                updating,
            )

        losses = self._on_all_threads(work, examples.shape[1], measurements)
        if updating:
            self.health.updates.add_(1)
        return losses

    def _on_all_threads(
        self,
        work: Callable[[int, int, Scratch, Results], None],
        examples: int,
        measurements: Float64[Tensor, "members layers statistics"],
    ) -> Losses:
        """The losses that threads write, each for its part of the members."""
        count = self.stack.size
        loss, accuracy = torch.empty(count), torch.empty(count)
        results = Results(loss.numpy(), accuracy.numpy(), measurements.numpy())
        threads = min(torch.get_num_threads(), count)
        scratch = self._scratch.setdefault(examples, [])
        clipped = self.optimizer.clip_norm is not None
        missing = range(threads - len(scratch))
        scratch += [scratch_for(self._arrays, examples, clipped=clipped) for _ in missing]

        def part(i: int) -> None:
            begin, end = count * i // threads, count * (i + 1) // threads
            work(begin, end, scratch[i], results)

        with one_thread():
            if threads == 1:
                part(0)
            else:
                list(_threads(threads).map(part, range(threads)))
        return Losses(loss, {ACCURACY.name: accuracy})


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for the next step."""
    return ThreadPoolExecutor(count)
