"""`executor=local`: packs train in this process, or in worker processes of this machine."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from initstudy.config import Plain
from initstudy.scheduling.backends.contract import Event, Finished, Lost, Started
from initstudy.scheduling.backends.mailbox import Task
from initstudy.scheduling.backends.pipe import Training
from initstudy.scheduling.backends.pool import Pool
from initstudy.scheduling.backends.worker import train
from initstudy.training import checkpoints, factory
from initstudy.training.checkpoints import Partway
from initstudy.training.group import Pack


def backend(config: Plain, directory: Path) -> Local:
    """The backend that a configuration asks for.

    With `executor.workers`, or where there are several GPUs, packs train in so many processes,
    which share the threads that torch would use. Otherwise the planner may set their number.

    Raises:
        ConfigError: The device cannot be used here.
    """
    asked = config["device"]
    device = factory.device(asked)
    several = asked in ("auto", "cuda") and device.type == "cuda"
    gpus = torch.cuda.device_count() if several else 0
    workers = config["executor"]["workers"] or (gpus if gpus > 1 else 0)
    if not workers:
        return Local(directory, device)
    devices = [f"cuda:{index}" for index in range(gpus)] or [str(device)]
    threads = max(1, torch.get_num_threads() // workers) if device.type == "cpu" else None
    return Local(directory, device, Pool(devices, threads), workers)


class Local:
    """This machine.

    Args:
        directory: The directory of the study.
        device: The device for which packs are sized, and on which this process trains.
        pool: The worker processes that train instead of this one. If there is none, this process
            trains until `workers` is set to two or more.
        workers: How many processes of the pool train.
    """

    name = "local"
    outlives_coordinator = False

    def __init__(
        self, directory: Path, device: torch.device, pool: Pool | None = None, workers: int = 1
    ) -> None:
        self.directory = directory
        self.device = device
        self.trials = Pool() if pool is None and device.type == "cpu" else None
        self._pool = pool
        self._workers = workers
        # Started packs of which nobody has heard yet, and the pack that this process trains.
        self._started: list[tuple[Pack, Partway]] = []
        self._here: tuple[Pack, Partway] | None = None

    def __str__(self) -> str:
        if self._pool is None:
            return str(self.device)
        return f"{self.workers} processes on {', '.join(sorted(set(self.devices)))}"

    @property
    def devices(self) -> list[str]:
        """The device of each worker process; none if this process trains."""
        return [self._pool.device_of(i) for i in range(self.workers)] if self._pool else []

    @property
    def workers(self) -> int:
        """How many packs train side by side."""
        return self._workers

    @workers.setter
    def workers(self, count: int) -> None:
        assert self.trials is not None, "their number is settled"
        self._workers = count
        self._pool = self.trials if count > 1 else None
        self.trials.shrink(count if count > 1 else 0)

    @property
    def hardware(self) -> str:
        """The GPU, or the processor and the threads that torch uses."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"

    @property
    def free(self) -> int:
        """The workers that have nothing to do."""
        if self._pool is None:
            return 0 if self._here else 1
        return self._workers - sum(worker.pack is not None for worker in self._pool.workers)

    def submit(self, packs: Sequence[Pack]) -> list[str]:
        """Gives each pack to a worker, with the state from which it goes on.

        Raises:
            StoreError: A useless checkpoint cannot be removed.
        """
        return [self._submit(pack) for pack in packs]

    def _submit(self, pack: Pack) -> str:
        partway = checkpoints.load(self.directory, pack, self.device)
        if self._pool is None:
            self._here = (pack, partway)
            return "this process"
        self._started.append((pack, partway))
        every = pack.group.config.checkpoint_every
        request = Training(pack.id, pack.group.key, pack.runs, partway.state, every)
        return self._pool.submit(request)

    def adopt(self, task: Task) -> bool:
        """False: workers end with the process that started them."""
        return False

    def events(self, timeout: float) -> Iterator[tuple[str, Event]]:
        """What the workers tell; in this process, the whole training of a pack."""
        if self._here is not None:
            yield from self._train(*self._here)
        while self._started:
            pack, partway = self._started.pop(0)
            yield pack.id, _started(partway)
        if self._pool is not None:
            yield from self._pool.events(timeout)

    def _train(self, pack: Pack, partway: Partway) -> Iterator[tuple[str, Event]]:
        yield pack.id, _started(partway)
        every = pack.group.config.checkpoint_every
        for event in train(pack, self.device, partway.state, every):
            if isinstance(event, Finished | Lost):
                self._here = None
            yield pack.id, event

    def cancel(self, pack: Pack) -> None:
        """Ends the worker that trains the pack, if one does."""
        if self._pool is not None:
            self._pool.cancel(pack.id)

    def close(self) -> None:
        """Ends all workers."""
        for pool in (self._pool, self.trials):
            if pool is not None:
                pool.close()


def _started(partway: Partway) -> Started:
    steps = {row["run"]: row["step"] for row in partway.history}
    return Started(partway, steps, resumed=partway.state is not None)
