"""Claims about how a measure goes along the second studied key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED, WorseThanBest
from initstudy.claims.statistics import Interval, mean_interval, slope
from initstudy.store.cells import cells, is_lower_better, points
from initstudy.store.frames import LEARNING_TIME, Study

Found = tuple[str, Interval | None, str, str]


@dataclass(frozen=True)
class Trend:
    """How fast a measure changes along the second key, for one choice.

    For each seed: the slope of ln(measure) against ln(second key), which is the exponent of a power
    law. A run that never reached the criterion counts with all the steps it had, a lower bound.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied variable.
        low, high: The whole interval must lie between them.
        metric: A column of the runs.
    """

    statement: str
    choice: Any
    low: float = -math.inf
    high: float = math.inf
    metric: str = LEARNING_TIME

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = f"exponent of {self.metric} in {study.across}"
        found = _points(study, facet, self.metric).get(self.choice, {})
        seeds = _common_seeds(found)
        if len(found) < 2 or len(seeds) < 2:
            return UNDECIDED, None, unit, _lacks(f"two values, two seeds of {self.choice}")
        x = np.log([float(value) for value in found])
        slopes = [float(slope(x, np.log([found[a][s] for a in found]))) for s in seeds]
        interval = mean_interval(slopes)
        first, last = (found[a] for a in (min(found), max(found)))
        detail = (
            f"{self.metric} of {self.choice} is {_mean(first):.4g} at {study.across} "
            f"{min(found):g} and {_mean(last):.4g} at {max(found):g}"
        )
        holds = self.low <= interval.low and interval.high <= self.high
        return (PASS if holds else FAIL), interval, unit, detail


@dataclass(frozen=True)
class BetterAt:
    """One choice does better than another at the largest value of the second key, or at another.

    The runs of one seed are paired. Learning times and losses are compared as ratios, by their
    logarithms, and the smaller one is the better.

    Args:
        statement: What is claimed, in words.
        better: The choice that is to win.
        than: The other choice.
        metric: A column of the runs.
        at: Value of the second key; None for the largest.
    """

    statement: str
    better: Any
    than: Any
    metric: str = LEARNING_TIME
    at: float | None = None

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        lower = is_lower_better(self.metric)
        unit = f"ln of the ratio of {self.metric}" if lower else f"difference of {self.metric}"
        found = _points(study, facet, self.metric)
        winner, loser = (found.get(choice, {}) for choice in (self.better, self.than))
        values = sorted(winner.keys() & loser.keys())
        at = values[-1] if self.at is None and values else (self.at or math.nan)
        seeds = sorted(winner.get(at, {}).keys() & loser.get(at, {}).keys())
        if len(seeds) < 2:
            return UNDECIDED, None, unit, _lacks(f"two seeds of {self.better} and of {self.than}")
        pairs = [(winner[at][s], loser[at][s]) for s in seeds]
        gains = [math.log(b / a) if lower else a - b for a, b in pairs]
        interval = mean_interval(gains)
        detail = (
            f"{self.metric} at {study.across} {at:g}: {self.better} {_mean(winner[at]):.4g}, "
            f"{self.than} {_mean(loser[at]):.4g}"
        )
        return (PASS if interval.above_zero else FAIL), interval, unit, detail


@dataclass(frozen=True)
class Within:
    """A measure of one choice lies between two limits at a value of the second key.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied variable.
        low, high: The whole interval must lie between them.
        metric: A column of the runs.
        at: Value of the second key; None for the largest.
    """

    statement: str
    choice: Any
    low: float = -math.inf
    high: float = math.inf
    metric: str = "test/accuracy"
    at: float | None = None

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        found = _points(study, facet, self.metric).get(self.choice, {})
        at = max(found) if self.at is None and found else (self.at or math.nan)
        values = list(found.get(at, {}).values())
        if len(values) < 2:
            return UNDECIDED, None, self.metric, _lacks(f"two seeds of {self.choice}")
        interval = mean_interval(values)
        detail = f"{self.metric} of {self.choice} at {study.across} {at:g}: {interval.estimate:.4g}"
        holds = self.low <= interval.low and interval.high <= self.high
        return (PASS if holds else FAIL), interval, self.metric, detail


@dataclass(frozen=True)
class StillWorse(WorseThanBest):
    """`WorseThanBest` where every value may take the second key that suits it best.

    Which value of the second key that is, the other seeds decide.
    """

    def _table(self, study: Study, facet: str) -> pl.DataFrame:
        found = cells(_at_best(study), facet, self.metric)
        value = pl.col("value").clip(1e-12).log10() if self.log else pl.col("value")
        table = found.with_columns(value).pivot(on="seed", index="by", values="value")
        return table.select([c for c in table.columns if table[c].null_count() == 0]).sort("by")


@dataclass(frozen=True)
class BetterAtBest:
    """One choice does better than others, each at the value of the second key that suits it best.

    Which value that is, the other seeds decide; the runs of one seed are paired.

    Args:
        statement: What is claimed, in words.
        better: The choice that is to win.
        than: The other choices: each of them must lose.
        metric: A column of the runs.
    """

    statement: str
    better: Any
    than: Sequence[Any]
    metric: str = "test/accuracy"

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = f"difference of {self.metric}"
        if study.across is None:
            return UNDECIDED, None, unit, _lacks("values")
        found = {by: row[0.0] for by, row in points(_at_best(study), facet, self.metric).items()}
        seeds = _common_seeds({c: found.get(c, {}) for c in (self.better, *self.than)})
        if len(seeds) < 2:
            return UNDECIDED, None, unit, _lacks("two seeds of every choice")
        sign = -1 if is_lower_better(self.metric) else 1
        intervals = {
            other: mean_interval([sign * (found[self.better][s] - found[other][s]) for s in seeds])
            for other in self.than
        }
        closest = min(intervals, key=lambda other: intervals[other].low)
        shown = ", ".join(f"{c} {_mean(found[c]):.3f}" for c in (self.better, *self.than))
        detail = f"{self.metric} at the best {study.across} of each: {shown}"
        holds = intervals[closest].above_zero
        return (PASS if holds else FAIL), intervals[closest], f"{unit} to {closest}", detail


@dataclass(frozen=True)
class Narrows:
    """The range of values that train gets narrower along the second key.

    For each seed and value of the second key: how many decades lie between the smallest and the
    largest value of the studied variable whose runs reach the limit (none counts as zero decades).
    Then the slope of that range against ln(second key).

    Args:
        statement: What is claimed, in words.
        metric: A column of the runs.
        limit: What counts as trained.
    """

    statement: str
    metric: str = "test/accuracy"
    limit: float = 0.9

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = f"decades of {study.label} an e-fold of {study.across}"
        found = _points(study, facet, self.metric) if study.numeric else {}
        across = sorted(set.intersection(*({*v} for v in found.values()))) if found else []
        if len(found) < 2 or len(across) < 2:
            return UNDECIDED, None, unit, _lacks("two values of both keys")
        seeds = _common_seeds({(b, a): found[b][a] for b in found for a in across})
        if len(seeds) < 2:
            return UNDECIDED, None, unit, _lacks("two seeds")
        ranges = {a: [self._decades(found, a, s) for s in seeds] for a in across}
        if not any(any(values) for values in ranges.values()):
            why = f"no cell reaches {self.metric} {self.limit:g}: the grid holds none that trains"
            return UNDECIDED, None, unit, why
        x = np.log([float(a) for a in across])
        slopes = slope(x, np.array([ranges[a] for a in across]).T).tolist()
        interval = mean_interval(slopes)
        shown = ", ".join(f"{float(np.mean(ranges[a])):.2g} at {a:g}" for a in across)
        return (PASS if interval.below_zero else FAIL), interval, unit, f"decades: {shown}"

    def _decades(self, found: dict, across: float, seed: int) -> float:
        good = [by for by in found if found[by][across][seed] >= self.limit]
        return math.log10(max(good) / min(good)) if good else 0.0


@dataclass(frozen=True)
class BestAcross:
    """How the best value of the second key moves with the studied variable.

    For each seed: which value of the second key is best at each studied value, and the slope of its
    logarithm against the logarithm of the studied value.

    Args:
        statement: What is claimed, in words.
        low, high: The whole interval must lie between them.
        metric: A column of the runs.
    """

    statement: str
    low: float = -math.inf
    high: float = math.inf
    metric: str = "train/loss"

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = f"exponent of the best {study.across} in {study.label}"
        found = _points(study, facet, self.metric) if study.numeric else {}
        seeds = _common_seeds({(b, a): v for b, row in found.items() for a, v in row.items()})
        if len(found) < 2 or len(seeds) < 2:
            return UNDECIDED, None, unit, _lacks("two values, two seeds")
        best = {by: [self._best(row, seed) for seed in seeds] for by, row in sorted(found.items())}
        x = np.log(list(best))
        slopes = [float(slope(x, np.log([best[by][i] for by in best]))) for i in range(len(seeds))]
        interval = mean_interval(slopes)
        shown = ", ".join(
            f"{float(np.exp(np.mean(np.log(values)))):.2g} at {by:g}" for by, values in best.items()
        )
        holds = self.low <= interval.low and interval.high <= self.high
        return (PASS if holds else FAIL), interval, unit, f"best {study.across}: {shown}"

    def _best(self, row: dict[float, dict[int, float]], seed: int) -> float:
        pick = min if is_lower_better(self.metric) else max
        return pick(row, key=lambda across: row[across][seed])


def _points(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    return {} if study.across is None else points(study, facet, metric)


def _at_best(study: Study) -> Study:
    """The study with its second key tuned, as if there were only one value of it."""
    runs = study.runs.with_columns(pl.col("across").alias("tune"), pl.lit(0.0).alias("across"))
    return replace(study, runs=runs, tune=study.across)


def _common_seeds(found: dict[Any, dict[int, float]]) -> list[int]:
    return sorted(set.intersection(*({*values} for values in found.values()))) if found else []


def _mean(values: dict[int, float]) -> float:
    return sum(values.values()) / len(values)


def _lacks(what: str) -> str:
    return f"needs {what} along a second key"
