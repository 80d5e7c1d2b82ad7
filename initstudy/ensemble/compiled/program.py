"""The compiled step of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from initstudy.ensemble.compiled.blas import one_thread
from initstudy.ensemble.compiled.layout import (
    layers_of,
    linear_layers,
    members_of,
    rule_of,
    scratch,
)
from initstudy.ensemble.flat import whole
from initstudy.ensemble.layers import Layer
from initstudy.ensemble.optimizers import SGD, Adam, AdamW
from initstudy.ensemble.stack import Tensors
from initstudy.ensemble.stepper import Stepper

if TYPE_CHECKING:
    from initstudy.ensemble.compiled.arrays import Scratch


def program(stepper: Stepper) -> Program | None:
    """The members' step, compiled; None where it cannot be."""
    stack, optimizer = stepper.stack, stepper.optimizer
    if stack.device.type != "cpu" or stack.chain is None:
        return None
    known = type(optimizer) in (SGD, Adam, AdamW) and whole(optimizer.params) is not None
    if not known or optimizer.params[0].dtype != torch.float32:
        return None
    return Program(stepper) if linear_layers(stack.chain.stages) else None


class Program:
    """A step of linear layers, with or without ReLUs between them, in machine code.

    It computes what a `Stepper` does, up to the rounding of sums in another order. A member's
    result does not depend on which others are in the pack.

    Args:
        stepper: The members; what it holds is updated in place.
    """

    def __init__(self, stepper: Stepper) -> None:
        # Here, since it takes half a second: not everybody needs it.
        from initstudy.ensemble.compiled import kernels, statistics

        self.step = kernels.step
        self.statistics = statistics.NAMES
        self.stepper = stepper
        self.layers = layers_of(stepper)
        self.rule = rule_of(stepper.optimizer)
        self.members = members_of(stepper)
        self.scratch: list[Scratch] = []
        self.batch = 0

    def __call__(
        self, x: Float[Tensor, "groups batch ..."], y: Int[Tensor, "groups batch"]
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """One update; each member's loss and accuracy on the batch before it.

        Raises:
            IndexError: A label is none of the model's classes.
        """
        return self._run(x, y, torch.empty(0, 0, 0), updating=True)

    def can_watch(self, layers: Sequence[Layer]) -> bool:
        """Whether `watched` measures just these layers."""
        chain = self.stepper.stack.chain
        assert chain is not None
        mine = [layer.weight for layer, _ in linear_layers(chain.stages)]
        unlimited = all(layer.limits is None for layer in layers)
        return unlimited and [name for layer in layers for name in layer.weights] == mine

    def watched(
        self,
        x: Float[Tensor, "groups batch ..."],
        y: Int[Tensor, "groups batch"],
        layers: Sequence[Layer],
        *,
        updating: bool,
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"], Tensors]:
        """Like a call, with the statistics of the basic probes, keyed as they are logged.

        Args:
            x: An input for each member, or for each group of neighbours.
            y: Their labels.
            layers: The model's.
            updating: Whether to update the members, or only to look.
        """
        size = self.stepper.stack.size
        found = torch.zeros(size, len(layers), len(self.statistics), dtype=torch.float64)
        losses, hits = self._run(x, y, found, updating=updating)
        measured = {
            name.format(layer.name): found[:, at, place].float()
            for at, layer in enumerate(layers)
            for place, name in enumerate(self.statistics)
        }
        return losses, hits, measured

    def _run(
        self, x: Tensor, y: Tensor, watched: Tensor, *, updating: bool
    ) -> tuple[Tensor, Tensor]:
        count = self.stepper.stack.size
        losses, hits = torch.empty(count), torch.empty(count)
        inputs, labels = x.flatten(2).contiguous().numpy(), y.contiguous().numpy()
        number = int(self.stepper.number)
        shares = min(torch.get_num_threads(), count)
        self._reserve(shares, x.shape[1])

        def share(i: int) -> None:
            begin, end = count * i // shares, count * (i + 1) // shares
            self.step(
                inputs, labels, begin, end, number, self.layers, self.rule, self.members,
                self.scratch[i], losses.numpy(), hits.numpy(), watched.numpy(), updating,
            )  # fmt: skip

        with one_thread():
            _side_by_side(share, shares)
        if updating:
            self.stepper.number.add_(1)
        return losses, hits

    def _reserve(self, shares: int, batch: int) -> None:
        if batch != self.batch:
            self.scratch, self.batch = [], batch
        while len(self.scratch) < shares:
            self.scratch.append(scratch(self.layers, batch))


def _side_by_side(share: Callable[[int], None], shares: int) -> None:
    if shares == 1:
        share(0)
    else:
        list(_threads(shares).map(share, range(shares)))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for the next step."""
    return ThreadPoolExecutor(count)
