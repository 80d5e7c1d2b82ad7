"""The compiled step of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from initstudy.engine.compiled.blas import one_thread
from initstudy.engine.compiled.layout import layers_of, linear_layers, members_of, room_for, rule_of
from initstudy.engine.flat import whole
from initstudy.engine.optimizers import SGD, Adam, AdamW
from initstudy.engine.stack import Tensors
from initstudy.engine.stepper import Stepper
from initstudy.probes.layers import Layer

if TYPE_CHECKING:
    from initstudy.engine.compiled.arrays import Scratch


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
        from initstudy.engine.compiled import kernels, statistics

        self.kernels = kernels
        self.statistics = statistics.COLUMNS
        self.stepper = stepper
        self.layers = layers_of(stepper)
        self.rule = rule_of(stepper.optimizer)
        self.members = members_of(stepper)
        # By the size of the batch, one for each thread.
        self.scratch: dict[int, list[Scratch]] = {}

    def __call__(
        self, x: Float[Tensor, "groups batch ..."], y: Int[Tensor, "groups batch"]
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """One update; each member's loss and accuracy on the batch before it.

        Raises:
            IndexError: A label is none of the model's classes.
        """
        return self._run(x, y, torch.empty(0, 0, 0, dtype=torch.float64), updating=True)

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
            column.of(layer.name): found[:, at, place].float()
            for at, layer in enumerate(layers)
            for place, column in enumerate(self.statistics)
        }
        return losses, hits, measured

    def scores(
        self, x: Float[Tensor, "batch ..."], y: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """Each member's loss and accuracy on inputs that all share.

        Raises:
            IndexError: A label is none of the model's classes.
        """
        inputs, labels = x.flatten(1).contiguous().numpy(), y.contiguous().numpy()

        def share(begin: int, end: int, *room: Any) -> None:
            params = self.members.params
            self.kernels.evaluate(inputs, labels, begin, end, self.layers, params, *room)

        return self._share_out(share, len(x))

    def _run(
        self, x: Tensor, y: Tensor, watched: Tensor, *, updating: bool
    ) -> tuple[Tensor, Tensor]:
        inputs, labels = x.flatten(2).contiguous().numpy(), y.contiguous().numpy()
        number = int(self.stepper.number)

        def share(begin: int, end: int, *room: Any) -> None:
            self.kernels.step(
                inputs,
                labels,
                begin,
                end,
                number,
                self.layers,
                self.rule,
                self.members,
                *room,
                watched.numpy(),
                updating,
            )

        found = self._share_out(share, x.shape[1])
        if updating:
            self.stepper.number.add_(1)
        return found

    def _share_out(self, share: Callable[..., None], batch: int) -> tuple[Tensor, Tensor]:
        """Losses and accuracies, from shares of the members on all threads."""
        count = self.stepper.stack.size
        losses, hits = torch.empty(count), torch.empty(count)
        shares = min(torch.get_num_threads(), count)
        room = self.scratch.setdefault(batch, [])
        room += [room_for(self.layers, batch) for _ in range(shares - len(room))]

        def work(i: int) -> None:
            begin, end = count * i // shares, count * (i + 1) // shares
            share(begin, end, room[i], losses.numpy(), hits.numpy())

        with one_thread():
            if shares == 1:
                work(0)
            else:
                list(_threads(shares).map(work, range(shares)))
        return losses, hits


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for the next step."""
    return ThreadPoolExecutor(count)
