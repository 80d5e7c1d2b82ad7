"""The plan of a sweep: what `planner` chooses, from trials of the real models."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from initstudy.config import Plain, Run
from initstudy.runtime import memory
from initstudy.scheduling.autotune import WORTH_MEASURING, Choice, Memory, Rate, choose
from initstudy.scheduling.backends.forks import Pool
from initstudy.scheduling.packing import Size, alike, signature, split, suited
from initstudy.tasks.data import batches_apart
from initstudy.training import factory as build
from initstudy.training.group import Pack
from initstudy.training.pack import speed, steps, warm_up

log = logging.getLogger(__name__)

# A training takes roughly this long, which says whether it is worth a trial: floating-point
# operations a second, seconds for a float of activations, and seconds for a step.
OPERATIONS = 2e10
SECONDS_A_FLOAT = 5e-9
SECONDS_A_STEP = 1e-4
# Of an activation there are its input, output and gradients at once; of a parameter its gradient,
# the optimizer's two and a copy of all besides.
COPIES_OF_ACTIVATIONS, COPIES_OF_PARAMETERS = 6, 8
SHARE_OF_MEMORY = 0.5


class Planner:
    """Chooses for each group of runs that can train together.

    Args:
        section: The configuration's `planner`.
        device: Where they will train.
        pool: Forks to train side by side; None where only this process trains, or others do.
        workers: Packs that will train at the same time, where that is settled.
        recorded: What an earlier command chose for the same sweep, by group.
    """

    def __init__(
        self,
        section: Plain,
        device: torch.device,
        pool: Pool | None,
        workers: int,
        recorded: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.asked_size: int | None = section["pack_size"]
        self.asked_workers: int | None = section["workers"]
        if self.asked_workers and pool is not None and not pool.can_fork:
            self.asked_workers = 1
        self.timing = section["timing"]
        self.device = device
        self.pool = pool
        self.workers = workers
        self.settled = pool is None
        self.recorded = recorded
        self.choices: dict[str, Choice] = {}

    def plan(self, runs: Sequence[Run], sizes: Mapping[str, Size]) -> None:
        """Chooses; first for the group that takes longest, whose workers all others get.

        Args:
            runs: The grid.
            sizes: Of the runs that are to train, by run id.
        """
        groups = [group for group in alike(runs) if any(run.id in sizes for run in group)]
        if self.pool is not None and self.device.type == "cpu":
            # The same code serves all that have it.
            any(warm_up(group[0]) for group in groups)
        taking = {id(group): self._rough_seconds(group, _size(group, sizes)) for group in groups}
        for group in sorted(groups, key=lambda group: -taking[id(group)]):
            choice = self._choose(group, _size(group, sizes), taking[id(group)])
            self.workers, self.settled = choice.workers, True
            self.choices[_key(group)] = choice

    def pack_size(self, group: Sequence[Run]) -> int:
        """The choice for a group."""
        return self.choices[_key(group)].pack_size

    def record(self) -> dict[str, Any]:
        """What was chosen and measured, for the store."""
        return {**self.recorded, **{key: asdict(choice) for key, choice in self.choices.items()}}

    def _choose(self, group: Sequence[Run], size: Size, seconds: float) -> Choice:
        asked_size, asked_workers = self.asked_size, self.asked_workers
        workers = self.workers if self.settled else asked_workers
        most = self._most(size)
        guess = min(suited(size, self.device), most)
        before = self.recorded.get(_key(group))
        if before and asked_size is None and asked_workers is None:
            settled = self.workers if self.settled else before["workers"]
            return Choice(before["pack_size"], settled, before["rates"])
        if asked_size and workers:
            return Choice(asked_size, workers)
        measured = self.timing != "off" and self.pool is not None
        if not measured or len(group) == 1 or seconds < WORTH_MEASURING:
            share = -(-len(group) // (workers or 1))
            return Choice(asked_size or max(1, min(share, guess)), workers or 1)
        known = Memory(self._facts(group[0].config), self.device)
        rates = {} if self.timing == "anew" else known.recall()
        choice = choose(
            len(group),
            steps(group[0].config),
            self._rate(group, rates),
            guess=guess,
            most=most,
            cores=self._cores(),
            pack_size=asked_size,
            workers=workers,
        )
        known.remember(choice.rates)
        return choice

    def _rate(self, group: Sequence[Run], known: Mapping[str, float]) -> Rate:
        """Measures a pack size and a number of workers, or remembers them."""

        def rate(size: int, workers: int) -> float:
            if f"{workers}x{size}" in known:
                return known[f"{workers}x{size}"]
            # What takes the longest decides when all are done: the one with the most batches.
            part = max(split(group, size), key=lambda part: batches_apart(_seeds(part)))
            pack = Pack("", tuple(part))
            try:
                if workers == 1:
                    return speed(pack, self.device)
                assert self.pool is not None
                return self.pool.speed(pack, workers)
            except Exception as error:
                # For lack of memory, say: a plan that cannot be tried is none.
                log.info("%d runs on %d workers cannot train: %s", size, workers, error)
                return 0.0

        return rate

    def _cores(self) -> int:
        side_by_side = self.device.type == "cpu" and self.pool is not None and self.pool.can_fork
        return torch.get_num_threads() if side_by_side else 1

    def _most(self, size: Size) -> int:
        """Runs that the memory holds, beside as many of the other workers."""
        floats = COPIES_OF_PARAMETERS * size.parameters + COPIES_OF_ACTIVATIONS * size.activations
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
        else:
            free = memory.available() // (self.asked_workers or self._cores())
        return max(1, int(SHARE_OF_MEMORY * free / (4 * floats)))

    def _rough_seconds(self, group: Sequence[Run], size: Size) -> float:
        batch = group[0].config["batch_size"]
        step = 6 * batch * size.parameters / OPERATIONS + SECONDS_A_FLOAT * size.activations
        return len(group) * steps(group[0].config) * (step + SECONDS_A_STEP)

    def _facts(self, config: Plain) -> dict[str, Any]:
        data = build.dataset(config)
        return {
            "model": config["model"],
            "input": data.shape,
            "classes": data.classes,
            "batch": config["batch_size"],
            "optimizer": config["optimizer"]["name"],
        }


def _size(group: Sequence[Run], sizes: Mapping[str, Size]) -> Size:
    return next(sizes[run.id] for run in group if run.id in sizes)


def _seeds(runs: Sequence[Run]) -> list[int]:
    return [run.config["seed"] for run in runs]


def _key(group: Sequence[Run]) -> str:
    return hashlib.sha256(signature(group[0]).encode()).hexdigest()[:12]
