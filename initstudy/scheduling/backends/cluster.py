"""What the backends of a cluster share: packs go to jobs, and the mailbox tells what happens."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from initstudy.config import ConfigError, Plain
from initstudy.engine.train import Row
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.contract import (
    Blame,
    Event,
    Finished,
    Lost,
    RefusedError,
    Started,
)
from initstudy.scheduling.backends.mailbox import Submission, Task
from initstudy.training.group import Pack

SECONDS_BETWEEN_READINGS = 2.0
# A shared directory may show a file to another machine only this much later (NFS: acdirmin).
SECONDS_UNTIL_SEEN = 30.0


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        reason: What happened, in words that follow "job NAME: ".
        blame: What that says of a pack that it leaves behind.
        patience: The seconds that a result may still take until this machine sees it.
    """

    reason: str
    blame: Blame = Blame.WORKER
    patience: float = 0.0


@dataclass
class _Held:
    """A pack that a job has.

    Attributes:
        task: The pack, as it was handed over.
        submission: Its job.
        adopted: Whether an earlier coordinator submitted it, and nothing was read of it yet.
        times: How often it had started when its progress was last read.
        steps: The steps that were last told of, by run id.
        ended: When its job was first seen to have ended; None while it goes on.
    """

    task: Task
    submission: Submission
    adopted: bool = False
    times: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    ended: float | None = None


class Cluster(ABC):
    """A backend whose packs are trained by jobs, which may run on other machines.

    Jobs record results themselves, in the store of the study, which they see as this process does.

    Args:
        config: The configuration of the study.
        directory: The directory of the study.

    Attributes:
        seconds: Seconds between two looks at the jobs.
        packs_per_job: How many packs one job trains, one after another.
        jobs_at_once: How many jobs one submission may hold.
    """

    name: str
    outlives_coordinator: bool
    seconds: float
    packs_per_job: int
    jobs_at_once: int
    # How many jobs run at a time is for the cluster to decide.
    workers = 1
    trials = None

    def __init__(self, config: Plain, directory: Path) -> None:
        section = config["executor"]
        # Nodes have what their jobs ask for; this machine need not have it.
        asked = config["device"]
        if asked == "auto":
            asked = "cuda" if section["gpus"] else "cpu"
        self.device = torch.device("cuda" if asked.startswith("cuda") else "cpu")
        self.directory = directory
        self._task = Task("", (), asked, str(Path.cwd()), max(1, int(section["cpus"])))
        self._held: dict[str, _Held] = {}
        self._read = 0.0

    def __str__(self) -> str:
        return self.name

    @property
    def hardware(self) -> str:
        """The name of the backend, and the kind of device that its jobs ask for."""
        return f"{self.name}, {self.device}"

    @property
    def free(self) -> int:
        """What one submission may hold."""
        return self.packs_per_job * self.jobs_at_once

    @abstractmethod
    def start_jobs(self, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Submits a job for each group of pack ids, all under one name; gives the jobs' ids.

        Raises:
            RefusedError: The backend does not take them, or not so many.
            ConfigError: It cannot be reached.
        """

    @abstractmethod
    def find_job(self, name: str, index: int) -> str | None:
        """The job at an index of a submission whose answer was never recorded; None if none.

        Raises:
            RefusedError: The backend does not say.
        """

    @abstractmethod
    def ended_jobs(self, jobs: Collection[str]) -> dict[str, JobEnd]:
        """Those of the jobs that neither wait nor run, and how they ended."""

    @abstractmethod
    def cancel_job(self, job: str) -> None:
        """Makes sure that a job does not come back."""

    def submit(self, packs: Sequence[Pack]) -> list[str]:
        """Submits jobs, as many packs to each as the configuration says.

        Raises:
            RefusedError: The cluster takes none of them.
            ConfigError: It cannot be reached.
            StoreError: The directory of the study cannot be written.
        """
        size = self.packs_per_job
        groups = [packs[i : i + size] for i in range(0, len(packs), size)]
        name = f"initstudy-{uuid.uuid4().hex[:12]}"
        for index, group in enumerate(groups):
            for pack in group:
                submission = Submission(self.name, self.outlives_coordinator, name, index)
                mailbox.clear(self.directory, pack.id)
                task = replace(self._task, pack=pack.id, runs=pack.runs)
                mailbox.write_task(self.directory, task)
                # Before the jobs are, so that no kill in between can lose them.
                self._record(task, submission)
        try:
            jobs = self.start_jobs([[pack.id for pack in group] for group in groups], name)
        except (RefusedError, ConfigError):
            for pack in packs:
                self._forget(pack.id)
            raise
        for job, group in zip(jobs, groups, strict=True):
            for pack in group:
                held = self._held[pack.id]
                self._record(held.task, replace(held.submission, job=job))
        return jobs

    def adopt(self, task: Task) -> bool:
        """Whether a job that an earlier coordinator submitted still has the pack.

        Raises:
            ConfigError: The cluster does not say.
        """
        submission = mailbox.read_submission(self.directory, task.pack)
        if submission is None or not self.outlives_coordinator:
            return False
        if submission.job is None:
            try:
                job = self.find_job(submission.name, submission.index)
            except RefusedError as error:
                raise ConfigError(str(error)) from error
            if job is None:
                return False
            submission = replace(submission, job=job)
        self._record(task, submission)
        self._held[task.pack].adopted = True
        return True

    def events(self, timeout: float) -> Iterator[tuple[str, Event]]:
        """What the mailbox and the cluster tell, and then a pause.

        What a job has written is removed when the event that it made has been handled, so that a
        kill in between loses nothing.
        """
        status = mailbox.list_status(self.directory)
        if time.monotonic() - self._read >= SECONDS_BETWEEN_READINGS:
            self._read = time.monotonic()
            for pack_id in status.started & self._held.keys():
                yield from self._progress(self._held[pack_id])
        for pack_id in status.done & self._held.keys():
            yield from self._done(self._held[pack_id])
        yield from self._lost()
        if self._held:
            time.sleep(min(timeout, self.seconds))

    def cancel(self, pack: Pack) -> None:
        """Forgets the pack, and cancels its job if that was the last one."""
        held = self._held.pop(pack.id, None)
        mailbox.forget(self.directory, pack.id)
        if held is not None and held.submission.job is not None:
            job = held.submission.job
            if all(other.submission.job != job for other in self._held.values()):
                self.cancel_job(job)

    @abstractmethod
    def close(self) -> None:
        """Leaves nothing behind but jobs that outlive the coordinator."""

    def _record(self, task: Task, submission: Submission) -> None:
        mailbox.write_submission(self.directory, task.pack, submission)
        self._held[task.pack] = _Held(task, submission)

    def _forget(self, pack: str) -> None:
        self._held.pop(pack, None)
        mailbox.forget(self.directory, pack)

    def _progress(self, held: _Held) -> Iterator[tuple[str, Event]]:
        progress = mailbox.read_progress(self.directory, held.task.pack)
        if progress.times != held.times:
            # What an adopted pack has trained before says nothing of the speed from now on.
            steps = progress.steps if held.adopted else progress.resumed
            held.times, held.adopted, held.steps = progress.times, False, dict(steps)
            yield held.task.pack, Started(None, steps, resumed=bool(progress.resumed))
        for member, run in enumerate(held.task.runs):
            step = progress.steps.get(run.id)
            if step is not None and step != held.steps.get(run.id):
                held.steps[run.id] = step
                yield held.task.pack, Row(member, step, {"train/loss": progress.losses.get(run.id)})

    def _done(self, held: _Held) -> Iterator[tuple[str, Event]]:
        done = mailbox.read_done(self.directory, held.task.pack)
        if done is None:
            return
        if done.error is not None:
            reason = f"{self.name} job {held.submission.job}: {done.error}"
            yield held.task.pack, Lost(reason, Blame.MACHINE)
            return
        yield from self._progress(held)
        yield held.task.pack, Finished(done.stored, done.failed)
        self._forget(held.task.pack)

    def _lost(self) -> Iterator[tuple[str, Event]]:
        jobs = (held.submission.job for held in self._held.values())
        ended = self.ended_jobs({job for job in jobs if job is not None})
        now = time.monotonic()
        lost = []
        for held in self._held.values():
            end = ended.get(held.submission.job or "")
            if end is None:
                held.ended = None
                continue
            held.ended = now if held.ended is None else held.ended
            # It may have been written after the folder was listed.
            done = mailbox.read_done(self.directory, held.task.pack) is not None
            if not done and now - held.ended >= end.patience:
                lost.append((held, end))
        for held, _ in lost:
            yield from self._progress(held)
        for held, end in lost:
            reason = f"{self.name} job {held.submission.job}: {end.reason}"
            yield held.task.pack, Lost(reason, self._blame(held, end, [other for other, _ in lost]))

    def _blame(self, held: _Held, end: JobEnd, lost: Sequence[_Held]) -> Blame:
        """A pack that waited behind another one of its job has no part in how that ended."""
        ahead = (h for h in lost if h.submission == held.submission and h.times)
        return end.blame if held.times or not any(ahead) else Blame.NOBODY
