"""`executor=local` with workers: processes of this machine, each on a device of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

from initstudy.scheduling.backends.contract import End

SECONDS_TO_LEAVE = 5.0


class _Worker:
    """A process, and the job that it has."""

    def __init__(self, directory: Path, device: str) -> None:
        # A fresh interpreter: CUDA does not survive a fork.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "initstudy.scheduling.backends.worker", str(directory), device],
            stdin=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.job: str | None = None

    def take(self, job: str, pack: str) -> None:
        assert self.process.stdin
        self.job = job
        # One that is dead already is found so at the next look.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{pack}\n")
            self.process.stdin.flush()

    def leave(self) -> None:
        """Ends the process, at once: it stops where its input does."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Processes:
    """Worker processes that die with the head.

    Args:
        devices: One a worker.
        retries: Attempts at a pack after the first one was lost.
    """

    name = "local"
    outlives_head = False
    seconds = 0.05
    packs_per_job = 1
    jobs_at_once = sys.maxsize

    def __init__(self, devices: Sequence[str], retries: int) -> None:
        self.devices = devices
        self.retries = retries
        self.workers: dict[int, _Worker] = {}
        self.queue: deque[tuple[str, str]] = deque()
        self.submitted = 0
        self.directory = Path()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers.values():
            worker.leave()

    def submit(self, directory: Path, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Queues the packs; each goes to the next worker that has nothing to do."""
        self.directory = directory
        ids = [str(self.submitted + place) for place in range(len(groups))]
        self.submitted += len(groups)
        self.queue.extend((job, pack) for job, (pack,) in zip(ids, groups, strict=True))
        self._occupy()
        return ids

    def find(self, name: str, index: int) -> str | None:
        """None: a worker does not outlive its head."""
        return None

    def ended(self, jobs: Collection[str]) -> dict[str, End]:
        """The jobs of workers that died; the others take up what is queued."""
        dead: dict[str, End] = {}
        for place, worker in list(self.workers.items()):
            code = worker.process.poll()
            if code is not None:
                del self.workers[place]
                assert worker.process.stdin
                with contextlib.suppress(BrokenPipeError):
                    worker.process.stdin.close()
                if worker.job is not None:
                    how = f"signal {-code}" if code < 0 else f"code {code}"
                    dead[worker.job] = End(f"its process ended by {how}")
            elif worker.job not in jobs:
                worker.job = None
        self._occupy()
        return dead

    def cancel(self, job: str) -> None:
        """Nothing: a job that is lost is lost with its process."""

    def _occupy(self) -> None:
        for place, device in enumerate(self.devices):
            if not self.queue:
                return
            if place not in self.workers:
                self.workers[place] = _Worker(self.directory, device)
            if self.workers[place].job is None:
                self.workers[place].take(*self.queue.popleft())
