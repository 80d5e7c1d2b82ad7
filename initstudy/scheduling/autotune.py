"""How many runs go into a pack, and how many packs train side by side: measured, and remembered."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from initstudy import __version__
from initstudy.runtime.files import cache, write_atomically

# Seconds of training from which on a better plan is worth a measurement, and the part of them that
# measurements may take.
WORTH_MEASURING = 2.0
SHARE_FOR_MEASURING = 0.1
# What a pack costs before its first step and after its last: models, kernels, files.
SECONDS_A_PACK = 0.05
# What another plan has to gain, so that noise does not choose.
NOTICEABLE = 1.05

# A pack size and a number of workers, and their speed together; 0.0 where they cannot train.
Shape = tuple[int, int]
Rate = Callable[[int, int], float]


@dataclass(frozen=True)
class Choice:
    """A plan for runs of one model.

    Attributes:
        pack_size: Runs a pack, at most.
        workers: Packs that train side by side, each on one thread; 1 for one on all of them.
        rates: Member-steps a second that were measured, by "WORKERSxPACK_SIZE".
    """

    pack_size: int
    workers: int
    rates: Mapping[str, float] = field(default_factory=dict)


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
) -> Choice:
    """The plan that trains soonest, as far as looking for it is worth the time.

    Starts from the guess and from packs of one, which train as a plain loop does, and goes on to
    larger and smaller packs while that helps, on all threads and with a worker for each core.

    Args:
        runs: How many runs there are.
        steps: Of each.
        rate: Measures a pack size and a number of workers, in member-steps a second.
        guess: The pack size to begin with.
        most: The largest pack that the memory holds.
        cores: Workers that can train side by side.
        pack_size: Where it is not to be chosen.
        workers: Likewise.
        clock: Seconds, for what the measurements take.
    """
    begun = clock()
    rates: dict[Shape, float] = {}

    def seconds(shape: Shape) -> float:
        size, side_by_side = shape
        if shape not in rates:
            rates[shape] = rate(size, side_by_side)
        if not rates[shape]:
            return math.inf
        rounds = -(-runs // (size * side_by_side))
        return rounds * (size * side_by_side * steps / rates[shape] + SECONDS_A_PACK)

    def better(one: Shape, other: Shape) -> bool:
        return seconds(one) * NOTICEABLE < seconds(other)

    def climb(side_by_side: int, start: int) -> Shape:
        ladder = sizes(runs, side_by_side, most)
        at = min(range(len(ladder)), key=lambda i: abs(ladder[i] - start))
        best = ladder[at], side_by_side
        for way in (1, -1):
            place = at + way
            while 0 <= place < len(ladder):
                candidate = ladder[place], side_by_side
                if SHARE_FOR_MEASURING * seconds(best) < clock() - begun:
                    return best
                if not better(candidate, best):
                    break
                best, place = candidate, place + way
        return best

    # First side by side, where all that surrounds the steps is shared out as well.
    widths = [workers] if workers else sorted({1, min(cores, runs)}, reverse=True)
    if pack_size is not None:
        plans = [(min(pack_size, runs), width) for width in widths]
    else:
        plans = [climb(width, max(1, min(guess, -(-runs // width), most))) for width in widths]
        plans.append((1, widths[0]))
    if len(set(plans)) > 1 and clock() - begun < SHARE_FOR_MEASURING * min(map(seconds, plans)):
        # Once more each, since what disturbs a trial only ever makes it slower.
        for plan in set(plans):
            rates[plan] = max(rates[plan], rate(*plan))
    best = plans[0]
    for plan in plans[1:]:
        best = plan if better(plan, best) else best
    # What could not be tried, for lack of memory say, may be possible another time.
    found = {f"{width}x{size}": value for (size, width), value in rates.items() if value}
    return Choice(*best, found)


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


class Memory:
    """What was measured on this machine before.

    Args:
        model: What the speed of a step depends on: the model, its input, the batch, the optimizer.
        device: Where it trains.
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
        found = self._all().get(self.key)
        rates = found.items() if isinstance(found, dict) else ()
        return {name: rate for name, rate in rates if isinstance(rate, float) and rate > 0}

    def remember(self, rates: Mapping[str, float]) -> None:
        """Adds rates. A cache that cannot be written is none, and no error."""
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
