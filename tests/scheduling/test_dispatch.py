"""The head's part, with an executor that trains in the head's own process but is hard to please."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from initstudy.scheduling.dispatch import Dispatch
from omegaconf import OmegaConf
from rich.console import Console

from initstudy import store
from initstudy.config import ConfigError, Run, identity
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.backends.contract import End, RefusedError
from initstudy.scheduling.backends.worker import Silent, work
from initstudy.scheduling.progress import Progress
from initstudy.training.group import Pack, prepare

CONFIG = """
    model: {_target_: initstudy.models.MLP, width: 4, depth: 1, activation: relu, layer_norm: false}
    init: {_target_: initstudy.initializers.Normal, std: 0.1}
    data: {name: digits, root: data, download: false, subset: 40}
    optimizer: {name: sgd, lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0,
                base_width: null}
    probes: {preset: "off", every: 20}
    checkpoint: {every: null}
    executor: {name: local}
    epochs: 1
    max_steps: 2
    batch_size: 16
    log_every: 1
    eval_every: 2
    save_weights: none
    device: cpu
"""


def packs(count: int) -> list[Pack]:
    runs = []
    for seed in range(count):
        config = OmegaConf.to_container(OmegaConf.create(CONFIG)) | {"seed": seed}
        runs.append(Run(config, (f"seed={seed}",), identity(config)))
    (group,) = prepare(runs, torch.device("cpu"))
    return [Pack(group, (run,)) for run in runs]


def all_in_one(work_on: list[Pack]) -> Pack:
    return Pack(work_on[0].group, tuple(run for pack in work_on for run in pack.runs))


class Stingy:
    """Takes so many jobs at a time, and trains a job when it is asked how it is."""

    name = "stingy"
    outlives_head = False
    seconds = 0.0
    packs_per_job = 1
    jobs_at_once = 2

    def __init__(self, takes: int, end: End | None = None, retries: int = 2) -> None:
        self.takes = takes
        self.end = end or End("nothing is wrong")
        self.retries = retries
        self.held: dict[str, str] = {}
        self.submitted: list[str] = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, directory, groups, name):
        if len(self.held) + len(groups) > self.takes:
            raise RefusedError(f"no more than {self.takes} jobs")
        self.directory = directory
        ids = [f"job{len(self.submitted) + place}" for place in range(len(groups))]
        self.submitted += [pack for (pack,) in groups]
        self.held |= {job: pack for job, (pack,) in zip(ids, groups, strict=True)}
        return ids

    def find(self, name, index):
        return None

    def ended(self, held):
        for job in sorted(held & self.held.keys()):
            self.train(self.held.pop(job))
        return dict.fromkeys(held, self.end)

    def train(self, pack):
        work(self.directory, [pack])

    def cancel(self, job):
        pass


class Losing(Stingy):
    """Its jobs come to nothing."""

    def train(self, pack):
        jobs.write_begun(self.directory, pack, jobs.Begun(1))


def train(directory: Path, executor: Stingy, work_on: list[Pack], folder: str = "."):
    task = jobs.Task("", (), "cpu", str(Path(folder).absolute()))
    count = len(work_on)
    with Progress(Console(file=io.StringIO()), directory, count, 2 * count, count) as progress:
        return Dispatch(directory, executor, task, Silent(), progress).train(work_on)


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_what_is_refused_for_now_waits_until_the_others_are_through(tmp_path):
    executor = Stingy(takes=2)
    work_on = packs(5)
    assert train(tmp_path, executor, work_on) == {}
    assert sorted(executor.submitted) == sorted(pack.id for pack in work_on)
    assert sorted(store.load(tmp_path).runs["seed"]) == [0, 1, 2, 3, 4]
    assert not list((tmp_path / "jobs").iterdir())


def test_what_is_refused_from_the_start_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no more than 1 jobs"):
        train(tmp_path, Stingy(takes=1), packs(2))
    assert not list(jobs.tasks(tmp_path))


def test_a_machine_that_lacks_something_is_no_fault_of_a_run(tmp_path):
    """Tried again as often as is allowed, never halved, and the machine's words are the reason."""
    whole = all_in_one(packs(4))
    executor = Stingy(takes=9)
    failed = train(tmp_path, executor, [whole], folder="nowhere")
    assert executor.submitted == [whole.id] * 3
    assert len(failed) == 4
    assert all("No such file or directory" in reason for reason in failed.values())
    assert len(store.failures(tmp_path)) == 4


@pytest.mark.parametrize(
    ("verdict", "submissions"),
    [
        # Three attempts at the four, at each two, and at each one.
        ("count", 3 * 7),
        ("halve", 7),
    ],
)
def test_a_pack_that_is_lost_time_and_again_is_halved(tmp_path, verdict, submissions):
    whole = all_in_one(packs(4))
    executor = Losing(takes=9, end=End("died", verdict))
    assert len(train(tmp_path, executor, [whole])) == 4
    assert len(executor.submitted) == submissions


def test_a_machine_that_goes_away_is_counted_against_nobody(tmp_path):
    executor = Stingy(takes=9, end=End("pre-empted", "again"), retries=0)
    train_for_real, preempted = executor.train, []

    def train_at_the_sixth(pack):
        preempted.append(pack)
        if len(preempted) > 5:
            train_for_real(pack)

    executor.train = train_at_the_sixth
    assert train(tmp_path, executor, packs(1)) == {}
    assert len(executor.submitted) == 6
    assert len(store.load(tmp_path).runs) == 1
