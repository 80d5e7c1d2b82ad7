"""A short paired comparison of ways to start one model: which of them trains?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from initstudy.api import given
from initstudy.api.compose import composed
from initstudy.api.options import forget, register
from initstudy.claims.statistics import Interval, mean_interval
from initstudy.config.command_line import Grid
from initstudy.store import load

STEPS, SEEDS = 300, 5
LOSS, DIVERGED = "train/loss", "diverged_step"
# A model trains if its loss ends below that of guessing by this share of it.
LEARNED = 0.1


@dataclass(frozen=True)
class Arm:
    """How one way to start a model did.

    Attributes:
        name: Its name.
        loss: The mean loss at the end over the seeds that did not diverge, with its interval; None
            if all diverged.
        gain: By how much the loss ends below that of the first arm, paired by seed; None for the
            first arm, or if no seed is left in both.
        diverged: How many seeds diverged.
        trains: Whether the interval of the loss lies below that of guessing, and none diverged.
    """

    name: str
    loss: Interval | None
    gain: Interval | None
    diverged: int
    trains: bool

    def __str__(self) -> str:
        verdict = "trains" if self.trains else "does not train"
        lost = f", {self.diverged} diverged" if self.diverged else ""
        if self.loss is None:
            return f"{self.name}: {verdict}{lost}"
        gain = "" if self.gain is None else f", {_text(self.gain)} below the first"
        return f"{self.name}: {verdict}, loss {_text(self.loss)}{gain}{lost}"


def trial(
    words: Sequence[str],
    arms: Mapping[str, Any],
    guessing: float,
    *,
    steps: int = STEPS,
    seeds: int = SEEDS,
) -> list[Arm]:
    """Trains one model from several starts, with the same seeds and batches, in one pack.

    Args:
        words: The overrides of a command, without those of `init`.
        arms: The initializations by name: sections of the configuration, initializers or policies.
        guessing: The loss of a model that ignores its inputs.
        steps: How long to train.
        seeds: How many seeds.

    Raises:
        ConfigError: The configuration is not valid.

    Example:
        >>> from initstudy.api.trial import trial
        >>> from initstudy.initializers import Constant, KaimingNormal
        >>> arms = {"ones": Constant(1.0), "he": KaimingNormal()}
        >>> words = ["model=mlp", "data.subset=200"]
        >>> ones, he = trial(words, arms, 2.3, steps=40, seeds=2)  # doctest: +ELLIPSIS
        /...
        >>> ones.trains, he.name
        (False, 'he')
    """
    from initstudy.scheduling.study import study as train

    names = {name: f"arm_{i}" for i, name in enumerate(arms)}
    with TemporaryDirectory(prefix="initstudy_trial_") as folder:
        try:
            for name, value in arms.items():
                register("init", names[name], given.as_section("init", value))
            grid = composed(
                [
                    *words,
                    f"init={','.join(names.values())}",
                    f"seed={','.join(map(str, range(seeds)))}",
                    f"max_steps={steps}",
                    "tracking=off",
                    "probes=off",
                    "by=init",
                    f"planner.pack_size={len(names) * seeds}",
                    "planner.workers=1",
                    f"dir={folder}",
                    "name=trial",
                ]
            )
        finally:
            forget()
        trained = train(grid.runs, grid.config, grid.directory, command="--try", report=False)
        losses = _losses(grid, trained.ids)
    return _arms(names, losses, guessing, seeds)


def _losses(grid: Grid, ids: Mapping[str, str]) -> dict[tuple[str, int], float]:
    """The last training loss by the arm's choice and the seed; NaN of a run that diverged.

    Args:
        grid: The runs.
        ids: Their ids in the store.
    """
    stored = load(grid.directory).runs
    if DIVERGED not in stored.columns:
        stored = stored.with_columns(pl.lit(None).alias(DIVERGED))
    rows = {row["run"]: row for row in stored.select("run", LOSS, DIVERGED).to_dicts()}
    found = {}
    for run in grid.runs:
        row = rows.get(ids[run.id])
        lost = row is None or row[DIVERGED] is not None or row[LOSS] is None
        value = math.nan if lost or row is None else float(row[LOSS])
        found[run.choices["init"], int(run.config["seed"])] = value
    return found


def _arms(
    names: Mapping[str, str],
    losses: Mapping[tuple[str, int], float],
    guessing: float,
    seeds: int,
) -> list[Arm]:
    first = next(iter(names.values()))
    found = []
    for name, choice in names.items():
        values = [losses[choice, seed] for seed in range(seeds)]
        known = [value for value in values if math.isfinite(value)]
        pairs = [
            losses[first, seed] - losses[choice, seed]
            for seed in range(seeds)
            if math.isfinite(losses[first, seed]) and math.isfinite(losses[choice, seed])
        ]
        loss = mean_interval(known) if known else None
        gain = mean_interval(pairs) if pairs and choice != first else None
        diverged = len(values) - len(known)
        high = math.inf if loss is None else max(loss.high, loss.estimate)
        trains = not diverged and high < (1 - LEARNED) * guessing
        found.append(Arm(name, loss, gain, diverged, trains))
    return found


def _text(interval: Interval) -> str:
    return f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
