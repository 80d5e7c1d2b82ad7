"""How many runs go into a pack, and how many packs train side by side: measured, and remembered.

For each group of runs an `Autotuner` decides by trials of the real model (`choose`), unless the
configuration or an earlier command of the same study has decided, or the training is too short to
be worth a trial. What was measured is remembered for the next study on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from initstudy import __version__
from initstudy.config import Plain
from initstudy.runtime import memory
from initstudy.runtime.files import cache, write_atomically
from initstudy.scheduling.packing import split, suited
from initstudy.tasks.batches import batches_apart
from initstudy.training.config import order_seeds
from initstudy.training.group import Pack, RunGroup, Size
from initstudy.training.pack import speed, warm_up

log = logging.getLogger(__name__)

# The seconds of training from which on a better plan is worth a trial, and the fraction of the
# training that trials may take.
WORTH_MEASURING = 2.0
SHARE_FOR_MEASURING = 0.1
# What a pack costs before its first step and after its last: models, kernels, files.
SECONDS_PER_PACK = 0.05
# The factor by which another plan has to be faster, so that noise does not choose.
NOTICEABLE = 1.05

# A training takes roughly this long, which says whether it is worth a trial: floating-point
# operations per second, seconds per float of activations, and seconds per step.
OPERATIONS = 2e10
SECONDS_PER_FLOAT = 5e-9
SECONDS_PER_STEP = 1e-4
# Of an activation there are its input, its output and their gradients at once; of a parameter its
# gradient, the optimizer's two, and a copy of them all.
COPIES_OF_ACTIVATIONS, COPIES_OF_PARAMETERS = 6, 8
SHARE_OF_MEMORY = 0.5

# A pack size and a number of workers; and their speed together, 0.0 if they cannot train.
Shape = tuple[int, int]
Rate = Callable[[int, int], float]


@dataclass(frozen=True)
class Plan:
    """How the runs of one group are spread.

    Attributes:
        pack_size: The most runs per pack.
        workers: How many packs train side by side, each on one thread; with 1, a pack has them all.
        rates: The measured member-steps per second, by "WORKERSxPACK_SIZE".
    """

    pack_size: int
    workers: int
    rates: Mapping[str, float] = field(default_factory=dict)


class Pool(Protocol):
    """Processes that train side by side.

    Attributes:
        forks: Whether they start at once, so that several are worth a trial.
    """

    forks: bool

    def speed(self, pack: Pack, count: int) -> float:
        """Member-steps per second of `count` processes that all train such a pack."""
        ...


class Autotuner:
    """Chooses a plan for each group of runs.

    Args:
        section: The configuration's section `planner`.
        device: The device on which packs will train.
        pool: Processes that may train side by side; None if this process alone trains, or others.
        workers: How many packs will train at the same time, if that is settled.
        recorded: What an earlier command chose for the same study, by the key of the group.
        trying: Whether plans may be tried; otherwise only what is remembered decides.
    """

    def __init__(
        self,
        section: Plain,
        device: torch.device,
        pool: Pool | None,
        workers: int,
        recorded: Mapping[str, Mapping[str, Any]],
        *,
        trying: bool = True,
    ) -> None:
        self.asked_size: int | None = section["pack_size"]
        self.asked_workers: int | None = section["workers"]
        self.timing = section["timing"]
        self.device = device
        self.pool = pool
        self.workers = workers
        self.settled = pool is None
        self.recorded = recorded
        self.trying = trying
        self.plans: dict[str, Plan] = {}

    def plan(self, groups: Iterable[RunGroup]) -> None:
        """Chooses for each group; first for the one that takes longest, whose workers all get."""
        groups = list(groups)
        if self.trying and self.pool is not None and self.device.type == "cpu":
            # One group is enough, since the same code serves all that have it.
            any(warm_up(group) for group in groups)
        for group in sorted(groups, key=rough_seconds, reverse=True):
            plan = self._choose(group)
            self.workers, self.settled = plan.workers, True
            self.plans[group.key] = plan

    def pack_size(self, group: RunGroup) -> int:
        """The most runs per pack of a group that has a plan."""
        return self.plans[group.key].pack_size

    def measured(self, group: RunGroup) -> dict[str, float]:
        """What is known of the speed of a group that has a plan, by "WORKERSxPACK_SIZE".

        Returns:
            Member-steps per second, measured for this study or remembered from others.
        """
        return {**Timings(decisive(group), self.device).recall(), **self.plans[group.key].rates}

    def seconds(self, group: RunGroup, runs: int) -> tuple[float, bool]:
        """What the training of some of a group's runs takes by its plan.

        Args:
            group: The group, which has a plan.
            runs: How many of its runs are trained.

        Returns:
            The seconds, and whether they follow from a measured speed; otherwise they are a rough
            estimate from the size of the model.
        """
        plan = self.plans[group.key]
        size = min(plan.pack_size, runs)
        rate = self.measured(group).get(f"{plan.workers}x{plan.pack_size}")
        if rate is None:
            share = runs / len(group.runs)
            return rough_seconds(group) * share / min(plan.workers, -(-runs // size)), False
        return expected_seconds(runs, group.schedule.steps, (size, plan.workers), rate), True

    def record(self) -> dict[str, Any]:
        """What was chosen and measured, for the store."""
        return {**self.recorded, **{key: asdict(plan) for key, plan in self.plans.items()}}

    def _choose(self, group: RunGroup) -> Plan:
        workers = self.workers if self.settled else self.asked_workers
        most = self._most(group.size)
        guess = min(suited(group.size, self.device), most)
        before = self.recorded.get(group.key)
        if before and self.asked_size is None and self.asked_workers is None:
            settled = self.workers if self.settled else before["workers"]
            return Plan(before["pack_size"], settled, before["rates"])
        if self.asked_size and workers:
            return Plan(self.asked_size, workers)
        share = -(-len(group.runs) // (workers or 1))
        untried = Plan(self.asked_size or max(1, min(share, guess)), workers or 1)
        if not self.worth_trying(group):
            return untried
        timings = Timings(decisive(group), self.device)
        known = {} if self.timing == "anew" else timings.recall()
        plan = choose(
            len(group.runs),
            group.schedule.steps,
            self._rate(group, known),
            guess=guess,
            most=most,
            cores=self._cores(),
            pack_size=self.asked_size,
            workers=workers,
        )
        if self.trying:
            timings.remember(plan.rates)
        return plan if plan.rates else untried

    def worth_trying(self, group: RunGroup) -> bool:
        """Whether plans for a group are tried, unless the configuration or the study has one."""
        possible = self.timing != "off" and self.pool is not None
        return possible and len(group.runs) > 1 and rough_seconds(group) >= WORTH_MEASURING

    def _rate(self, group: RunGroup, known: Mapping[str, float]) -> Rate:
        """What measures a pack size and a number of workers, or remembers them."""

        def rate(size: int, workers: int) -> float:
            if f"{workers}x{size}" in known:
                return known[f"{workers}x{size}"]
            if not self.trying:
                return 0.0
            # The pack that takes longest decides when all are done: the one with the most batches.
            part = max(split(group.runs, size), key=lambda part: batches_apart(order_seeds(part)))
            pack = Pack(group, tuple(part))
            try:
                if workers == 1:
                    return speed(pack, self.device)
                assert self.pool is not None
                return self.pool.speed(pack, workers)
            except Exception as error:
                # A plan that cannot be tried, for lack of memory perhaps, is not chosen.
                log.info("%d runs on %d workers cannot train: %s", size, workers, error)
                return 0.0

        return rate

    def _cores(self) -> int:
        side_by_side = self.device.type == "cpu" and self.pool is not None and self.pool.forks
        return torch.get_num_threads() if side_by_side else 1

    def _most(self, size: Size) -> int:
        """How many runs the memory holds, beside as many of each other worker."""
        floats = COPIES_OF_PARAMETERS * size.parameters + COPIES_OF_ACTIVATIONS * size.activations
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                # Other machines have it; a pack that does not fit there is halved.
                return sys.maxsize
            free, _ = torch.cuda.mem_get_info(self.device)
        else:
            free = memory.available() // (self.asked_workers or self._cores())
        return max(1, int(SHARE_OF_MEMORY * free / (4 * floats)))


def rough_seconds(group: RunGroup) -> float:
    """What the training of a group takes on one core, as far as its size alone tells."""
    operations = 6 * group.config.batch_size * group.size.parameters
    step = operations / OPERATIONS + SECONDS_PER_FLOAT * group.size.activations
    return len(group.runs) * group.schedule.steps * (step + SECONDS_PER_STEP)


def choose(
    runs: int,
    steps: int,
    rate: Rate,
    *,
    guess: int,
    most: int,
    cores: int,
    pack_size: int | None = None,
    workers: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """The plan that trains soonest, as far as looking for it is worth the time.

    Starts from the guess and from packs of one, which train as a plain loop does, and goes on to
    larger and smaller packs while that helps, on all threads and with one worker per core.

    Args:
        runs: How many runs there are.
        steps: How many steps each of them takes.
        rate: Measures a pack size and a number of workers, in member-steps per second.
        guess: The pack size to begin with.
        most: The largest pack that the memory holds.
        cores: How many workers can train side by side.
        pack_size: The pack size, if it is not to be chosen.
        workers: The number of workers, if it is not to be chosen.
        clock: Gives the seconds by which the cost of the measurements is counted.
    """
    trials = _Trials(runs, steps, most, rate, clock)
    # First side by side, where all that surrounds the steps is shared out as well.
    widths = [workers] if workers else sorted({1, min(cores, runs)}, reverse=True)
    if pack_size is not None:
        plans = [(min(pack_size, runs), width) for width in widths]
    else:
        starts = {width: max(1, min(guess, -(-runs // width), most)) for width in widths}
        plans = [*(trials.climb(width, starts[width]) for width in widths), (1, widths[0])]
    if len(set(plans)) > 1 and trials.worth_another(min(map(trials.seconds, plans))):
        # Once more each, since what disturbs a trial only ever makes it slower.
        for plan in set(plans):
            trials.rates[plan] = max(trials.rates[plan], rate(*plan))
    best = plans[0]
    for plan in plans[1:]:
        best = plan if trials.better(plan, best) else best
    # What could not be tried, for lack of memory perhaps, may be possible another time.
    rates = {f"{width}x{size}": value for (size, width), value in trials.rates.items() if value}
    return Plan(*best, rates)


class _Trials:
    """The plans that were tried, as far as that is worth the time.

    Args:
        runs: How many runs there are.
        steps: How many steps each of them takes.
        most: The largest pack that the memory holds.
        rate: Measures a plan.
        clock: Gives the seconds by which the cost of the measurements is counted.

    Attributes:
        rates: What was measured.
    """

    def __init__(
        self, runs: int, steps: int, most: int, rate: Rate, clock: Callable[[], float]
    ) -> None:
        self.runs, self.steps, self.most, self.rate, self.clock = runs, steps, most, rate, clock
        self.begun = clock()
        self.rates: dict[Shape, float] = {}

    def seconds(self, plan: Shape) -> float:
        """What training takes by a plan, which is tried at the first call."""
        if plan not in self.rates:
            self.rates[plan] = self.rate(*plan)
        return expected_seconds(self.runs, self.steps, plan, self.rates[plan])

    def better(self, one: Shape, other: Shape) -> bool:
        """Whether one plan is noticeably faster than the other."""
        return self.seconds(one) * NOTICEABLE < self.seconds(other)

    def worth_another(self, seconds: float) -> bool:
        """Whether another trial is worth its time if the training takes so long."""
        return self.clock() - self.begun < SHARE_FOR_MEASURING * seconds

    def climb(self, workers: int, start: int) -> Shape:
        """The best plan that neighbouring pack sizes lead to from a start, for so many workers."""
        ladder = sizes(self.runs, workers, self.most)
        nearest = min(range(len(ladder)), key=lambda i: abs(ladder[i] - start))
        best = ladder[nearest], workers
        for direction in (1, -1):
            index = nearest + direction
            while 0 <= index < len(ladder):
                candidate = ladder[index], workers
                if not self.worth_another(self.seconds(best)):
                    return best
                if not self.better(candidate, best):
                    break
                best, index = candidate, index + direction
        return best


def expected_seconds(runs: int, steps: int, shape: Shape, rate: float) -> float:
    """What the training of some runs takes.

    Args:
        runs: How many runs there are.
        steps: How many steps each of them takes.
        shape: The pack size and the number of workers.
        rate: Their member-steps per second together.

    Returns:
        Seconds, with the work before and after the steps of each pack; infinite at rate 0.
    """
    if not rate:
        return math.inf
    size, workers = shape
    rounds = -(-runs // (size * workers))
    return rounds * (size * workers * steps / rate + SECONDS_PER_PACK)


def sizes(runs: int, workers: int, most: int) -> list[int]:
    """Pack sizes that keep all workers at work to the end, from one run up."""
    found = {1}
    rounds = 1
    while rounds * workers <= 2 * runs:
        size = -(-runs // (rounds * workers))
        if size <= most:
            found.add(size)
        rounds = rounds + 1 if rounds < 4 else rounds * 2
    return sorted(found)


def decisive(group: RunGroup) -> dict[str, object]:
    """What decides the speed of a group's steps, as far as it is not the machine's."""
    return {
        "model": group.config.model,
        "input": group.data.shape,
        "classes": group.data.classes,
        "batch": group.config.batch_size,
        "optimizer": group.config.optimizer.target or group.config.optimizer.name,
        "clipped": any(run.config["clip_norm"] is not None for run in group.runs),
        "precision": group.config.precision,
    }


class Timings:
    """What was measured on this machine before.

    Args:
        model: What decides the speed of a step: the model, its input, the batch, the optimizer.
        device: The device on which it trains.
    """

    def __init__(self, model: Mapping[str, object], device: torch.device) -> None:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        facts = {
            **model,
            "device": where,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "initstudy": __version__,
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.file = cache() / "planner.json"

    def recall(self) -> dict[str, float]:
        """The rates by "WORKERSxPACK_SIZE"."""
        known = self._all().get(self.key)
        rates = known.items() if isinstance(known, dict) else ()
        return {name: rate for name, rate in rates if isinstance(rate, float) and rate > 0}

    def remember(self, rates: Mapping[str, float]) -> None:
        """Adds rates. A cache that cannot be written is no error; it stays as it was."""
        known = self._all()
        known[self.key] = {**self.recall(), **rates}
        text = json.dumps(known, indent=1)
        try:
            write_atomically(self.file, lambda partial: partial.write_text(text))
        except OSError:
            return

    def _all(self) -> dict[str, Any]:
        try:
            known = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
