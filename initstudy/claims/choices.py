"""Claims about a studied variable whose values are choices, such as initializers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED
from initstudy.claims.statistics import Interval, mean_interval
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Better:
    """One choice does better than another, or than each of several.

    The runs of one seed are paired: they saw the same data in the same order.

    Args:
        statement: What is claimed, in words.
        better: The choice that is to win.
        than: The other choice, or several: each of them must lose.
        metric: A column of the summary.
        higher_is_better: Whether large values of the metric are good.
        diverged_as: What a metric that is not finite counts as.
    """

    statement: str
    better: str
    than: str | Sequence[str]
    metric: str = "test/accuracy"
    higher_is_better: bool = True
    diverged_as: float = 0.0

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = f"difference of {self.metric}"
        others = [self.than] if isinstance(self.than, str) else list(self.than)
        winner = self._values(study, facet, self.better)
        weakest: tuple[Interval, str] | None = None
        for other in others:
            loser = self._values(study, facet, other)
            seeds = sorted(winner.keys() & loser.keys())
            if len(seeds) < 2:
                return UNDECIDED, None, unit, f"needs two seeds of {self.better} and of {other}"
            sign = 1 if self.higher_is_better else -1
            interval = mean_interval([sign * (winner[s] - loser[s]) for s in seeds])
            if weakest is None or interval.low < weakest[0].low:
                mean = sum(loser[s] for s in seeds) / len(seeds)
                weakest = interval, f"{other} {mean:.3f}"
        assert weakest is not None
        mean = sum(winner.values()) / len(winner)
        closest = "" if len(others) == 1 else ", the closest of the others"
        detail = f"{self.metric}: {self.better} {mean:.3f}, {weakest[1]}{closest}"
        return (PASS if weakest[0].above_zero else FAIL), weakest[0], unit, detail

    def _values(self, study: Study, facet: str, choice: str) -> dict[int, float]:
        return _by_seed(study, facet, choice, self.metric, self.diverged_as)


@dataclass(frozen=True)
class _Limit:
    """A choice on one side of a limit."""

    statement: str
    choice: str
    limit: float
    metric: str = "test/accuracy"
    diverged_as: float = 0.0

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        values = _by_seed(study, facet, self.choice, self.metric, self.diverged_as)
        if len(values) < 2:
            return UNDECIDED, None, self.metric, f"needs two seeds of {self.choice}"
        interval = mean_interval(list(values.values()))
        detail = f"{self.metric} of {self.choice} is {interval.estimate:.3f}; limit {self.limit:g}"
        return (PASS if self._holds(interval) else FAIL), interval, self.metric, detail

    def _holds(self, interval: Interval) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class AtMost(_Limit):
    """A choice stays at or below a limit, as one that learns nothing stays at chance.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied variable.
        limit: Of the metric; the whole interval must lie on its side.
        metric: A column of the summary.
        diverged_as: What a metric that is not finite counts as.
    """

    def _holds(self, interval: Interval) -> bool:
        return interval.high <= self.limit


@dataclass(frozen=True)
class AtLeast(_Limit):
    """A choice reaches a limit; arguments as `AtMost`."""

    def _holds(self, interval: Interval) -> bool:
        return interval.low >= self.limit


def _by_seed(
    study: Study, facet: str, choice: str, metric: str, diverged_as: float
) -> dict[int, float]:
    chosen = (pl.col("facet") == facet) & (pl.col("by").cast(pl.String) == choice)
    runs = study.runs.filter(chosen)
    value = pl.col(metric).cast(pl.Float64)
    finite = pl.when(value.is_finite()).then(value).otherwise(diverged_as).alias("value")
    return dict(runs.select("seed", finite).iter_rows())
