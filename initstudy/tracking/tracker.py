"""The side of the mirror that training sees: calls that never wait and never raise."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from initstudy import store
from initstudy.config import Run
from initstudy.tracking import pending
from initstudy.tracking.pending import Mirrored
from initstudy.tracking.settings import Settings
from initstudy.tracking.study import StudyRecord, study_id
from initstudy.tracking.worker import Worker

Promised = tuple[Run, Mapping[str, Any], Mapping[str, Any]]

# How many rows may wait for wandb. A run whose rows exceed that is sent from the store later.
BACKLOG = 50_000


class Tracker:
    """Mirrors the runs of one study to W&B. A context manager, whose end waits for the rest.

    Trouble with wandb never reaches the training: it is one warning in the log, and what could not
    be sent lies in the store and in files that `wandb sync` sends. An interruption waits for
    nothing; what is missing then is sent when the study goes on.

    Args:
        settings: Where the mirror goes, as `check` returns it.
        directory: The study's directory; files go into its folder `wandb`.
        group: The study's name.
    """

    def __init__(self, settings: Settings, directory: Path, group: str) -> None:
        self.settings = settings
        self.directory = directory
        self.group = group
        self._calls: queue.Queue[tuple[Any, ...] | None] = queue.Queue(BACKLOG)
        # Runs of which rows are missing; later rows must not go ahead of them.
        self._behind: set[str] = set()
        # Packs that an earlier command promised, and that the store has.
        self._taken_up: set[str] = set()
        self._thread: threading.Thread | None = None
        self._worker = Worker(settings, directory, group, self._behind)
        if settings.mode != "off":
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)

    def __enter__(self) -> Tracker:
        if self._thread:
            self._thread.start()
            self._take_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        if self._thread and not interrupted:
            self._calls.put(None)
            self._thread.join()

    @property
    def address(self) -> str | None:
        """The address of the project on the server; None offline, and before it has a run."""
        return self._worker.address

    def start(self, run: str, config: Mapping[str, Any], name: str) -> None:
        """Opens a W&B run.

        Args:
            run: The run's id, so that a rerun continues the same W&B run.
            config: The whole configuration.
            name: The name that people see.
        """
        self._behind.discard(run)
        self._row("start", run, config, name)

    def log(self, run: str, step: int, row: Mapping[str, Any]) -> None:
        """Logs one row; a list is the counts of a histogram, and None is left out."""
        self._row("log", run, step, row)

    def promise(self, pack: str, runs: Sequence[Promised]) -> None:
        """Keeps on disk what W&B is to have of a pack, before the store says that it is complete.

        Args:
            pack: The pack's id in the store.
            runs: Its runs, each with the configuration that W&B shows, and its final values.

        Raises:
            StoreError: The directory cannot be written.
        """
        wanted = self._thread and self.settings.granularity == "run"
        if wanted and pack not in self._taken_up:
            mirrored = [Mirrored(run.id, run.label, config, ends) for run, config, ends in runs]
            pending.write(self.directory, pack, mirrored)

    def finish(self, pack: str) -> None:
        """Sends what W&B lacks of a pack that the store has, with the final values."""
        self._call("finish", pack)

    def discard(self, runs: Sequence[str]) -> None:
        """Forgets runs that did not train to their end, except for rows that a server has."""
        for run in runs:
            self._row("discard", run)

    def study(self, record: StudyRecord) -> None:
        """Logs the study as a whole, as one more run of job type "study"."""
        self._call("study", study_id(self.group), record)

    def _take_up(self) -> None:
        """Sends what an earlier command has promised, if the store has it."""
        promised = pending.packs(self.directory)
        stored = store.packs(self.directory) if promised else {}
        for pack in promised:
            if pack in stored:
                self._taken_up.add(pack)
                self._call("finish", pack)
            else:
                # It will train again, and be promised again.
                pending.remove(self.directory, pack)

    def _row(self, method: str, run: str, *args: Any) -> None:
        wanted = self.settings.mode == "online" and self.settings.granularity == "run"
        if wanted and run not in self._behind and not self._call(method, run, *args):
            self._behind.add(run)

    def _call(self, *call: Any) -> bool:
        """Hands a call to the thread; False if too many wait there already."""
        if self._thread:
            try:
                self._calls.put_nowait(call)
            except queue.Full:
                return False
        return True

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._worker.do(*call)
        self._worker.close()
