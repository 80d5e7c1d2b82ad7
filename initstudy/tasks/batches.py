"""Minibatches, in an order that depends on its seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from initstudy.trees import leaves, map_tensors

if TYPE_CHECKING:
    from initstudy.tasks.data import Data

# Values of batches that are gathered together: small examples cost less than the calls that fetch
# them.
GATHERED = 2**18


class Batches:
    """The minibatches of each member, by step.

    The examples are shuffled anew in each epoch, in an order that depends on the member's seed
    alone. Members that share a seed share their batches, and a batch that is shared by neighbouring
    members comes once.

    Args:
        data: Where the examples come from.
        seeds: One seed of the order per member.
        size: Examples per batch. The rest of an epoch that fills no batch is left out.
    """

    def __init__(self, data: Data, seeds: Sequence[int], size: int) -> None:
        self.data = data
        self.size = size
        self.per_epoch = len(data.train) // size
        self._seeds = list(seeds)
        self._members: list[int] = []
        self._epoch = -1
        self._shuffled: dict[int, Tensor] = {}
        self._gathered: range = range(0)

    def __call__(self, step: int, members: Sequence[int] | None = None) -> tuple[Any, Any]:
        """The inputs and targets of one step, `[groups, batch, ...]`.

        Args:
            step: The number of the step, from 0 on; steps can be asked for in any order.
            members: The numbers of the members that take the step; None for all.

        Returns:
            Inputs and targets, one batch for each group of neighbouring members with the same seed
            if all such groups have one size, or else one for each member.
        """
        epoch, index = divmod(step, self.per_epoch)
        chosen = list(range(len(self._seeds)) if members is None else members)
        if epoch != self._epoch:
            self._shuffled.clear()
        if epoch != self._epoch or chosen != self._members:
            self._members, self._epoch, self._gathered = chosen, epoch, range(0)
            self._order = self._orders(groups_of([self._seeds[member] for member in chosen]))
        if index not in self._gathered:
            self._gather(index)
        position = index - self._gathered.start
        inputs = map_tensors(lambda tensor: tensor[position], self._inputs)
        if self._targets is None:
            return inputs, inputs
        return inputs, map_tensors(lambda tensor: tensor[position], self._targets)

    def _gather(self, index: int) -> None:
        """Fetches this batch of the epoch, and the next ones if they are small."""
        train = self.data.train
        numbers = sum(tensor[0].numel() for tensor in leaves(train.inputs))
        values = len(self._order) * self.size * numbers
        end = min(index + max(1, GATHERED // values), self.per_epoch)
        rows = self._order[:, index * self.size : end * self.size]
        rows = rows.unflatten(1, (-1, self.size)).transpose(0, 1)
        batches = train.map(lambda tensor: _take(tensor, rows))
        self._inputs, self._targets = self.data.normalize(batches.inputs), batches.targets
        self._gathered = range(index, end)

    def _orders(self, seeds: Sequence[int]) -> Int[Tensor, "groups n"]:
        examples = len(self.data.train)
        for seed in set(seeds) - self._shuffled.keys():
            order = torch.randperm(examples, generator=generator(seed, self._epoch))
            self._shuffled[seed] = order.to(self.data.device)
        return torch.stack([self._shuffled[seed] for seed in seeds])


def batches_apart(seeds: Sequence[int]) -> int:
    """How many batches a step fetches for members of these seeds; fewer if they share them."""
    return len(groups_of(seeds))


def generator(seed: int, epoch: int, purpose: str = "data") -> torch.Generator:
    """A generator for one epoch's order, independent of those that draw parameters.

    Args:
        seed: The seed of the order.
        epoch: The number of the epoch.
        purpose: What is drawn; different purposes draw independently.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _take(values: Tensor, rows: Int[Tensor, "batches groups batch"]) -> Tensor:
    """`values[rows]`, several times as fast."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def groups_of(seeds: Sequence[int]) -> list[int]:
    """One seed for each run of equal ones if all such runs have one length, else all seeds."""
    runs = [(seed, len(list(same))) for seed, same in groupby(seeds)]
    return [seed for seed, _ in runs] if len({n for _, n in runs}) == 1 else list(seeds)
