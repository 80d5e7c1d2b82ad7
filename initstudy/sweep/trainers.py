"""What trains a pack: this process, or a fork of it that sends the rows back."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NoReturn, Protocol

import torch

from initstudy import memory
from initstudy.ensemble import Row, State, Summary
from initstudy.sweep.pack import Resumption, Start, speed, train_pack
from initstudy.sweep.plan import Pack

Item = Start | Row | Summary | State
SECONDS_BETWEEN_BLOCKS = 0.2
_PR_SET_PDEATHSIG = 1


class LostError(Exception):
    """A trainer has ended without an answer."""


class RemoteError(Exception):
    """What training elsewhere has raised, in one line."""


def one_line(error: Exception) -> str:
    """What was raised, and why."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


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
    tracked here.
    """

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        with warnings.catch_warnings():
            # Of threads that hold locks: the child runs tensor operations on one thread, and
            # touches no library that has threads of its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process = os.fork()
        if self.process == 0:
            self.pipe.close()
            _serve(theirs)
        theirs.close()

    def train(
        self, pack: Pack, resumption: Resumption, every: float | None = None
    ) -> Iterator[Item]:
        """See `Trainer`.

        Raises:
            LostError: The process is gone.
            RemoteError: Training there has raised.
        """
        self._send("train", pack, resumption.state, every)
        while True:
            kind, content = self.receive()
            if kind == "items":
                yield from content
            elif kind == "error":
                raise RemoteError(content)
            else:
                return

    def begin_trial(self, pack: Pack) -> None:
        """Has the speed of a pack measured; `receive` gives it."""
        self._send("speed", pack)

    def receive(self) -> tuple[str, Any]:
        """The next answer: what it is, and its content.

        Raises:
            LostError: The process is gone.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            raise LostError(f"a process that trains has ended{self._how()}") from error

    def close(self) -> None:
        """Ends the process, at once."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.process, 0)
        self.pipe.close()

    def _send(self, *request: Any) -> None:
        try:
            self.pipe.send(request)
        except OSError as error:
            raise LostError(f"a process that trains has ended{self._how()}") from error

    def _how(self) -> str:
        with suppress(ChildProcessError):
            _, status = os.waitpid(self.process, 0)
            code = os.waitstatus_to_exitcode(status)
            return f" by signal {-code}" if code < 0 else f" with code {code}"
        return ""


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
        for fork in self.forks:
            fork.close()

    def take(self, count: int) -> list[Fork]:
        """So many forks; the others end."""
        self.forks += [Fork() for _ in range(count - len(self.forks))]
        for fork in self.forks[count:]:
            fork.close()
        del self.forks[count:]
        return list(self.forks)

    def replace(self, fork: Fork) -> Fork:
        """Another one for one that was lost."""
        fork.close()
        self.forks[self.forks.index(fork)] = new = Fork()
        return new

    def speed(self, pack: Pack, count: int) -> float:
        """Member-steps a second of so many forks, all of them at work on such a pack.

        Raises:
            LostError: One of them is gone.
            RemoteError: One of them cannot train it.
        """
        forks = self.take(max(count, len(self.forks)))[:count]
        for fork in forks:
            fork.begin_trial(pack)
        answers = [fork.receive() for fork in forks]
        for kind, content in answers:
            if kind == "error":
                raise RemoteError(content)
        return sum(content for _, content in answers)


def _serve(pipe: Connection) -> NoReturn:
    """The life of a fork: answers requests until the other end is gone."""
    code = 1
    try:
        _settle()
        with suppress(EOFError, OSError):
            while True:
                kind, *arguments = pipe.recv()
                _answer(pipe, kind, arguments)
        code = 0
    finally:
        # Not sys.exit: what the parent has registered for its end is not this one's to do.
        os._exit(code)


def _settle() -> None:
    # Ctrl-C reaches all processes of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    memory.keep_freed()
    torch.set_num_threads(1)


def _answer(pipe: Connection, kind: str, arguments: list[Any]) -> None:
    cpu = torch.device("cpu")
    try:
        if kind == "speed":
            pipe.send(("speed", speed(arguments[0], cpu)))
            return
        pack, state, every = arguments
        _send_in_blocks(pipe, train_pack(pack, cpu, Resumption(state, _clock(every))))
        pipe.send(("end", None))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        # A user's model may raise anything, even what cannot be sent.
        pipe.send(("error", one_line(error)))


def _send_in_blocks(pipe: Connection, items: Iterator[Item]) -> None:
    block: list[Item] = []
    sent = time.monotonic()
    for item in items:
        block.append(item)
        # A state is the training's own, and is gone with the next step.
        if isinstance(item, State) or time.monotonic() - sent > SECONDS_BETWEEN_BLOCKS:
            pipe.send(("items", block))
            block, sent = [], time.monotonic()
    pipe.send(("items", block))


def _clock(every: float | None):  # type: ignore[no-untyped-def]
    """Asks whether so many seconds have gone by since it last said so."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if every is None or time.monotonic() - last < every:
            return False
        last = time.monotonic()
        return True

    return due
