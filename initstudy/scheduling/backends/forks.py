"""What trains a pack: this process, or a fork of it that sends the rows back."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, Protocol

import torch

from initstudy.scheduling.backends.forked import Item, RemoteError, send, serve
from initstudy.training.group import Pack
from initstudy.training.pack import Resumption, train_pack


class LostError(Exception):
    """A trainer has ended without an answer."""


class Trainer(Protocol):
    """Trains one pack at a time."""

    def train(
        self, pack: Pack, resumption: Resumption, every: float | None = None
    ) -> Iterator[Item]:
        """What `train_pack` yields.

        Args:
            pack: What to train.
            resumption: Where to go on, and whether a state is due.
            every: The seconds between two states, for one that cannot ask whether it is.
        """
        ...


class Here:
    """This process.

    Args:
        device: Where to train.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def train(
        self, pack: Pack, resumption: Resumption, every: float | None = None
    ) -> Iterator[Item]:
        """See `Trainer`."""
        return train_pack(pack, self.device, resumption)


class Fork:
    """A fork of this process, for one thread of a CPU.

    It shares with this one what was loaded before, the data set and the libraries, and starts at
    once. It never touches files: rows come back through a pipe, in blocks, and are stored and
    tracked here. One that is gone makes way for another at the next request.
    """

    # The child of another thread's fork would hold this one's end of the pipe open.
    _one_at_a_time = threading.Lock()

    def __init__(self) -> None:
        self._reaping = threading.Lock()
        self._begin()

    def train(
        self, pack: Pack, resumption: Resumption, every: float | None = None
    ) -> Iterator[Item]:
        """See `Trainer`.

        Raises:
            LostError: The process is gone.
            RemoteError: Training there has raised.
        """
        self._send("train", pack, resumption.state, every)
        while items := self._receive():
            yield from items

    def begin_trial(self, pack: Pack) -> None:
        """Has the speed of a pack measured; `speed` gives it.

        Raises:
            LostError: The process is gone.
        """
        self._send("speed", pack)

    def speed(self) -> float:
        """Member-steps a second of the trial.

        Raises:
            LostError: The process is gone.
            RemoteError: It cannot train the pack.
        """
        return self._receive()

    def kill(self) -> None:
        """Ends the process, at once; whoever waits for its answer hears that it is lost."""
        if self.ended is None:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process and waits until it is gone."""
        self.kill()
        self._reap()
        self.pipe.close()

    def _begin(self) -> None:
        self.idle = True
        self.ended: int | None = None
        head = os.getpid()
        with self._one_at_a_time, warnings.catch_warnings():
            # Of threads that hold locks, by Python and by libraries that have some: the child runs
            # tensor operations on one thread, and touches none of those libraries.
            warnings.simplefilter("ignore")
            self.pipe, theirs = Pipe()
            self.process = os.fork()
            if self.process == 0:
                self.pipe.close()
                serve(theirs, head)
            theirs.close()

    def _send(self, *request: Any) -> None:
        if not self.idle:
            # It is gone, or at work on what nobody waits for any more.
            self.close()
            self._begin()
        self.idle = False
        try:
            send(self.pipe, *request)
        except OSError as error:
            raise self._lost() from error

    def _receive(self) -> Any:
        try:
            kind, content = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._lost() from error
        self.idle = kind != "items"
        if kind == "error":
            raise RemoteError(content)
        return content

    def _lost(self) -> LostError:
        self.kill()
        code = self._reap()
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return LostError(f"a process that trains has ended {how}")

    def _reap(self) -> int:
        """Waits for its end; gives its exit code, or its signal as a negative number."""
        with self._reaping:
            if self.ended is None:
                _, status = os.waitpid(self.process, 0)
                self.ended = os.waitstatus_to_exitcode(status)
            return self.ended


class Pool:
    """Forks, made when they are first asked for."""

    # macOS's libraries do not bear it.
    can_fork = sys.platform == "linux"

    def __init__(self) -> None:
        self.forks: list[Fork] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.take(0)

    def take(self, count: int) -> list[Fork]:
        """So many forks; the others end."""
        self.forks += [Fork() for _ in range(count - len(self.forks))]
        for fork in self.forks[count:]:
            fork.close()
        del self.forks[count:]
        return list(self.forks)

    def speed(self, pack: Pack, count: int) -> float:
        """Member-steps a second of so many forks, all of them at work on such a pack.

        Raises:
            LostError: One of them is gone.
            RemoteError: One of them cannot train it.
        """
        forks = self.take(max(count, len(self.forks)))[:count]
        for fork in forks:
            fork.begin_trial(pack)
        return sum([fork.speed() for fork in forks])
