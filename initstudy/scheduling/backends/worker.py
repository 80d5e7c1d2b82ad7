"""The process that trains: one pack as events, and the life of a process of the pool."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection

import torch

from initstudy.engine.stack import Tensors
from initstudy.engine.state import State
from initstudy.engine.train import Summary
from initstudy.runtime import memory
from initstudy.scheduling.backends.contract import Blame, Checkpointed, Event, Finished, Lost
from initstudy.scheduling.backends.pipe import (
    Answer,
    Request,
    Speed,
    Trial,
    receive_request,
    send,
)
from initstudy.training.group import Pack, group_of
from initstudy.training.pack import Resumption, Start, speed, train_pack
from initstudy.training.precision import arithmetic

SECONDS_BETWEEN_BLOCKS = 0.2
# prctl(2).
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Setting:
    """What a worker process needs to know besides its packs.

    Attributes:
        device: The device on which it trains.
        threads: The threads of torch on a CPU; None leaves their number to torch.
        folder: Where the command was given: relative paths and users' modules start there.
    """

    device: str
    threads: int | None
    folder: str


def train(
    pack: Pack,
    device: torch.device,
    state: State | None,
    every: float | None,
    after_step: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """Trains a pack in this process; ends with `Finished`, or with `Lost` if a run raises.

    Args:
        pack: The pack.
        device: The device on which to train.
        state: The state to go on from; None to begin.
        every: The seconds between two checkpoints; None for none.
        after_step: Called after every step.
    """
    last = time.monotonic()

    def due() -> bool:
        after_step()
        return every is not None and time.monotonic() - last >= every

    end: Event = Finished()
    try:
        for item in train_pack(pack, device, Resumption(state, due)):
            if isinstance(item, State):
                yield Checkpointed(replace(item, tensors=_on_host(item.tensors)))
                last = time.monotonic()
            elif isinstance(item, Start):
                yield replace(item, weights=_on_host(item.weights))
            elif isinstance(item, Summary):
                weights = None if item.weights is None else _on_host(item.weights)
                yield replace(
                    item, values={**item.values, **_arithmetic(pack, device)}, weights=weights
                )
            else:
                yield item
    except Exception as error:
        # A user's model may raise anything.
        end = Lost(_one_line(error), Blame.PACK)
    # What a pack held, above all one that did not fit, may hang in cycles of references.
    gc.collect()
    yield end


def serve(connection: Connection, setting: Setting, inherited: Sequence[Connection]) -> None:
    """The life of a worker process: answers requests until the coordinator is gone.

    Args:
        connection: The worker's end of the pipe.
        setting: What it needs to know.
        inherited: Ends of pipes that a fork has without being meant to. While one of them is open
            here, the worker at the other end does not see that the coordinator has closed it.
    """
    for other in inherited:
        other.close()
    _settle(setting)
    device = torch.device(setting.device)
    with suppress(EOFError, OSError):
        while True:
            request = receive_request(connection)
            try:
                group = group_of(request.group, request.runs, device)
            except Exception as error:
                # A user's model may raise anything, even what cannot be sent.
                send(connection, [Lost(_one_line(error), Blame.PACK)])
                continue
            _answer(connection, request, Pack(group, request.runs), device)


def _settle(setting: Setting) -> None:
    # Ctrl-C reaches all processes of a terminal; the coordinator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    _end_with_coordinator()
    os.chdir(setting.folder)
    if setting.folder not in sys.path:
        sys.path.insert(0, setting.folder)
    memory.keep_freed()
    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    # What is imported stays: collections need not look through it. In a fork the collector is as
    # the coordinator had it, which is off while it starts.
    gc.freeze()
    gc.enable()


def _end_with_coordinator() -> None:
    """Has this process killed when the coordinator ends, even in the middle of a long step."""
    coordinator = parent_process()
    assert coordinator is not None

    def watch() -> None:
        coordinator.join()
        os._exit(1)

    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        # Only Linux has it.
        threading.Thread(target=watch, name="coordinator", daemon=True).start()
    if os.getppid() != coordinator.pid:
        # It was killed before it could be asked to take this process with it.
        os._exit(1)


def _answer(connection: Connection, request: Request, pack: Pack, device: torch.device) -> None:
    if isinstance(request, Trial):
        send(connection, _measured(pack, device))
        return
    blocks = _Blocks(connection)
    for event in train(pack, device, request.state, request.every, blocks.send_in_time):
        blocks.add(event)
    blocks.send()


def _measured(pack: Pack, device: torch.device) -> Answer:
    try:
        return Speed(speed(pack, device))
    except Exception as error:
        # Where there is not memory enough, for example.
        return [Lost(_one_line(error), Blame.PACK)]


class _Blocks:
    """Events on their way into a pipe: a few messages per second, however fast a step is."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.block: list[Event] = []
        self.sent = time.monotonic()

    def add(self, event: Event) -> None:
        self.block.append(event)
        # A state is large, and what another process goes on from should be young.
        if isinstance(event, Checkpointed):
            self.send()
        else:
            self.send_in_time()

    def send(self) -> None:
        if self.block:
            send(self.connection, self.block)
        self.block, self.sent = [], time.monotonic()

    def send_in_time(self) -> None:
        if time.monotonic() - self.sent > SECONDS_BETWEEN_BLOCKS:
            self.send()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _on_host(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _arithmetic(pack: Pack, device: torch.device) -> dict[str, str]:
    """What the last digits of a run's results depend on."""
    precision = arithmetic(pack.group.config.precision, device)
    return {"device": str(device), "torch": torch.__version__, "float32_precision": precision}
