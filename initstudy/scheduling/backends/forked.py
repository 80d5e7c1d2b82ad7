"""The life of a fork: what it does with the requests of the process that made it."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary
from initstudy.runtime import memory
from initstudy.training.pack import Resumption, Start, speed, train_pack

Item = Start | Row | Summary | State
SECONDS_BETWEEN_BLOCKS = 0.2
# prctl(2).
_PR_SET_PDEATHSIG = 1


class RemoteError(Exception):
    """What training elsewhere has raised, in one line."""


def one_line(error: Exception) -> str:
    """What was raised, and why."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def serve(pipe: Connection, head: int) -> NoReturn:
    """The life of a fork: answers requests until the other end is gone."""
    code = 1
    try:
        _settle(head)
        with suppress(EOFError, OSError):
            while True:
                kind, *arguments = pickle.loads(pipe.recv_bytes())
                _answer(pipe, kind, arguments)
        code = 0
    finally:
        # Not sys.exit: what the parent has registered for its end is not this one's to do.
        os._exit(code)


def _settle(head: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != head:
        # It was killed before it could be asked to take this process with it.
        os._exit(1)
    memory.keep_freed()
    torch.set_num_threads(1)


def _answer(pipe: Connection, kind: str, arguments: list[Any]) -> None:
    cpu = torch.device("cpu")
    try:
        if kind == "speed":
            send(pipe, "speed", speed(arguments[0], cpu))
            return
        pack, state, every = arguments
        blocks = _Blocks(pipe, every)
        for item in train_pack(pack, cpu, Resumption(state, blocks.due)):
            blocks.add(item)
        blocks.send()
        send(pipe, "end", None)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        # A user's model may raise anything, even what cannot be sent.
        send(pipe, "error", one_line(error))


class _Blocks:
    """What a training yields, on its way into a pipe.

    Args:
        pipe: Where it goes.
        every: Seconds between two states; None for none.
    """

    def __init__(self, pipe: Connection, every: float | None) -> None:
        self.pipe = pipe
        self.every = every
        self.block: list[Item] = []
        self.sent = self.last_state = time.monotonic()

    def add(self, item: Item) -> None:
        self.block.append(item)
        # It is large, and what another process goes on from should be young.
        if isinstance(item, State):
            self.send()
            self.last_state = time.monotonic()
        else:
            self._send_in_time()

    def due(self) -> bool:
        """Asked after every step: whether a state is due. What has waited goes on its way."""
        self._send_in_time()
        return self.every is not None and time.monotonic() - self.last_state >= self.every

    def send(self) -> None:
        if self.block:
            send(self.pipe, "items", self.block)
        self.block, self.sent = [], time.monotonic()

    def _send_in_time(self) -> None:
        if time.monotonic() - self.sent > SECONDS_BETWEEN_BLOCKS:
            self.send()


def send(pipe: Connection, *content: Any) -> None:
    """Puts copies of these into a pipe."""
    # Not `Connection.send`: torch has that share a tensor's memory, which goes on changing, and
    # leave a folder behind for each process that is killed.
    pipe.send_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
