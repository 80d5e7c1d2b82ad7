"""What the coordinator and the jobs of a cluster tell each other, as JSON files.

    DIR/jobs/PACK.json           coordinator: the pack, its runs with their configurations
    DIR/jobs/PACK.job.json       coordinator: the job that has it
    DIR/jobs/PACK.started.json   job: how often the pack has started, and how far it is
    DIR/jobs/PACK.done.json      job: where the store has the results, and which runs failed

Each file has one writer and appears under its name only when it is complete. The coordinator
removes the files of a pack when it has taken the results in, so what lies there after a kill is
what was under way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from initstudy.config import Run
from initstudy.runtime.files import write_atomically
from initstudy.store import StoreError

FOLDER = "jobs"
TASK, JOB, STARTED, DONE = ".json", ".job.json", ".started.json", ".done.json"


@dataclass(frozen=True)
class Task:
    """A pack, and what a job needs to know besides.

    Attributes:
        pack: The id of the pack.
        runs: Its runs; what they share the job works out for itself.
        device: The device as the configuration names it; "auto" is for the job to decide.
        folder: Where the command was given: relative paths and users' modules start there.
        threads: The threads of torch on a CPU; None leaves their number to torch.
    """

    pack: str
    runs: tuple[Run, ...]
    device: str
    folder: str
    threads: int | None = None


@dataclass(frozen=True)
class Submission:
    """Which job has a pack.

    Attributes:
        backend: The name of the backend.
        outlives: Whether the job goes on when the coordinator has ended.
        name: The name of all jobs of one submission, written down before they are submitted.
        index: The index of the job among them.
        job: The id of the job; None until the backend has answered.
    """

    backend: str
    outlives: bool
    name: str
    index: int
    job: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a pack is, as its job says now and then.

    Attributes:
        times: How often the pack has started.
        resumed: The steps after which runs went on from a checkpoint, by run id.
        steps: The steps that are done, by run id.
        losses: The last training loss of each run, by run id.
    """

    times: int = 0
    resumed: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a pack ended.

    Attributes:
        stored: The ids under which the store has it; several if it was halved.
        failed: Why runs of it failed, by their labels.
        error: What the machine of the job lacked, so that none of this counts; None if nothing.
    """

    stored: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


class Status(NamedTuple):
    """The packs that have started, and those that are done, by id."""

    started: set[str]
    done: set[str]


def write_task(directory: Path, task: Task) -> None:
    """Hands a pack over; a job can read it from then on."""
    _write(directory, task.pack, TASK, task)


def read_task(directory: Path, pack: str) -> Task | None:
    """The task of a pack; None if nobody waits for it any more."""
    record = _read(_file(directory, pack, TASK))
    if record is None:
        return None
    listed = record.pop("runs")
    tuples = ("overrides", "swept")
    runs = tuple(Run(**{**run, **{key: tuple(run[key]) for key in tuples}}) for run in listed)
    return Task(runs=runs, **record)


def tasks(directory: Path) -> Iterator[Task]:
    """The packs that were handed over and not taken in yet."""
    for name in sorted(_names(directory)):
        pack = name.removesuffix(TASK)
        if name == f"{pack}{TASK}" and "." not in pack and (task := read_task(directory, pack)):
            yield task


def write_submission(directory: Path, pack: str, submission: Submission) -> None:
    """Records which job has a pack."""
    _write(directory, pack, JOB, submission)


def read_submission(directory: Path, pack: str) -> Submission | None:
    """Which job has a pack; None if it was never submitted."""
    record = _read(_file(directory, pack, JOB))
    return None if record is None else Submission(**record)


def write_progress(directory: Path, pack: str, progress: Progress) -> None:
    """Tells that a pack trains, and how far it is; called by its job."""
    _write(directory, pack, STARTED, progress)


def read_progress(directory: Path, pack: str) -> Progress:
    """How far a pack is, as its job said last."""
    return Progress(**(_read(_file(directory, pack, STARTED)) or {}))


def write_done(directory: Path, pack: str, done: Done) -> None:
    """Tells that a pack has ended, after the store has its results; called by its job."""
    _write(directory, pack, DONE, done)


def read_done(directory: Path, pack: str) -> Done | None:
    """How a pack ended; None if it has not."""
    record = _read(_file(directory, pack, DONE))
    return None if record is None else Done(**{**record, "stored": tuple(record["stored"])})


def list_status(directory: Path) -> Status:
    """Which packs have started and which are done, from a single listing of the folder."""
    names = _names(directory)
    started = {name.removesuffix(STARTED) for name in names if name.endswith(STARTED)}
    return Status(started, {name.removesuffix(DONE) for name in names if name.endswith(DONE)})


def clear(directory: Path, pack: str) -> None:
    """Removes what a lost job has said of a pack."""
    for kind in (STARTED, DONE):
        _file(directory, pack, kind).unlink(missing_ok=True)


def forget(directory: Path, pack: str) -> None:
    """Removes all records of a pack: nobody waits for it any more."""
    # The task goes first: without it a kill in between leaves nothing that looks under way.
    for kind in (TASK, JOB, STARTED, DONE):
        _file(directory, pack, kind).unlink(missing_ok=True)


def _file(directory: Path, pack: str, kind: str) -> Path:
    return directory / FOLDER / f"{pack}{kind}"


def _write(
    directory: Path, pack: str, kind: str, record: Task | Submission | Progress | Done
) -> None:
    file = _file(directory, pack, kind)
    text = json.dumps(dataclasses.asdict(record), default=str)
    try:
        write_atomically(file, lambda partial: partial.write_text(text))
    except OSError as error:
        raise StoreError(f"dir={file.parent}: cannot be written: {error.strerror}") from error


def _names(directory: Path) -> list[str]:
    folder = directory / FOLDER
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def _read(file: Path) -> dict[str, Any] | None:
    """A record; one that is damaged counts as none, and its pack is handed over anew."""
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
