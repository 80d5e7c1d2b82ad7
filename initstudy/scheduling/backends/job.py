"""What a job of a cluster does: it trains the packs that the coordinator has handed over.

A job is a study of one pack, in one process: the same scheduler halves a pack that does not fit,
without another wait in the queue of the cluster, and the same recorder writes the store. So a job
needs no coordinator, which may be gone by then.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from initstudy import store
from initstudy.config import ConfigError
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.local import Local
from initstudy.scheduling.backends.mailbox import Done, Progress, Task
from initstudy.scheduling.packing import halves, ids_when_halved
from initstudy.scheduling.recorder import Recorder
from initstudy.scheduling.scheduler import Scheduler
from initstudy.store import StoreError
from initstudy.tracking import Settings, Tracker
from initstudy.training import checkpoints, factory
from initstudy.training.group import Pack, prepare

SECONDS_BETWEEN_MESSAGES = 2.0


class Outbox:
    """Tells the coordinator how far a pack is, now and then.

    Args:
        directory: The directory of the study.
        pack: The id of the pack, parts of which may train one after another.
    """

    def __init__(self, directory: Path, pack: str) -> None:
        self.directory = directory
        self.pack = pack
        self.times = mailbox.read_progress(directory, pack).times + 1
        self.resumed: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.losses: dict[str, float] = {}
        self.write()

    def begin(self, pack: str) -> None:
        """Nothing: the coordinator knows of the whole pack."""

    def end(self, pack: str) -> None:
        """Nothing: the coordinator sees when the whole pack is done."""

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which an earlier process trained."""
        self.resumed[run] = self.steps[run] = step

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all."""
        self.steps[run] = step
        if loss is not None:
            self.losses[run] = loss
        if time.monotonic() - self.written > SECONDS_BETWEEN_MESSAGES:
            self.write()

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """Nothing: the store says so."""

    def say(self, line: str) -> None:
        """Prints a line into the log of the job."""
        sys.stdout.write(f"{line}\n")

    def write(self) -> None:
        """Writes how far the pack is.

        Raises:
            StoreError: The directory of the study cannot be written.
        """
        progress = Progress(self.times, self.resumed, self.steps, self.losses)
        mailbox.write_progress(self.directory, self.pack, progress)
        self.written = time.monotonic()


def work(directory: Path, packs: Sequence[str]) -> None:
    """Trains packs one after another, each into the store, and tells the coordinator of each.

    A pack that is done already, or that nobody waits for any more, is passed over: a job that was
    requeued goes on where it was.

    Args:
        directory: The directory of the study, as this machine sees it.
        packs: The ids of the packs.

    Raises:
        StoreError: The directory cannot be written, so that not even this can be told there.
    """
    for pack in packs:
        task = mailbox.read_task(directory, pack)
        if task is None or mailbox.read_done(directory, pack) is not None:
            continue
        try:
            done = _train(directory, task)
        except (ConfigError, StoreError, OSError) as error:
            # What a run raises ends that run alone; here this machine lacks something.
            done = Done(error=str(error).splitlines()[0])
        mailbox.write_done(directory, pack, done)


def _train(directory: Path, task: Task) -> Done:
    outbox = Outbox(directory, task.pack)
    os.chdir(task.folder)
    if task.folder not in sys.path:
        sys.path.insert(0, task.folder)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    backend = Local(directory, factory.device(task.device))
    (group,) = prepare(task.runs, backend.device)
    # The coordinator mirrors what the store has, as soon as it hears of it.
    tracker = Tracker(Settings(mode="off"), directory, group=directory.name)
    recorder = Recorder(directory, backend.device, tracker, outbox)
    left, stored = _left(directory, Pack(group, task.runs))
    failed = Scheduler(backend, recorder).run(left)
    outbox.write()
    return Done((*stored, *recorder.stored), failed)


def _left(directory: Path, pack: Pack) -> tuple[list[Pack], list[str]]:
    """The parts of a pack that are to train, and the ids of those that the store has.

    They are the pack itself, unless an earlier job has halved it: what that has finished does not
    train again, and what it was training goes on.
    """
    if store.read_pack(directory, pack.id) is not None:
        return [], [pack.id]
    parts = ids_when_halved(pack)[1:]
    if not any(checkpoints.exists(directory, p) or store.read_pack(directory, p) for p in parts):
        return [pack], []
    left, stored = zip(*(_left(directory, half) for half in halves(pack)), strict=True)
    return [*itertools.chain(*left)], [*itertools.chain(*stored)]
