"""Where packs are trained: `executor=local|slurm|ray`, each the same packs into the same store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.backends.contract import Executor
from initstudy.scheduling.backends.forks import Pool
from initstudy.scheduling.backends.processes import Processes
from initstudy.scheduling.dispatch import Dispatch, take_in
from initstudy.scheduling.execute import Tracker, execute
from initstudy.scheduling.progress import Progress
from initstudy.training import factory
from initstudy.training.group import Pack


@dataclass(frozen=True)
class Place:
    """Where the packs of a sweep are trained.

    Attributes:
        executor: None for this process, one pack after another.
        device: What packs are sized for, and where this process trains them.
        workers: How many packs train at the same time, as far as this machine knows.
        task: What is the same for all packs that are handed over, its pack empty.
    """

    executor: Executor | None
    device: torch.device
    workers: int
    task: jobs.Task

    @property
    def elsewhere(self) -> bool:
        """Whether other machines train: this one's device says nothing of theirs."""
        return self.executor is not None and not isinstance(self.executor, Processes)

    @property
    def forks(self) -> bool:
        """Whether forks of this process may train instead of it."""
        return self.executor is None and self.device.type == "cpu"

    def __str__(self) -> str:
        if self.executor is None:
            side_by_side = f"{self.workers} processes on " if self.workers > 1 else ""
            return f"{side_by_side}{self.device}"
        if isinstance(self.executor, Processes):
            used = sorted(set(self.executor.devices))
            return f"{self.workers} processes on {', '.join(used)}"
        return self.executor.name


def choose(config: Plain) -> Place:
    """The place that a configuration asks for.

    Raises:
        ConfigError: It cannot be had here.
    """
    section = config["executor"]
    folder = str(Path.cwd())
    if section["name"] == "local":
        return _local(section, config["device"], jobs.Task("", (), config["device"], folder))
    executor = _cluster(section)
    # Nodes have what their jobs ask for; this machine need not have it.
    asked = config["device"]
    if asked == "auto":
        asked = "cuda" if section["gpus"] else "cpu"
    device = torch.device("cuda" if asked.startswith("cuda") else "cpu")
    threads = max(1, int(section["cpus"]))
    return Place(executor, device, 1, jobs.Task("", (), asked, folder, threads))


def under_way(place: Place, directory: Path) -> list[jobs.Task]:
    """The packs that an earlier command has handed over and did not take in.

    Raises:
        ConfigError: Another executor's jobs may still train them.
    """
    found = []
    for task in jobs.tasks(directory):
        submission = jobs.read_submission(directory, task.pack)
        done = jobs.read_done(directory, task.pack)
        if done is not None and done.error is None:
            found.append(task)
        elif submission is None or submission.executor != "slurm":
            # It was never submitted, or its worker died with its head.
            jobs.forget(directory, task.pack)
        elif place.executor is not None and place.executor.name == "slurm":
            found.append(task)
        else:
            raise ConfigError(
                f"executor={place.executor.name if place.executor else 'local'}: packs of this "
                f"sweep are with slurm, as job {submission.job}; continue with executor=slurm, or "
                f"scancel them and remove {directory / jobs.FOLDER}"
            )
    return found


def train(
    place: Place,
    packs: Sequence[Pack],
    directory: Path,
    tracker: Tracker,
    progress: Progress,
    pool: Pool,
) -> dict[str, str]:
    """Trains every pack there; see `execute`, whose packs, rows and failures are the same."""
    if place.executor is not None:
        with place.executor:
            return Dispatch(directory, place.executor, place.task, tracker, progress).train(packs)
    failed: dict[str, str] = {}
    done = [pack for pack in packs if jobs.read_done(directory, pack.id)]
    for pack in done:
        failed |= take_in(directory, pack, tracker, progress, before=True)
    left = [pack for pack in packs if pack not in done]
    forks = pool if place.forks else None
    return failed | execute(left, directory, place.device, tracker, progress, forks, place.workers)


def _local(section: Plain, device: str, task: jobs.Task) -> Place:
    chosen = factory.device(device)
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and chosen.type == "cuda" else 0
    workers = section["workers"] or (gpus if gpus > 1 else 0)
    if not workers:
        return Place(None, chosen, 1, task)
    devices = [f"cuda:{place % gpus}" if gpus else str(chosen) for place in range(workers)]
    threads = max(1, torch.get_num_threads() // workers) if chosen.type == "cpu" else None
    shared = replace(task, threads=threads)
    return Place(Processes(devices, section["retries"]), chosen, workers, shared)


def _cluster(section: Plain) -> Executor:
    # Each needs an extra; the other need not be installed.
    if section["name"] == "slurm":
        from initstudy.scheduling.backends.slurm import Slurm

        return Slurm(section)
    from initstudy.scheduling.backends.ray import Ray

    return Ray(section)
