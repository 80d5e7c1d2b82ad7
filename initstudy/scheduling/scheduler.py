"""Trains packs on a backend. This alone decides what happens to a pack that is lost."""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence

from initstudy.config import ConfigError
from initstudy.runtime import signals
from initstudy.scheduling.backends.contract import (
    Backend,
    Blame,
    Event,
    Finished,
    Lost,
    RefusedError,
    Started,
)
from initstudy.scheduling.packing import halves
from initstudy.scheduling.recorder import Recorder
from initstudy.training.group import Pack

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 1.0


class Scheduler:
    """Packs on their way through a backend.

    | blame of the loss   | what happens to the pack                                        |
    | ------------------- | --------------------------------------------------------------- |
    | NOBODY              | It is submitted again, from its checkpoint, any number of times |
    | MACHINE, WORKER     | The same, `retries` times                                       |
    | MACHINE, after that | Its runs have failed                                            |
    | WORKER, after that  | As PACK; its runs have failed if it never started               |
    | PACK                | Begun anew if it went on from a checkpoint, else as MEMORY      |
    | MEMORY              | Halved, until it is one run; that one has failed                |

    A run that fails is recorded with the reason, and the others go on.

    Args:
        backend: Where packs train.
        recorder: Writes down what happens.
        retries: How often a pack is submitted again that was lost with its worker or machine.
    """

    def __init__(self, backend: Backend, recorder: Recorder, retries: int = 0) -> None:
        self.backend = backend
        self.recorder = recorder
        self.retries = retries
        self.waiting: deque[Pack] = deque()
        self.running: dict[str, Pack] = {}
        self.failed: dict[str, str] = {}
        # Of the current attempt at a pack, and of all attempts so far.
        self._started: set[str] = set()
        self._resumed: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._full_at = sys.maxsize

    def run(
        self,
        packs: Sequence[Pack],
        *,
        under_way: Sequence[Pack] = (),
        results: Iterable[tuple[str, Finished]] = (),
    ) -> dict[str, str]:
        """Trains packs.

        Args:
            packs: The packs to submit.
            under_way: The packs that an earlier command has submitted.
            results: How those of them ended that are done, by the ids of the packs. The backend
                has adopted the others.

        Returns:
            Why runs failed, by their labels.

        Raises:
            StoreError: The directory of the study cannot be written.
            ConfigError: The backend takes no pack; nothing has trained.
        """
        self.waiting.extend(packs)
        self.running |= {pack.id: pack for pack in under_way}
        if under_way:
            line = f"found {_count(under_way)} that an earlier command has submitted"
            self.recorder.progress.say(line)
        for pack_id, result in results:
            self._hear(self.running[pack_id], result)
        try:
            while self.waiting or self.running:
                self._submit()
                for pack_id, event in self.backend.events(SECONDS_BETWEEN_LOOKS):
                    # A loss that a signal has caused is no reason to give up a checkpoint.
                    signals.heed()
                    self._hear(self.running[pack_id], event)
        except KeyboardInterrupt:
            if self.backend.outlives_coordinator and self.running:
                log.warning("%s stay with %s", _count(self.running), self.backend.name)
            raise
        return self.failed

    def _submit(self) -> None:
        """Submits what waits; what is refused waits until one of the others has ended."""
        while self.waiting and len(self.running) < self._full_at and self.backend.free:
            count = min(self.backend.free, len(self.waiting))
            packs = [self.waiting.popleft() for _ in range(count)]
            try:
                jobs = self.backend.submit(packs)
            except RefusedError as error:
                self.waiting.extendleft(reversed(packs))
                if not self.running:
                    raise ConfigError(str(error)) from error
                log.warning("%s; %s wait", error, _count(self.waiting))
                self._full_at = len(self.running)
                return
            self.running |= {pack.id: pack for pack in packs}
            self._full_at = sys.maxsize
            if self.backend.outlives_coordinator:
                span = jobs[0] if len(jobs) == 1 else f"{jobs[0]} to {jobs[-1]}"
                self.recorder.progress.say(
                    f"submitted {_count(packs)} to {self.backend.name}: {span}"
                )

    def _hear(self, pack: Pack, event: Event) -> None:
        self.recorder.record(pack, event)
        match event:
            case Started():
                self._started.add(pack.id)
                if event.resumed:
                    self._resumed.add(pack.id)
            case Finished():
                self.failed |= event.failed
                self._end(pack)
            case Lost():
                self._lose(pack, event)

    def _lose(self, pack: Pack, lost: Lost) -> None:
        started, resumed = pack.id in self._started, pack.id in self._resumed
        self._end(pack)
        self.backend.cancel(pack)
        self._losses[pack.id] += lost.blame in (Blame.MACHINE, Blame.WORKER)
        match lost.blame:
            case Blame.NOBODY:
                self._submit_again(pack, lost.reason)
            case Blame.MACHINE | Blame.WORKER if self._losses[pack.id] <= self.retries:
                self._submit_again(pack, lost.reason)
            case Blame.MACHINE:
                self._fail(pack, lost.reason)
            case Blame.WORKER if not started:
                self._fail(pack, lost.reason)
            case Blame.MEMORY:
                self._halve(pack, lost.reason)
            case _ if resumed:
                log.warning("%s; its pack begins anew, without its checkpoint", lost.reason)
                self.recorder.remove_checkpoint(pack)
                self.waiting.appendleft(pack)
            case _:
                self._halve(pack, lost.reason)

    def _submit_again(self, pack: Pack, reason: str) -> None:
        log.warning("%s; its pack is submitted again", reason)
        self.waiting.appendleft(pack)

    def _halve(self, pack: Pack, reason: str) -> None:
        """Splits a pack in two, or records its only run as failed."""
        self.recorder.remove_checkpoint(pack)
        if len(pack.runs) == 1:
            self._fail(pack, reason)
            return
        log.warning("%d runs could not train together (%s); halved", len(pack.runs), reason)
        self.waiting.extendleft(reversed(halves(pack)))

    def _fail(self, pack: Pack, reason: str) -> None:
        for run in pack.runs:
            self.failed[run.label] = reason
            self.recorder.fail(run, reason)

    def _end(self, pack: Pack) -> None:
        self.running.pop(pack.id, None)
        self._started.discard(pack.id)
        self._resumed.discard(pack.id)


def _count(packs: Collection[object]) -> str:
    return f"{len(packs)} pack{'s' if len(packs) > 1 else ''}"
