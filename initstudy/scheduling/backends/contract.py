"""What a backend is: it trains packs somewhere, and tells what happens to them as events.

    submit(packs) ──▶ Started ─▶ Start*, Row*, Checkpointed*, Summary* ─▶ Finished
                         │                                       (or)
                         └──────────────────────────────────────────▶ Lost(reason, blame)

A backend never decides what to do about a loss. The scheduler does, by the blame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

import torch

from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary
from initstudy.training.checkpoints import Partway
from initstudy.training.group import Pack
from initstudy.training.pack import Start

if TYPE_CHECKING:
    from initstudy.scheduling.autotune import Pool
    from initstudy.scheduling.backends.mailbox import Task


class Blame(Enum):
    """Why a pack was lost, as far as that says what helps."""

    NOBODY = auto()
    """Its machine was taken away: pre-empted, or the node failed. Trying again may always help."""
    MACHINE = auto()
    """Its machine lacks something, such as the data. Another attempt may help; halving does not."""
    WORKER = auto()
    """Its process ended without a word. After some attempts the pack is likely the cause."""
    MEMORY = auto()
    """It was killed for want of memory. The same pack would be killed again; half of it may fit."""
    PACK = auto()
    """A run of it raised an error. Halving finds out which one."""


@dataclass(frozen=True)
class Started:
    """A pack begins to train, or goes on.

    Attributes:
        partway: What it goes on from. None if its worker records the results: no row of it comes
            as an event then but the last one that is known, and `Finished` says where the store
            has them.
        steps: The steps that each run had done before, by run id.
        resumed: Whether it goes on from a checkpoint.
    """

    partway: Partway | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    resumed: bool = False


@dataclass(frozen=True)
class Checkpointed:
    """The state of a pack between two steps, from which its training can go on."""

    state: State


@dataclass(frozen=True)
class Finished:
    """A pack has trained to its end.

    Attributes:
        stored: The ids under which the store has it, if its worker has recorded it; more than one
            where the worker had to halve it. None if it is to be recorded from its events.
        failed: Why runs of it failed, by their labels; their failure is recorded.
    """

    stored: tuple[str, ...] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """A pack has ended without a result.

    Attributes:
        reason: What happened, in one line.
        blame: What that says of the next attempt.
    """

    reason: str
    blame: Blame


Event = Started | Start | Row | Summary | Checkpointed | Finished | Lost


class RefusedError(Exception):
    """A backend does not take packs now; the message says why, in one line."""


class Backend(Protocol):
    """Where packs train.

    Attributes:
        name: The name that the configuration gives it.
        device: The device for which packs are sized.
        workers: How many packs train side by side, as far as this machine knows. It can be set
            until the first pack is submitted, if there are `trials`.
        outlives_coordinator: Whether packs go on when this process has ended.
    """

    name: str
    device: torch.device
    workers: int
    outlives_coordinator: bool

    @property
    def trials(self) -> Pool | None:
        """Processes with which a number of workers can be tried.

        None if that number is settled, or if other machines train.
        """
        ...

    @property
    def hardware(self) -> str:
        """What trains, for the description of the study."""
        ...

    @property
    def free(self) -> int:
        """How many packs one submission may hold now; 0 while no worker is free."""
        ...

    def submit(self, packs: Sequence[Pack]) -> list[str]:
        """Hands packs over, at most `free` of them.

        Returns:
            The names of the jobs that train them.

        Raises:
            RefusedError: The backend takes none of them.
            ConfigError: It cannot be reached.
        """
        ...

    def adopt(self, task: Task) -> bool:
        """Whether a pack that an earlier coordinator submitted is still here; then events tell.

        Raises:
            ConfigError: The backend does not say.
        """
        ...

    def events(self, timeout: float) -> Iterator[tuple[str, Event]]:
        """What has happened, as ids of packs and events; waits so many seconds for the first.

        An event counts as handled as soon as the next one is asked for.
        """
        ...

    def cancel(self, pack: Pack) -> None:
        """Makes sure that a pack does not train on, here or later."""
        ...

    def close(self) -> None:
        """Leaves nothing behind but jobs that outlive the coordinator."""
        ...
