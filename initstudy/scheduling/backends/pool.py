"""Worker processes of this machine, seen from the coordinator.

A worker is a fork where one thread of a CPU is to train: it starts at once, and shares the
libraries, the users' modules and the data that the coordinator has loaded. Elsewhere it is spawned,
with an interpreter of its own: CUDA does not survive a fork, nor do the threads of OpenMP, and the
system libraries of macOS do not bear one. Both speak through the same pipe. A worker never touches
the directory of the study, so that it can be killed at any moment.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe, connection, get_context, resource_tracker
from pathlib import Path

from initstudy.scheduling.backends.contract import Blame, Event, Finished, Lost
from initstudy.scheduling.backends.pipe import (
    Answer,
    Request,
    Speed,
    Training,
    Trial,
    receive_answer,
    send,
)
from initstudy.scheduling.backends.worker import Setting, serve
from initstudy.training.group import Pack

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CAN_FORK = sys.platform == "linux"


class TrialError(Exception):
    """A pack cannot be trained on so many workers; the message says why, in one line."""


class Worker:
    """A process that trains one pack at a time.

    Args:
        setting: What it needs to know besides its packs.
        fork: Whether to fork this process, instead of starting an interpreter.
        others: The coordinator's ends of the pipes of other workers.

    Attributes:
        pack: The id of the pack that it trains; None while it has nothing to do.
    """

    def __init__(
        self, setting: Setting, *, fork: bool, others: Sequence[connection.Connection]
    ) -> None:
        self.pack: str | None = None
        self._measures = False
        self.connection, theirs = Pipe()
        inherited = [self.connection, *others] if fork else []
        context = get_context("fork") if fork else get_context("spawn")
        self.process = context.Process(
            target=serve, args=(theirs, setting, inherited), name="initstudy worker"
        )
        if not fork:
            # `start` would start it, and let signals through in the middle.
            resource_tracker.ensure_running()
        with _signals_blocked(), warnings.catch_warnings():
            # Python, and libraries that have some, warn of threads that hold locks in a fork. This
            # one runs tensor operations on one thread, and uses none of those libraries.
            warnings.simplefilter("ignore")
            self.process.start()
        theirs.close()

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self.pack is None and not self._measures and self.process.is_alive()

    def send(self, request: Request) -> None:
        """Sends a request.

        Raises:
            OSError: The process has ended.
        """
        send(self.connection, request)
        if isinstance(request, Training):
            self.pack = request.pack
        else:
            self._measures = True

    def receive(self) -> Answer:
        """Waits for an answer; that the process has ended is one, too."""
        try:
            if not self.process.is_alive() and not self.connection.poll():
                raise EOFError
            answer = receive_answer(self.connection)
        except (EOFError, OSError):
            answer = [Lost(f"its process ended {self._how()}", Blame.WORKER)]
        if isinstance(answer, Speed) or isinstance(answer[-1], Finished | Lost):
            self.pack, self._measures = None, False
        return answer

    def end(self) -> None:
        """Kills the process and waits until it is gone."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _how(self) -> str:
        self.process.join(1)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        return f"by signal {-code}" if code < 0 else f"with code {code}"


class Pool:
    """Worker processes, started when they are first needed and replaced when they have died.

    Args:
        devices: The devices on which they train, in turn.
        threads: The threads of each on a CPU; None leaves their number to torch.

    Attributes:
        forks: Whether they are forks.
    """

    def __init__(self, devices: Sequence[str] = ("cpu",), threads: int | None = 1) -> None:
        self.devices = list(devices)
        self.threads = threads
        self.forks = CAN_FORK and threads == 1 and set(devices) == {"cpu"}
        self.workers: list[Worker] = []

    def device_of(self, index: int) -> str:
        """The device of the worker at an index."""
        return self.devices[index % len(self.devices)]

    def take(self, count: int) -> list[Worker]:
        """The first so many workers; those that are dead, or still in a trial, are replaced."""
        for index in range(count):
            if index == len(self.workers):
                self.workers.append(self._start(index))
            elif self.workers[index].pack is None and not self.workers[index].idle:
                self.workers[index].end()
                self.workers[index] = self._start(index)
        return self.workers[:count]

    def shrink(self, count: int) -> None:
        """Ends all workers but so many."""
        for worker in self.workers[count:]:
            worker.end()
        del self.workers[count:]

    def submit(self, request: Training) -> str:
        """Has a worker that is idle train a pack, or a further one.

        Returns:
            The name of its process.
        """
        for _ in range(2):
            free = (i for i, worker in enumerate(self.workers) if worker.pack is None)
            worker = self.take(next(free, len(self.workers)) + 1)[-1]
            try:
                worker.send(request)
                break
            except OSError:
                # It ended while it had nothing to do; `take` replaces it.
                worker.process.join()
        # One that ends as soon as it has started is lost with the pack, as `events` tells.
        worker.pack = request.pack
        return f"process {worker.process.pid}"

    def events(self, timeout: float) -> Iterator[tuple[str, Event]]:
        """What the workers tell of their packs; waits so many seconds for the first of them."""
        busy = [worker for worker in self.workers if worker.pack is not None]
        ready = connection.wait([worker.connection for worker in busy], timeout)
        for worker in busy:
            if worker.pack is None:
                # Its pack was cancelled because of what another one has told.
                continue
            # A process that died need not be ready: its own children may hold the pipe open.
            if worker.connection in ready or not worker.process.is_alive():
                pack, answer = worker.pack, worker.receive()
                assert not isinstance(answer, Speed)
                for event in answer:
                    yield pack, event

    def cancel(self, pack: str) -> None:
        """Ends the worker that trains a pack."""
        for worker in self.workers:
            if worker.pack == pack:
                worker.end()
                worker.pack = None

    def speed(self, pack: Pack, count: int) -> float:
        """Member-steps per second of so many workers together, each at work on such a pack.

        Raises:
            TrialError: One of them cannot train it.
        """
        workers = self.take(count)
        for worker in workers:
            try:
                worker.send(Trial(pack.group.key, pack.runs))
            except OSError as error:
                raise TrialError(f"a worker is gone: {error}") from error
        total = 0.0
        for worker in workers:
            answer = worker.receive()
            if not isinstance(answer, Speed):
                raise TrialError(" ".join(e.reason for e in answer if isinstance(e, Lost)))
            total += answer.member_steps
        return total

    def close(self) -> None:
        """Ends all workers, at once."""
        for worker in self.workers:
            worker.process.kill()
        self.shrink(0)

    def _start(self, index: int) -> Worker:
        setting = Setting(self.device_of(index), self.threads, str(Path.cwd()))
        others = [worker.connection for worker in self.workers if not worker.connection.closed]
        return Worker(setting, fork=self.forks, others=others)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Within it, signals wait: a process that is started here is deaf to them until it is set up.

    Otherwise a Ctrl-C while it starts would print a trace of its imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
