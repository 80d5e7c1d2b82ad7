"""Claims about a studied key whose values are choices, such as initializers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import polars as pl

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.statistics import Interval, mean_interval
from initstudy.claims.worse_than_best import is_higher_better
from initstudy.store.frames import Study, finite_or


@dataclass(frozen=True)
class Better:
    """One choice does better than another, or than each of several.

    The runs of one seed are paired: they saw the same data in the same order.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choice, or several, each of which must lose.
        metric: A column of the summary; None for the study's objective.
        higher_is_better: Whether large values of the metric are good; None for what the study's
            schema says of it.
        diverged_as: What a metric that is not finite counts as.

    Example:
        >>> from initstudy.claims import Better, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> Better("He's beats Xavier's.", better="he", than="xavier").check(study, "MLP").detail
        'test/accuracy: he 0.900, xavier 0.600'
    """

    statement: str
    better: str
    than: str | Sequence[str]
    metric: str | None = None
    higher_is_better: bool | None = None
    diverged_as: float = 0.0

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        unit = f"difference of {metric}"
        others = [self.than] if isinstance(self.than, str) else list(self.than)
        values = {
            choice: _by_seed(study, facet, choice, metric, self.diverged_as)
            for choice in (self.better, *others)
        }
        winner = values[self.better]
        weakest: tuple[Interval, str] | None = None
        for other in others:
            loser = values[other]
            seeds = sorted(winner.keys() & loser.keys())
            if lacking := shortfall((2, len(seeds), f"seeds of both {self.better} and {other}")):
                return Finding.undecided(unit, lacking)
            sign = 1 if is_higher_better(study, metric, self.higher_is_better) else -1
            interval = mean_interval([sign * (winner[s] - loser[s]) for s in seeds])
            if weakest is None or interval.low < weakest[0].low:
                weakest = interval, f"{other} {fmean(loser[s] for s in seeds):.3f}"
        assert weakest is not None
        interval, shown = weakest
        closest = "" if len(others) == 1 else ", the closest of the others"
        detail = f"{metric}: {self.better} {fmean(winner.values()):.3f}, {shown}{closest}"
        return Finding.decided(interval.above_zero, interval, unit, detail)


@dataclass(frozen=True)
class _Limit:
    """A choice stays on one side of a limit."""

    statement: str
    choice: str
    limit: float
    metric: str | None = None
    diverged_as: float = 0.0

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        values = _by_seed(study, facet, self.choice, metric, self.diverged_as)
        if lacking := shortfall((2, len(values), f"seeds of {self.choice}")):
            return Finding.undecided(metric, lacking)
        interval = mean_interval(list(values.values()))
        detail = f"{metric} of {self.choice} is {interval.estimate:.3f}; limit {self.limit:g}"
        return Finding.decided(self._holds(interval), interval, metric, detail)

    def _holds(self, interval: Interval) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class AtMost(_Limit):
    """A choice stays at or below a limit, as one that learns nothing stays at chance.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        limit: The limit of the metric; the whole interval must lie on its side.
        metric: A column of the summary; None for the study's objective.
        diverged_as: What a metric that is not finite counts as.

    Example:
        >>> from initstudy.claims import AtMost, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> AtMost("Xavier's stays at chance.", "xavier", limit=0.12).check(study, "MLP").verdict
        'FAIL'
    """

    def _holds(self, interval: Interval) -> bool:
        return interval.high <= self.limit


@dataclass(frozen=True)
class AtLeast(_Limit):
    """A choice reaches a limit; the arguments are those of `AtMost`.

    Example:
        >>> from initstudy.claims import AtLeast, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> AtLeast("He's learns.", "he", limit=0.8).check(study, "MLP").verdict
        'PASS'
    """

    def _holds(self, interval: Interval) -> bool:
        return interval.low >= self.limit


def _by_seed(
    study: Study, facet: str, choice: str, metric: str, diverged_as: float
) -> dict[int, float]:
    runs = study.runs_of(facet).filter(pl.col("by").cast(pl.String) == choice)
    value = finite_or(metric, diverged_as).alias("value")
    return dict(runs.select("seed", value).iter_rows())
