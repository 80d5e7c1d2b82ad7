"""A training step as a CUDA graph: launched as a whole, not kernel by kernel from Python."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from initstudy.engine.stepper import Stepper

log = logging.getLogger(__name__)
Outputs = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Outputs]

# Steps before the capture, in which libraries choose their kernels and get their memory.
WARM_UP = 3


class Recorder(Protocol):
    """What captures a function."""

    def warm_up(self, step: Callable[[], Outputs]) -> Outputs:
        """Runs a step as it will be captured."""

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """What does again all that the step does on the device; it is not done now."""


class CudaRecorder:
    """Captures by `torch.cuda.CUDAGraph`.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], Outputs]) -> Outputs:
        """On a stream of its own, since what ran on the default stream cannot be captured."""
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            outputs = step()
        before.wait_stream(self.stream)
        return outputs

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """The graph's replay."""
        before = torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=self.stream):
                step()
        finally:
            # Where a capture fails, torch does not go back to the stream before it.
            torch.cuda.set_stream(before)
        return graph.replay


class Replayed:
    """A step that is captured once and replayed ever after.

    The first steps run as they are; all count.

    Args:
        step: From inputs and labels of one shape to losses and accuracies. What it changes
            besides, it changes in place.
        recorder: What captures it.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step = step
        self.recorder = recorder
        self.left = WARM_UP
        self.replay: Callable[[], None] | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Outputs:
        """One step, and copies of what it returns."""
        if self.left:
            self.left -= 1
            self.outputs = self.recorder.warm_up(lambda: self.step(x, y))
            return self.outputs
        if self.replay is None:
            self._capture(x, y)
        assert self.replay is not None
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        loss, hits = self.outputs
        return loss.clone(), hits.clone()

    def _capture(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = torch.empty_like(x), torch.empty_like(y)
        self.outputs = torch.empty_like(self.outputs[0]), torch.empty_like(self.outputs[1])
        try:
            self.replay = self.recorder.capture(self._on_fixed_tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            log.warning("steps run kernel by kernel, since they cannot be captured: %s", reason)
            self.replay = self._on_fixed_tensors

    def _on_fixed_tensors(self) -> None:
        for kept, value in zip(self.outputs, self.step(self.x, self.y), strict=True):
            kept.copy_(value)


def replayed(stepper: Stepper) -> Step:
    """The members' step, captured where that can be: batched kernels on a GPU."""
    if stepper.stack.device.type != "cuda" or stepper.stack.chain is None:
        return stepper
    return Replayed(stepper, CudaRecorder(stepper.stack.device))
