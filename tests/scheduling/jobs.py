"""Small packs, and a cluster that trains a job when it is asked how the job is."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console

from initstudy.config import Run, identity
from initstudy.scheduling.backends.cluster import Cluster, JobEnd
from initstudy.scheduling.backends.contract import RefusedError
from initstudy.scheduling.backends.job import work
from initstudy.scheduling.progress import Progress
from initstudy.scheduling.recorder import Recorder
from initstudy.scheduling.scheduler import Scheduler
from initstudy.tracking import Settings, Tracker
from initstudy.training.group import Pack, prepare

CPU = torch.device("cpu")
CONFIG = """
    model: {_target_: initstudy.models.MLP, width: 4, depth: 1, activation: relu, layer_norm: false}
    init: {_target_: initstudy.initializers.Normal, std: 0.1}
    data: {_target_: initstudy.tasks.digits, subset: 40, validation: null}
    loss: {_target_: initstudy.tasks.losses.by_targets}
    metrics: {}
    objective: null
    output: null
    seeds: {init: null, order: null, split: null}
    optimizer: {name: sgd, lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0,
                base_width: null}
    probes: {preset: "off", every: 20}
    checkpoint: {every: null}
    executor: {name: local, gpus: 0, cpus: 1}
    epochs: 1
    max_steps: 2
    batch_size: 16
    schedule: {name: constant}
    clip_norm: null
    decay: all
    precision: highest
    log_every: 1
    eval_every: 2
    save_weights: none
    device: cpu
"""


def configuration() -> dict:
    return OmegaConf.to_container(OmegaConf.create(CONFIG))


def single_runs(count: int) -> list[Pack]:
    """Packs of one run each, by their seeds."""
    runs = []
    for seed in range(count):
        config = configuration() | {"seed": seed}
        runs.append(Run(config, (f"seed={seed}",), identity(config)))
    (group,) = prepare(runs, CPU)
    return [Pack(group, (run,)) for run in runs]


def all_in_one(packs: list[Pack]) -> Pack:
    return Pack(packs[0].group, tuple(run for pack in packs for run in pack.runs))


class Stingy(Cluster):
    """Takes so many jobs at a time, and trains a job when it is asked how it is.

    Args:
        directory: The directory of the study.
        takes: How many jobs it holds.
        end: How each job ends, besides what it has written.
    """

    name = "stingy"
    outlives_coordinator = False
    seconds = 0.0
    packs_per_job = 1
    jobs_at_once = 2

    def __init__(self, directory: Path, takes: int = 9, end: JobEnd | None = None) -> None:
        super().__init__(configuration(), directory)
        self.takes = takes
        self.end = end or JobEnd("nothing is wrong")
        self.going: dict[str, list[str]] = {}
        self.submitted: list[str] = []
        self.cancelled: list[str] = []

    def start_jobs(self, groups, name):
        if len(self.going) + len(groups) > self.takes:
            raise RefusedError(f"no more than {self.takes} jobs")
        jobs = [f"{name}_{index}" for index in range(len(groups))]
        self.submitted += [pack for group in groups for pack in group]
        self.going |= dict(zip(jobs, map(list, groups), strict=True))
        return jobs

    def find_job(self, name, index):
        return None

    def ended_jobs(self, jobs):
        for job in sorted(jobs & self.going.keys()):
            self.train(self.going.pop(job))
        return dict.fromkeys(jobs, self.end)

    def train(self, packs):
        work(self.directory, packs)

    def cancel_job(self, job):
        self.cancelled.append(job)

    def close(self):
        pass


def train(backend: Cluster, packs: list[Pack], retries: int = 2, **earlier) -> dict[str, str]:
    """Why runs failed."""
    count = len(packs)
    directory = backend.directory
    tracker = Tracker(Settings(mode="off"), directory, "group")
    with Progress(Console(file=io.StringIO()), directory, count, 2 * count, count) as progress:
        recorder = Recorder(directory, CPU, tracker, progress)
        return Scheduler(backend, recorder, retries).run(packs, **earlier)
