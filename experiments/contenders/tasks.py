"""The work of every contender: the same models, from the same weights, on the same batches."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.config import geomspace
from initstudy.initializers import Normal, as_policy, initialize
from initstudy.models import CNN, LSTM, MLP
from initstudy.tasks import Batches, Data
from initstudy.tasks.images import load

LR, MOMENTUM = 0.01, 0.9
# No run diverges between these, so that every contender does the same work.
LOWEST, HIGHEST = 0.02, 0.1
# Steps between two rows of the training loss, and between two measurements of probes.
LOG_EVERY = 20
# Test images per evaluation batch: the activations of ten thousand do not fit any cache.
CHUNK = 500


@dataclass(frozen=True)
class Task:
    """One row of the benchmark.

    Attributes:
        title: The heading of the row.
        data: The name of the data set.
        model: The name of the model in `conf/model`.
        kind: The class of the model.
        options: The arguments of that class, which are also keys of the configuration.
        batch: The number of examples per step.
        steps: The number of steps per run at scale 1, a multiple of `eval_every`.
        eval_every: The number of steps between two evaluations on the test set.
    """

    title: str
    data: str
    model: str
    kind: type[nn.Module]
    batch: int
    steps: int
    eval_every: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)


NARROW = {"depth": 2, "width": 64}
WIDE = {"depth": 2, "width": 256}
CHANNELS = {"channels": [16, 32]}
TASKS = {
    "mlp_digits": Task(
        "MLP 64-64-64-10, digits, batch 64", "digits", "mlp", MLP, 64, 2400, 100, NARROW
    ),
    "mlp_mnist": Task(
        "MLP 784-64-64-10, MNIST, batch 64", "mnist", "mlp", MLP, 64, 1000, 200, NARROW
    ),
    "mlp_mnist_wide": Task(
        "MLP 784-256-256-10, MNIST, batch 128", "mnist", "mlp", MLP, 128, 300, 100, WIDE
    ),
    "cnn_digits": Task(
        "CNN 16, 32 channels, digits, batch 64", "digits", "cnn", CNN, 64, 200, 100, CHANNELS
    ),
    "cnn_mnist": Task(
        "CNN 16, 32 channels, MNIST, batch 64", "mnist", "cnn", CNN, 64, 20, 20, CHANNELS
    ),
    "lstm_digits": Task("LSTM of 64 units, digits, batch 32", "digits", "lstm", LSTM, 32, 200, 100),
}


@dataclass(frozen=True)
class Work:
    """What a contender is asked to do.

    Attributes:
        name: The name of the task.
        steps: The number of steps per run.
        stds: The standard deviations of the initial weights; each trains with every seed.
        seeds: The seeds, for the weights and for the order of the data.
        root: The folder of torchvision's data sets.
        device: The device to train on.
    """

    name: str
    steps: int
    stds: tuple[float, ...]
    seeds: tuple[int, ...]
    root: str
    device: str

    @property
    def task(self) -> Task:
        """The row of the benchmark."""
        return TASKS[self.name]

    @property
    def runs(self) -> list[tuple[float, int]]:
        """The standard deviation and seed of each run, in the order of Hydra's sweeps."""
        return [(std, seed) for std in self.stds for seed in self.seeds]

    @property
    def member_steps(self) -> int:
        """The number of updates of all runs together."""
        return self.steps * len(self.stds) * len(self.seeds)

    @property
    def eval_every(self) -> int:
        """The number of steps between two evaluations; the first is before the first step."""
        return min(self.task.eval_every, self.steps)

    @property
    def evaluations(self) -> int:
        """The number of evaluations per run."""
        return 1 + self.steps // self.eval_every


@dataclass(frozen=True)
class Problem:
    """The data of some work, on its device.

    Attributes:
        data: The data set as `initstudy` has it, on the CPU.
        train_x, train_y: Normalized images and labels for training.
        test_x, test_y: Normalized images and labels for testing.
        order: The indices of the examples of each step, `[steps, batch]`, by seed.
    """

    data: Data
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    order: dict[int, Tensor]


def steps_at(task: Task, scale: float) -> int:
    """The steps of a task at a scale, rounded to whole intervals of logging and evaluation."""
    wanted = task.steps * scale
    unit = task.eval_every if wanted >= task.eval_every else LOG_EVERY
    return max(unit, unit * round(wanted / unit))


def deviations(count: int) -> tuple[float, ...]:
    """The given number of standard deviations, evenly spaced on a log scale."""
    if count == 1:
        return (HIGHEST,)
    return tuple(float(std) for std in geomspace(LOWEST, HIGHEST, count).split(","))


def prepare(work: Work) -> Problem:
    """Loads the data and draws the order of the batches."""
    data = load(work.task.data, work.root, download=False)
    on_device = data.to(work.device)
    order = {seed: _order(data, seed, work).to(work.device) for seed in work.seeds}
    return Problem(
        data,
        on_device.normalize(on_device.train.x),
        on_device.train.y,
        on_device.normalize(on_device.test.x),
        on_device.test.y,
        order,
    )


def _order(data: Data, seed: int, work: Work) -> Tensor:
    """The indices of the examples of initstudy's batches, read off labels that are indices."""
    count = len(data.train)
    numbers = (torch.zeros(count, 1), torch.arange(count))
    numbered = Data(train=numbers, test=numbers)
    batches = Batches(numbered, [seed], work.task.batch)
    return torch.stack([batches(step)[1][0] for step in range(work.steps)])


def build(work: Work, data: Data, std: float, seed: int) -> nn.Module:
    """A run's model with its initial weights."""
    model = work.task.kind(data.shape, data.classes, **work.task.options)
    return initialize(model, as_policy(Normal(std)), seed=seed).to(work.device)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that all contenders share."""
    arguments = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    arguments.add_argument("task", choices=TASKS)
    arguments.add_argument("--steps", type=int)
    arguments.add_argument("--stds", type=int, default=14, help="number of standard deviations")
    arguments.add_argument("--seeds", type=int, default=3, help="number of seeds")
    arguments.add_argument("--data", type=Path, default=Path("data"))
    arguments.add_argument("--device", default="cpu")
    return arguments


def work_of(given: argparse.Namespace) -> Work:
    """What the command line asks for."""
    steps = given.steps or TASKS[given.task].steps
    seeds = tuple(range(given.seeds))
    root = str(given.data.resolve())
    return Work(given.task, steps, deviations(given.stds), seeds, root, given.device)


class Clock:
    """Seconds of a block, from and to moments at which the device is idle."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self, device: str) -> Iterator[None]:
        """Times its block."""
        synchronize(device)
        begun = time.perf_counter()
        yield
        synchronize(device)
        self.seconds = time.perf_counter() - begun


def synchronize(device: str) -> None:
    """Waits for a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def say(work: Work, seconds: float, losses: Sequence[float], **more: Any) -> None:
    """Prints a contender's result as one line of JSON.

    Args:
        work: The work that was done.
        seconds: The seconds of training.
        losses: The mean training losses over the last `LOG_EVERY` steps, in the order of
            `work.runs`.
        more: Further entries of the result.
    """
    rate = work.member_steps / seconds
    told = {"rate": rate, "seconds": seconds, "losses": list(losses), **more}
    print(json.dumps(told), flush=True)
