"""Steps of batched kernels as a CUDA graph: launched at once, not kernel by kernel from Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch

from initstudy.engine.batched.engine import Batched
from initstudy.engine.contract import Batch, Capabilities
from initstudy.engine.losses import Losses
from initstudy.engine.optimizers import OPTIMIZERS, Target
from initstudy.engine.workload import Workload

log = logging.getLogger(__name__)
Step = Callable[[Batch], Losses]

# Steps before the capture, in which libraries choose their kernels and allocate their memory.
WARM_UP = 3


@runtime_checkable
class Recorder(Protocol):
    """What captures a function."""

    def warm_up(self, step: Callable[[], Losses]) -> Losses:
        """Runs a step as it will be captured."""

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Records what a step does on the device, without doing it; returns the replay."""


class CudaRecorder:
    """Captures by `torch.cuda.CUDAGraph`.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], Losses]) -> Losses:
        """Runs on a stream of its own: work of the default stream cannot be captured."""
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            losses = step()
        before.wait_stream(self.stream)
        return losses

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """The graph's replay."""
        before = torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=self.stream):
                step()
        finally:
            # If a capture fails, torch does not go back to the stream before it.
            torch.cuda.set_stream(before)
        return graph.replay


class Replayed:
    """A step that is captured once and replayed ever after.

    The first steps run as they are; all of them count.

    Args:
        step: From batches of one shape to losses. Everything else that it changes, it changes in
            place.
        recorder: What captures it.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step = step
        self.recorder = recorder
        self.left = WARM_UP
        self.replay: Callable[[], None] | None = None

    def __call__(self, batch: Batch) -> Losses:
        """Takes one step, and returns copies of what it makes."""
        if self.left:
            self.left -= 1
            self.losses = self.recorder.warm_up(lambda: self.step(batch))
            return self.losses
        if self.replay is None:
            self.replay = self._captured(batch)
        for fixed, tensor in zip(self.batch.single(), batch.single(), strict=True):
            fixed.copy_(tensor)
        self.replay()
        return _map(torch.clone, self.losses)

    def _captured(self, batch: Batch) -> Callable[[], None]:
        self.batch = Batch(*(torch.empty_like(tensor) for tensor in batch.single()))
        self.losses = _map(torch.empty_like, self.losses)
        try:
            return self.recorder.capture(self._on_fixed_tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            log.warning("steps run kernel by kernel, since they cannot be captured: %s", reason)
            return self._on_fixed_tensors

    def _on_fixed_tensors(self) -> None:
        losses = self.step(self.batch)
        self.losses.loss.copy_(losses.loss)
        for name, values in losses.metrics.items():
            self.losses.metrics[name].copy_(values)


class Graph(Batched):
    """Batched kernels whose step is captured and replayed.

    Steps that measure layers, and evaluations, run kernel by kernel.

    Attributes:
        recorder: What captures the step; made at the first step by default.
    """

    capabilities: ClassVar = Capabilities(
        name="graph",
        purpose="the step of the batched kernels, captured as a CUDA graph",
        modules=Batched.capabilities.modules,
        any_forward=False,
        optimizers=tuple(OPTIMIZERS),
        losses=Batched.capabilities.losses,
        precisions=Batched.capabilities.precisions,
        probes=(),
        devices=("cuda",),
        together=True,
        folded=Batched.capabilities.folded,
    )
    recorder: Recorder | None = None
    _replayed: Replayed | None = None

    @classmethod
    def refusal(cls, workload: Workload) -> str | None:
        """See `EngineKind.refusal`."""
        if workload.optimizer is Target:
            return "the update of such an optimizer runs from Python"
        return super().refusal(workload)

    def step(self, batch: Batch) -> Losses:
        """See `Engine.step`."""
        if self._replayed is None:
            self.recorder = self.recorder or CudaRecorder(self.stack.device)
            self._replayed = Replayed(super().step, self.recorder)
        return self._replayed(batch)

    def keep(self, members: Sequence[int]) -> None:
        """See `Engine.keep`; the next steps are captured anew."""
        super().keep(members)
        self._replayed = None


def _map(function: Callable[[torch.Tensor], torch.Tensor], losses: Losses) -> Losses:
    """The function of every tensor."""
    metrics = {name: function(values) for name, values in losses.metrics.items()}
    return Losses(function(losses.loss), metrics)
