"""What the coordinator and a worker process of its own say to each other through a pipe.

This is the only place that pickles. Both ends are one program, started by one command, and the
pipe has no name that another process could open.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection

from initstudy.config import Run
from initstudy.engine.state import State
from initstudy.scheduling.backends.contract import Event


@dataclass(frozen=True)
class Training:
    """A request: train a pack. Blocks of events answer it; the last is Finished or Lost.

    Attributes:
        pack: The id of the pack.
        group: The key of its group. Data and model never go through a pipe.
        runs: Its runs.
        state: The state to go on from; None to begin.
        every: The seconds between two checkpoints; None for none.
    """

    pack: str
    group: str
    runs: tuple[Run, ...]
    state: State | None
    every: float | None


@dataclass(frozen=True)
class Trial:
    """A request: measure the speed of a pack. A `Speed` answers it, or a block with a Lost.

    Attributes:
        group: The key of the group of the pack.
        runs: The runs of the pack.
    """

    group: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Speed:
    """The answer to a trial.

    Attributes:
        member_steps: Steps per second, summed over the members of the pack.
    """

    member_steps: float


Request = Training | Trial
Answer = list[Event] | Speed


def send(connection: Connection, message: Request | Answer) -> None:
    """Puts a copy of a message into a pipe.

    Raises:
        OSError: The other end is gone.
    """
    # Not `Connection.send`: torch has registered reductions for it by which a tensor shares its
    # memory, so that it would go on changing on the other side, and each process that is killed
    # would leave a folder behind (https://docs.pytorch.org/docs/stable/multiprocessing.html).
    connection.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def receive_request(connection: Connection) -> Request:
    """The next request, in a worker.

    Raises:
        EOFError, OSError: The coordinator is gone.
    """
    return pickle.loads(connection.recv_bytes())


def receive_answer(connection: Connection) -> Answer:
    """The next answer, in the coordinator.

    Raises:
        EOFError, OSError: The worker is gone.
    """
    return pickle.loads(connection.recv_bytes())
