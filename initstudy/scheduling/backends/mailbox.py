"""Packs that other processes train: what the head and its workers tell each other, as JSON.

    DIR/jobs/PACK.json         head: the pack, its runs with their configurations
    DIR/jobs/PACK.job.json     head: the job that has it
    DIR/jobs/PACK.begun.json   worker: how often it began, and the steps done so far
    DIR/jobs/PACK.done.json    worker: it ended, with these runs failed

Results go to the store. Every file has one writer and appears whole; the head removes them when it
has taken the pack in, so what lies there after a kill is what was under way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from initstudy.config import Run
from initstudy.runtime.files import write_atomically
from initstudy.store import StoreError

FOLDER = "jobs"
TASK, JOB, BEGUN, DONE = ".json", ".job.json", ".begun.json", ".done.json"


@dataclass(frozen=True)
class Task:
    """A pack and what a worker needs to know beside it.

    Attributes:
        pack: The pack's id.
        runs: The pack's runs; what they share a worker works out for itself.
        device: As in the configuration; "auto" is for the worker to decide.
        folder: Where the command was given: relative paths and users' modules start there.
        threads: Of torch on a CPU; None leaves it to torch.
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
        executor: Its name.
        name: Of all jobs that were submitted together, written before they were.
        index: Its place among them.
        job: Its id; None until the executor has answered.
        attempt: How many submissions of the pack were lost before this one.
    """

    executor: str
    name: str
    index: int
    job: str | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Begun:
    """A worker's sign of life.

    Attributes:
        times: How often the pack began.
        resumed: The steps after which runs went on from a checkpoint, by run.
        steps: Those that are done, by run.
        losses: The last of each run.
    """

    times: int = 0
    resumed: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """How a pack ended: why runs failed, by label, or why none of it could be tried."""

    failed: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def write_task(directory: Path, task: Task) -> None:
    """Hands a pack over; a worker can read it from then on."""
    _write(directory, task.pack, TASK, task)


def read_task(directory: Path, pack: str) -> Task | None:
    """The pack of this id; None where nobody waits for it any more."""
    record = _read(_file(directory, pack, TASK))
    if record is None:
        return None
    runs = record.pop("runs")
    made = tuple(Run(**{**run, "overrides": tuple(run["overrides"])}) for run in runs)
    return Task(runs=made, **record)


def tasks(directory: Path) -> Iterator[Task]:
    """The packs that were handed over and not taken in yet."""
    for name in sorted(_names(directory)):
        pack = name.removesuffix(TASK)
        if name == f"{pack}{TASK}" and "." not in pack and (task := read_task(directory, pack)):
            yield task


def write_submission(directory: Path, pack: str, submission: Submission) -> None:
    """Records which job has the pack."""
    _write(directory, pack, JOB, submission)


def read_submission(directory: Path, pack: str) -> Submission | None:
    """Which job has the pack; None where it was never submitted."""
    record = _read(_file(directory, pack, JOB))
    return None if record is None else Submission(**record)


def write_begun(directory: Path, pack: str, begun: Begun) -> None:
    """A worker says that it trains the pack, and how far it is."""
    _write(directory, pack, BEGUN, begun)


def read_begun(directory: Path, pack: str) -> Begun:
    """How far the pack is, as its worker last said."""
    return Begun(**(_read(_file(directory, pack, BEGUN)) or {}))


def write_done(directory: Path, pack: str, done: Done) -> None:
    """A worker says that the pack has ended; its results lie in the store."""
    _write(directory, pack, DONE, done)


def read_done(directory: Path, pack: str) -> Done | None:
    """How the pack ended; None where it has not."""
    record = _read(_file(directory, pack, DONE))
    return None if record is None else Done(**record)


def heard(directory: Path) -> tuple[set[str], set[str]]:
    """The packs that have begun, and those that are done; one look at the directory."""
    names = _names(directory)
    begun = {name.removesuffix(BEGUN) for name in names if name.endswith(BEGUN)}
    return begun, {name.removesuffix(DONE) for name in names if name.endswith(DONE)}


def clear_signs(directory: Path, pack: str) -> None:
    """Removes what a lost worker said of the pack."""
    for kind in (BEGUN, DONE):
        _file(directory, pack, kind).unlink(missing_ok=True)


def forget(directory: Path, pack: str) -> None:
    """Removes all records of the pack: nobody waits for it any more."""
    # The task goes first: without it a kill in between leaves nothing that looks under way.
    for kind in (TASK, JOB, BEGUN, DONE):
        _file(directory, pack, kind).unlink(missing_ok=True)


def _file(directory: Path, pack: str, kind: str) -> Path:
    return directory / FOLDER / f"{pack}{kind}"


def _write(directory: Path, pack: str, kind: str, record: Task | Submission | Begun | Done) -> None:
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
