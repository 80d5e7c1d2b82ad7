"""A worker: trains packs that the head has handed over, in a process or on a machine of its own."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from initstudy.config import ConfigError
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.execute import execute
from initstudy.store import StoreError
from initstudy.training import factory
from initstudy.training.group import Pack, prepare

SECONDS_BETWEEN_SIGNS = 2.0


class Silent:
    """No tracker: what a worker writes to the store, the head mirrors to W&B."""

    def start(self, run: str, config: Mapping[str, Any], name: str) -> None:
        """Nothing."""

    def log(self, run: str, step: int, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def promise(self, pack: str, runs: Sequence[Any]) -> None:
        """Nothing."""

    def finish(self, pack: str) -> None:
        """Nothing."""

    def discard(self, runs: Sequence[str]) -> None:
        """Nothing."""


class Signs:
    """Tells the head how far a pack is, now and then."""

    def __init__(self, directory: Path, pack: str) -> None:
        self.directory = directory
        self.pack = pack
        self.times = jobs.read_begun(directory, pack).times + 1
        self.resumed: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.losses: dict[str, float] = {}
        self._write()

    def begin(self, pack: str) -> None:
        """Nothing: it may be a half, and the head knows of the whole."""

    def end(self, pack: str) -> None:
        """Nothing: the head sees that a pack is done."""

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which an earlier worker trained."""
        self.resumed[run] = self.steps[run] = step

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all."""
        self.steps[run] = step
        if loss is not None:
            self.losses[run] = loss
        if time.monotonic() - self.written > SECONDS_BETWEEN_SIGNS:
            self._write()

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """Nothing: the head sees that a pack is done."""

    def _write(self) -> None:
        begun = jobs.Begun(self.times, self.resumed, self.steps, self.losses)
        jobs.write_begun(self.directory, self.pack, begun)
        self.written = time.monotonic()


def work(directory: Path, packs: Sequence[str], device: str | None = None) -> None:
    """Trains packs one after another, each into the store, and says so for each.

    A pack that is done already, or that nobody waits for any more, is passed over: a job that was
    requeued begins where it was.

    Args:
        directory: Of the sweep, as this machine sees it.
        packs: Their ids.
        device: Overrides the configuration's.

    Raises:
        StoreError: The directory cannot be written, so that not even this can be said there.
    """
    for pack in packs:
        task = jobs.read_task(directory, pack)
        if task is None or jobs.read_done(directory, pack) is not None:
            continue
        try:
            done = _train(directory, task, device)
        except (ConfigError, StoreError, OSError) as error:
            # What a run raises is caught where it trains; here this machine lacks something.
            done = jobs.Done(error=str(error).splitlines()[0])
        jobs.write_done(directory, pack, done)


def _train(directory: Path, task: jobs.Task, device: str | None) -> jobs.Done:
    signs = Signs(directory, task.pack)
    os.chdir(task.folder)
    if task.folder not in sys.path:
        sys.path.insert(0, task.folder)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    chosen = factory.device(device or task.device)
    (group,) = prepare(task.runs, chosen)
    pack = Pack(group, task.runs)
    return jobs.Done(failed=execute([pack], directory, chosen, Silent(), signs))


def main() -> None:
    """Trains the packs whose ids come in, a line each, until the head is gone."""
    directory, device = Path(sys.argv[1]), sys.argv[2]
    # Ctrl-C reaches all processes of a terminal; the head decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waiting: list[str] = []
    arrived = threading.Condition()

    def read() -> None:
        for line in sys.stdin:
            with arrived:
                waiting.append(line.strip())
                arrived.notify()
        # The head is gone, and whoever continues will train this pack.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    # What was imported stays: the collection after each pack need not look through it.
    gc.freeze()
    while True:
        with arrived:
            arrived.wait_for(lambda: waiting)
            pack = waiting.pop(0)
        work(directory, [pack], device)


if __name__ == "__main__":
    main()
