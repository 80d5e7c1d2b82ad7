"""The side of the mirror that talks to wandb, on a thread of its own."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from initstudy import store
from initstudy.columns import HISTOGRAM_EDGES, RUN, STEP, Schema
from initstudy.tracking import offline, pending
from initstudy.tracking.pending import Mirrored
from initstudy.tracking.settings import Settings, agents_sweep
from initstudy.tracking.study import JOB, StudyRecord, log_study

log = logging.getLogger(__name__)

INIT_TIMEOUT = 20.0
FINISH_TIMEOUT = 20.0
FINISHING_AT_ONCE = 64
# Bytes that must be free on the disk after a run was written, for it to count as complete.
LEAST_FREE = 2**20
# How the client's log marks an error that ends an upload.
FATAL = '"level":"ERROR+4"'
KEYS = (RUN.name, STEP.name)


class Worker:
    """Opens, feeds and closes W&B runs, or writes their files. `do` and `close` raise nothing.

    Args:
        settings: Where the mirror goes.
        directory: The study's directory.
        group: The study's name.
        behind: The ids of runs of which rows were not handed over; the tracker adds to it.
    """

    def __init__(
        self, settings: Settings, directory: Path, group: str, behind: Collection[str]
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.group = group
        self.behind = behind
        self.mode = settings.mode
        self.reachable = True
        self.runs: dict[str, Any] = {}
        self.trouble: list[str] = []
        # The runs that have ended, or are about to, with all their rows.
        self.sent: set[str] = set()
        # The address of the project on the server; None before a run was opened there.
        self.address: str | None = None
        self.finishing = _finishing()

    def do(self, method: str, subject: str, *args: Any) -> None:
        """Handles one call of the tracker: start, log, discard, finish or study."""
        try:
            getattr(self, f"_{method}")(subject, *args)
        except Exception as error:
            # Training goes on, whatever wandb does.
            self._note(f"{method} of {subject}", error)

    def close(self) -> None:
        """Sends what is still promised, ends what is still open, and logs what went wrong."""
        self._send_promised()
        for run, opened in self.runs.items():
            # It is still open because its pack did not become complete.
            self.finishing.submit(self._end, run, opened, _nothing)
        self.finishing.shutdown(wait=True)
        if not self.reachable:
            self._into_files()
        if self.trouble:
            more = f" (and {len(self.trouble) - 1} more)" if len(self.trouble) > 1 else ""
            remedy = "the same command sends what is missing"
            if not self.reachable:
                remedy = f"`wandb sync {self.directory}/wandb/offline-run-*` sends what is missing"
            log.warning("W&B: %s%s; %s", self.trouble[0], more, remedy)

    def _send_promised(self) -> None:
        for pack in pending.packs(self.directory):
            self.do("finish", pack)

    def _into_files(self) -> None:
        """Writes what the server did not take as offline runs."""
        import wandb

        # The client's service would keep the id of a run that it could not open.
        wandb.teardown()
        self.mode = "offline"
        self.finishing = _finishing()
        self._send_promised()
        self.finishing.shutdown(wait=True)

    def _start(self, run: str, config: Mapping[str, Any], name: str) -> None:
        if self.reachable:
            self.runs[run] = self._open(run, config, name)

    def _log(self, run: str, step: int, row: Mapping[str, Any]) -> None:
        if run in self.runs:
            _log_row(self.runs[run], step, row)

    def _discard(self, run: str) -> None:
        # At once, because a run that begins anew asks the server how far it has come.
        if run in self.runs:
            self.runs.pop(run).finish()

    def _finish(self, pack: str) -> None:
        """Ends the runs of a pack; what W&B does not have of them comes from the store."""
        promised = pending.read(self.directory, pack)
        stored = store.read_pack(self.directory, pack) if promised else None
        if stored is None:
            return
        _, history = stored
        if self.mode == "offline":
            self._write_offline(pack, promised, history)
            return
        ended = _Countdown(len(promised), lambda: pending.remove(self.directory, pack))
        for mirrored in promised:
            if mirrored.run in self.sent:
                continue
            opened = self._complete(mirrored, history)
            if opened is not None:
                opened.summary.update({k: v for k, v in mirrored.summary.items() if v is not None})
                self.sent.add(mirrored.run)
                # Finishing waits for the upload, so runs finish side by side.
                self.finishing.submit(self._end, mirrored.run, opened, ended)

    def _write_offline(
        self, pack: str, promised: Sequence[Mirrored], history: pl.DataFrame
    ) -> None:
        rows = history.sort("step", maintain_order=True).partition_by("run", as_dict=True)
        to = offline.Destination(self.settings, self.group, self.directory)
        # A server that went away since has some of them.
        missing = [mirrored for mirrored in promised if mirrored.run not in self.sent]
        for mirrored in missing:
            for earlier in self._broken_off.pop(mirrored.run, ()):
                shutil.rmtree(earlier, ignore_errors=True)
            offline.write_run(to, mirrored, rows.get((mirrored.run,), history.clear()))
            self.sent.add(mirrored.run)
        _check_disk(self.directory)
        if len(missing) == len(promised):
            pending.remove(self.directory, pack)

    @cached_property
    def _broken_off(self) -> dict[str, list[Path]]:
        """The folders of offline runs that an earlier command left, by the run's id."""
        folders: dict[str, list[Path]] = {}
        for folder in self.directory.glob("wandb/offline-run-*"):
            folders.setdefault(folder.name.split("-", 3)[-1], []).append(folder)
        return folders

    def _complete(self, mirrored: Mirrored, history: pl.DataFrame) -> Any:
        """A W&B run that has all its rows; None if no server takes them."""
        opened = self.runs.pop(mirrored.run, None)
        if opened is not None:
            if mirrored.run not in self.behind:
                return opened
            opened.finish()
        if not self.reachable:
            return None
        opened = self._open(mirrored.run, mirrored.config, mirrored.name)
        for row in history.filter(run=mirrored.run).iter_rows(named=True):
            _log_row(opened, row[STEP.name], {k: v for k, v in row.items() if k not in KEYS})
        return opened

    def _end(self, run: str, opened: Any, ended: Callable[[], None]) -> None:
        try:
            opened.finish()
            _check_upload(opened)
            _check_disk(self.directory)
            ended()
        except Exception as error:
            self._note(f"finish of {run}", error)

    def _note(self, what: str, error: Exception) -> None:
        self.trouble.append(" ".join(f"{what}: {error}".split()))

    def _study(self, run: str, record: StudyRecord) -> None:
        """Logs the study's own run, from beginning to end."""
        if not self.reachable and self.mode == "online":
            return
        opened = self._open(run, {"name": self.group}, f"{self.group}: study", JOB)
        try:
            log_study(opened, record, online=self.mode == "online")
        finally:
            self.finishing.submit(self._end, run, opened, _nothing)

    def _open(self, run: str, config: Mapping[str, Any], name: str, job: str | None = None) -> Any:
        if self.mode == "offline":
            # What an attempt left that was broken off; this one is complete.
            for earlier in self.directory.glob(f"wandb/offline-run-*-{run}"):
                shutil.rmtree(earlier, ignore_errors=True)
            return self._init(run, config, name, job)
        try:
            return self._init(run, config, name, job)
        except Exception:
            # Asking again for every run would take hours; the store has what the server lacks.
            self.reachable = False
            raise

    def _address_of(self, run: str) -> dict[str, Any]:
        """The arguments of `wandb.init` that say which run it is, and where.

        For the process of an agent the agent has said so in the environment, and the client
        ignores, with a warning, what it is told otherwise.
        """
        if (sweep := agents_sweep()) is not None:
            return {"group": os.environ.get("WANDB_RUN_GROUP", sweep)}
        place = {"project": self.settings.project, "entity": self.settings.entity}
        return {"id": run, "group": self.group, **place}

    def _init(self, run: str, config: Mapping[str, Any], name: str, job: str | None) -> Any:
        import wandb

        self.directory.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            **self._address_of(run),
            name=name,
            job_type=job,
            config=dict(config),
            dir=self.directory,
            mode=self.mode,  # type: ignore[arg-type]
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                # Each of these takes time per run, and says the same for all runs of a study.
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,
                save_code=False,
                console="off",
                silent=True,
                symlink=False,
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
                finish_timeout_raises=True,
            ),
        )
        if self.mode == "online" and opened.url:
            self.address = opened.url.rpartition("/runs/")[0]
        opened.define_metric("*", step_metric=STEP.name)
        for column in Schema.described(config.get("schema") or {}).directed:
            best = "min" if column.better == "lower" else "max"
            opened.define_metric(column.name, step_metric=STEP.name, summary=f"last,{best}")
        return opened


class _Countdown:
    """Does something at the last of a number of calls, which may come from any thread."""

    def __init__(self, count: int, at_last: Callable[[], None]) -> None:
        self.left = count
        self.at_last = at_last
        self.lock = threading.Lock()

    def __call__(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.at_last()


def _check_upload(opened: Any) -> None:
    """Raises if the client gave up on a server, which it says in its log alone."""
    file = Path(opened.dir).parent / "logs" / "debug-internal.log"
    if FATAL in file.read_text(errors="replace"):
        raise RuntimeError("the server refused some rows")


def _check_disk(directory: Path) -> None:
    """Raises if the disk is all but full: the client does not say what it could not write."""
    if shutil.disk_usage(directory).free < LEAST_FREE:
        raise OSError("the disk is full; what W&B has of it may be cut short")


def _finishing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(FINISHING_AT_ONCE, thread_name_prefix="wandb-finish")


def _nothing() -> None:
    pass


def _log_row(opened: Any, step: int, row: Mapping[str, Any]) -> None:
    """Logs a row under its own step, so that no row is logged again that the server has."""
    import wandb

    if step < opened.starting_step:
        return
    values: dict[str, Any] = {STEP.name: step}
    for key, value in row.items():
        if isinstance(value, list):
            counts, edges = np.asarray(value), np.asarray(HISTOGRAM_EDGES)
            values[key] = wandb.Histogram(np_histogram=(counts, edges))
        elif value is not None:
            values[key] = value
    opened.log(values, step=step, commit=True)
