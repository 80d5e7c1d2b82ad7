"""What a place where packs are trained has to offer, when it is not the head's own process."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

# A shared directory may show a file to another machine only this much later (NFS: acdirmin).
SECONDS_TO_BE_SEEN = 30.0


@dataclass(frozen=True)
class End:
    """How a job ended.

    Attributes:
        reason: In words.
        verdict: What to do where it leaves a pack behind. "again": the machine went away, and any
            number of times is no fault of the pack's. "count": so many attempts, then halves.
            "halve": the same once more would end the same way.
        patience: Seconds that a result may still take to be seen on this machine.
    """

    reason: str
    verdict: Literal["again", "count", "halve"] = "count"
    patience: float = 0.0


class RefusedError(Exception):
    """An executor does not take jobs now; the message says why, in one line."""


class Executor(Protocol):
    """Where packs are trained, when it is not the head's own process.

    Attributes:
        name: As in the configuration.
        outlives_head: Whether its jobs go on when the head ends.
        seconds: Between two looks at its jobs.
        packs_per_job: How many packs one job trains, one after another.
        jobs_at_once: How many jobs one submission may hold.
        retries: Attempts at a pack after the first one was lost.
    """

    name: str
    outlives_head: bool
    seconds: float
    packs_per_job: int
    jobs_at_once: int
    retries: int

    def __enter__(self) -> Executor:
        """Ready to submit to."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves nothing behind but jobs that outlive the head."""

    def submit(self, directory: Path, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Submits a job for each group of packs, under one name; gives their ids.

        Raises:
            RefusedError: It does not take them, or not so many.
        """
        ...

    def find(self, name: str, index: int) -> str | None:
        """The job of that place in a submission whose answer was never recorded.

        Raises:
            RefusedError: It does not say.
        """
        ...

    def ended(self, jobs: Collection[str]) -> dict[str, End]:
        """Those of the jobs that neither wait nor run, and how they ended."""
        ...

    def cancel(self, job: str) -> None:
        """Makes sure that a job does not come back."""
