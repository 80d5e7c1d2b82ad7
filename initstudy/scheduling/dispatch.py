"""The head of a sweep whose packs others train: submits them and takes in their results."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from initstudy import store
from initstudy.config import ConfigError
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.backends.contract import End, Executor, RefusedError
from initstudy.scheduling.execute import Tracker
from initstudy.scheduling.mirror import mirror
from initstudy.scheduling.packing import halves
from initstudy.scheduling.progress import Progress
from initstudy.training import checkpoints
from initstudy.training.group import Pack

log = logging.getLogger(__name__)
SECONDS_BETWEEN_SIGNS = 2.0


class Dispatch:
    """One sweep's packs on their way through an executor.

    Args:
        directory: Of the sweep.
        executor: Where they are trained.
        task: What is the same for all packs: device, folder and threads.
        tracker: Where the rows of finished packs are mirrored to.
        progress: Told of every step that is heard of.
    """

    def __init__(
        self,
        directory: Path,
        executor: Executor,
        task: jobs.Task,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self.directory = directory
        self.executor = executor
        self.task = task
        self.tracker = tracker
        self.progress = progress
        self.waiting: list[Pack] = []
        self.attempts: dict[str, int] = {}
        self.out: dict[str, tuple[Pack, jobs.Submission]] = {}
        self.failed: dict[str, str] = {}
        self.ended_since: dict[str, float] = {}
        # Packs of an earlier head, and how often the pack of a run had begun when it was heard of.
        self.adopted: set[str] = set()
        self.times_heard: dict[str, int] = {}
        self.last_signs = 0.0
        self.full_at = sys.maxsize

    def train(self, packs: Sequence[Pack]) -> dict[str, str]:
        """Trains packs, those that an earlier head has submitted among them.

        A job that ends without its packs is submitted again; a pack that is lost with every job
        that begins it is halved, until what is left is the run at fault. That one is recorded as
        failed, and the rest goes on.

        Returns:
            Why runs failed, by their labels.

        Raises:
            StoreError: The directory cannot be written.
            ConfigError: The executor does not take the jobs; nothing has trained.
        """
        try:
            self._adopt(packs)
            while self.waiting or self.out:
                self._submit()
                begun, done = jobs.heard(self.directory)
                self._take_in(done)
                self._hear(begun)
                self._look_for_lost(done)
                if self.waiting or self.out:
                    time.sleep(self.executor.seconds)
        except KeyboardInterrupt:
            if self.executor.outlives_head and self.out:
                log.warning("%s stay with %s", _count(self.out), self.executor.name)
            raise
        return self.failed

    def _adopt(self, packs: Sequence[Pack]) -> None:
        """Finds what an earlier head has submitted; the rest waits."""
        for pack in packs:
            submission = jobs.read_submission(self.directory, pack.id)
            if submission and submission.job is None and self.executor.outlives_head:
                try:
                    job = self.executor.find(submission.name, submission.index)
                except RefusedError as error:
                    raise ConfigError(str(error)) from error
                submission = replace(submission, job=job)
                jobs.write_submission(self.directory, pack.id, submission)
            done = jobs.read_done(self.directory, pack.id) is not None
            goes_on = submission and submission.job and self.executor.outlives_head
            if submission and (goes_on or done):
                self.out[pack.id] = (pack, submission)
                self.adopted.add(pack.id)
            else:
                self.waiting.append(pack)
        if self.out:
            self._say(f"found {_count(self.out)} that an earlier command has submitted")

    def _submit(self) -> None:
        """Submits what waits. What is refused waits until some of the others are through."""
        if len(self.out) >= self.full_at:
            return
        size = self.executor.packs_per_job
        at_once = size * self.executor.jobs_at_once
        while self.waiting:
            packs = self.waiting[:at_once]
            try:
                self._submit_together([packs[i : i + size] for i in range(0, len(packs), size)])
            except RefusedError as error:
                for pack in packs:
                    del self.out[pack.id]
                    jobs.forget(self.directory, pack.id)
                if not self.out:
                    raise ConfigError(str(error)) from error
                log.warning("%s; %s wait", error, _count(self.waiting))
                self.full_at = len(self.out)
                return
            self.waiting = self.waiting[at_once:]
        self.full_at = sys.maxsize

    def _submit_together(self, groups: Sequence[Sequence[Pack]]) -> None:
        name = f"initstudy-{uuid.uuid4().hex[:12]}"
        for index, group in enumerate(groups):
            for pack in group:
                attempt = self.attempts.get(pack.id, 0)
                submission = jobs.Submission(self.executor.name, name, index, None, attempt)
                jobs.clear_signs(self.directory, pack.id)
                jobs.write_task(self.directory, replace(self.task, pack=pack.id, runs=pack.runs))
                jobs.write_submission(self.directory, pack.id, submission)
                self.out[pack.id] = (pack, submission)
        ids = self.executor.submit(
            self.directory.absolute(), [[pack.id for pack in group] for group in groups], name
        )
        for job, group in zip(ids, groups, strict=True):
            for pack in group:
                submission = replace(self.out[pack.id][1], job=job)
                jobs.write_submission(self.directory, pack.id, submission)
                self.out[pack.id] = (pack, submission)
        if self.executor.outlives_head:
            span = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
            packs = _count([pack for group in groups for pack in group])
            self._say(f"submitted {packs} to {self.executor.name}: {span}")

    def _take_in(self, done: Collection[str]) -> None:
        for pack_id in [pack_id for pack_id in self.out if pack_id in done]:
            found = jobs.read_done(self.directory, pack_id)
            if found is None:
                continue
            pack, _ = self.out[pack_id]
            if found.error is not None:
                self._lose(pack, End(found.error), may_halve=False)
                continue
            del self.out[pack_id]
            adopted = pack_id in self.adopted
            self.failed |= take_in(
                self.directory, pack, self.tracker, self.progress, before=adopted
            )

    def _hear(self, begun: Collection[str]) -> None:
        if time.monotonic() - self.last_signs < SECONDS_BETWEEN_SIGNS:
            return
        self.last_signs = time.monotonic()
        for pack_id in begun & self.out.keys():
            self.progress.begin(pack_id)
            sign = jobs.read_begun(self.directory, pack_id)
            for run, step in sign.steps.items():
                if self.times_heard.get(run) != sign.times:
                    self.times_heard[run] = sign.times
                    # What was trained before this head began says nothing of the speed.
                    before = step if pack_id in self.adopted else sign.resumed.get(run, 0)
                    self.progress.resume(run, before)
                self.progress.step(run, step, sign.losses.get(run))
            self.adopted.discard(pack_id)

    def _look_for_lost(self, done: Collection[str]) -> None:
        held = {s.job for _, s in self.out.values() if s.job is not None}
        ended = self.executor.ended(held)
        now = time.monotonic()
        for pack_id, (pack, submission) in list(self.out.items()):
            end = ended.get(submission.job or "")
            if end is None or pack_id in done:
                self.ended_since.pop(pack_id, None)
            elif now - self.ended_since.setdefault(pack_id, now) < end.patience:
                continue
            # Both may have been written after the directory was looked at.
            elif jobs.read_done(self.directory, pack_id) is None:
                began = jobs.read_begun(self.directory, pack_id).times > 0
                self._lose(pack, end, may_halve=began)

    def _lose(self, pack: Pack, end: End, *, may_halve: bool) -> None:
        """A pack has no result and its job is gone."""
        _, submission = self.out.pop(pack.id)
        self.ended_since.pop(pack.id, None)
        self.adopted.discard(pack.id)
        self.progress.end(pack.id)
        for run in pack.runs:
            self.times_heard.pop(run.id, None)
        if submission.job is not None:
            self.executor.cancel(submission.job)
        where = f"{submission.executor} job {submission.job}"
        if end.verdict == "again" or (
            end.verdict == "count" and submission.attempt < self.executor.retries
        ):
            log.warning("%s: %s; its pack is submitted again", where, end.reason)
            self.attempts[pack.id] = submission.attempt + (end.verdict == "count")
            self.waiting.append(pack)
            return
        if may_halve:
            # What kills it may lie in its checkpoint.
            checkpoints.remove(self.directory, pack.id)
        if may_halve and len(pack.runs) > 1:
            log.warning("%s: %s; its %d runs are halved", where, end.reason, len(pack.runs))
            jobs.forget(self.directory, pack.id)
            self.waiting += halves(pack)
        else:
            self._fail(pack, f"{where}: {end.reason}")

    def _fail(self, pack: Pack, reason: str) -> None:
        for run in pack.runs:
            self.failed[run.label] = reason
            store.write_failure(self.directory, run.id, reason, run.config)
            self.progress.finish(run.id, failed=True)
        jobs.forget(self.directory, pack.id)

    def _say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False, soft_wrap=True)


def take_in(
    directory: Path, pack: Pack, tracker: Tracker, progress: Progress, *, before: bool
) -> Mapping[str, str]:
    """Mirrors a pack that is done, and forgets that it was handed over.

    Args:
        directory: Of the sweep.
        pack: The pack.
        tracker: Where its rows go.
        progress: Told that it has ended.
        before: Whether it was trained while nobody watched, and so says nothing of the speed.

    Returns:
        Why runs of it failed, by their labels.
    """
    done = jobs.read_done(directory, pack.id) or jobs.Done()
    mirrored = mirror(directory, pack, tracker)
    for run in pack.runs:
        ends = mirrored.get(run.id)
        if ends is None:
            progress.finish(run.id, failed=True)
            continue
        (progress.resume if before else progress.step)(run.id, ends.step)
        progress.finish(run.id, diverged=ends.diverged)
    progress.end(pack.id)
    jobs.forget(directory, pack.id)
    return done.failed


def _count(packs: Collection[object]) -> str:
    return f"{len(packs)} pack{'s' if len(packs) > 1 else ''}"
