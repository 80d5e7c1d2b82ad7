"""What one choice reaches at one value of the second key, alone or against another choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.second_key import mean, values_of, without_second_key
from initstudy.claims.statistics import mean_interval
from initstudy.columns import LEARNING_TIME
from initstudy.store.frames import Study


@dataclass(frozen=True)
class BetterAt:
    """One choice does better than another at the largest value of the second key, or at another.

    The runs of one seed are paired. Learning times and losses are compared as ratios, by their
    logarithms, and the smaller one is the better.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choice.
        metric: A column of the runs.
        at: The value of the second key; None for the largest.

    Example:
        >>> from initstudy.claims import BetterAt, synthetic_study
        >>> def results(init, depth, seed):
        ...     return {"learning_time": 100 if init == "orthogonal" else 100 * depth}
        >>> grid = {"init": ["orthogonal", "gaussian"], "model.depth": [2, 8, 32]}
        >>> study = synthetic_study(grid, results)
        >>> claim = BetterAt("Orthogonal ones learn sooner.", "orthogonal", "gaussian")
        >>> claim.check(study, "MLP").detail
        'learning_time at model.depth 32: orthogonal 100, gaussian 3200'
    """

    statement: str
    better: Any
    than: Any
    metric: str = LEARNING_TIME.name
    at: float | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        lower = study.is_lower_better(self.metric)
        unit = f"ln of the ratio of {self.metric}" if lower else f"difference of {self.metric}"
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, self.metric)
        winner, loser = (values.get(choice, {}) for choice in (self.better, self.than))
        common = winner.keys() & loser.keys()
        at = max(common, default=math.nan) if self.at is None else self.at
        seeds = sorted(winner.get(at, {}).keys() & loser.get(at, {}).keys())
        if lacking := shortfall((2, len(seeds), f"seeds of both {self.better} and {self.than}")):
            return Finding.undecided(unit, lacking)
        pairs = [(winner[at][s], loser[at][s]) for s in seeds]
        gains = [math.log(b / a) if lower else a - b for a, b in pairs]
        interval = mean_interval(gains)
        detail = (
            f"{self.metric} at {study.across} {at:g}: {self.better} {mean(winner[at]):.4g}, "
            f"{self.than} {mean(loser[at]):.4g}"
        )
        return Finding.decided(interval.above_zero, interval, unit, detail)


@dataclass(frozen=True)
class Within:
    """A metric of one choice lies between two limits at a value of the second key.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        low, high: The limits between which the whole interval must lie.
        metric: A column of the runs; None for the study's objective.
        at: The value of the second key; None for the largest.

    Example:
        >>> from initstudy.claims import Within, synthetic_study
        >>> def results(init, depth, seed):
        ...     return {"learning_time": 100 if init == "orthogonal" else 100 * depth}
        >>> grid = {"init": ["orthogonal", "gaussian"], "model.depth": [2, 8, 32]}
        >>> study = synthetic_study(grid, results)
        >>> claim = Within("A deep one takes long.", "gaussian", low=3000, metric="learning_time")
        >>> claim.check(study, "MLP").verdict
        'PASS'
    """

    statement: str
    choice: Any
    low: float = -math.inf
    high: float = math.inf
    metric: str | None = None
    at: float | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        if study.across is None:
            return without_second_key(metric)
        values = values_of(study, facet, metric).get(self.choice, {})
        at = max(values, default=math.nan) if self.at is None else self.at
        here = list(values.get(at, {}).values())
        if lacking := shortfall((2, len(here), f"seeds of {self.choice}")):
            return Finding.undecided(metric, lacking)
        interval = mean_interval(here)
        detail = f"{metric} of {self.choice} at {study.across} {at:g}: {interval.estimate:.4g}"
        holds = self.low <= interval.low and interval.high <= self.high
        return Finding.decided(holds, interval, metric, detail)
